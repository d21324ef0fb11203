"""Tasks of every form, and what is refused: one clear sentence each."""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evaluation.errors import EvaluationError
from evaluation.prompts import PROMPT_SETS, check_names, load_templates
from evaluation.retrieval import RetrievalTask
from evaluation.tasks import EvalTask, RawOptions, is_raw, open_task, with_different_names
from evaluation.zero_shot import ZeroShotTask
from memory_builder.errors import CorpusError
from models.encoder import Encoder


def quiet(*_: object) -> None:
    """Hear no progress."""


NO_ENCODER = RawOptions(None, quiet)


@pytest.fixture
def save(tmp_path: Path, factory: Any) -> Callable[..., Path]:
    """Write task.npz of a small classification, with changes; None leaves an array out."""

    def write(**changes: Any) -> Path:
        arrays = {
            "image": factory.unit_rows(6, 16, 1).astype(np.float16),
            "text": factory.unit_rows(3, 16, 2),
            "label": np.array([0, 1, 2, 0, 1, 2], dtype=np.int32),
            **changes,
        }
        np.savez(tmp_path / "task.npz", **{name: array for name, array in arrays.items() if array is not None})
        return tmp_path / "task.npz"

    return write


def test_a_classification_of_arrays(save: Callable[..., Path]) -> None:
    task = open_task(save(class_name=np.array(["a", "b", "c"])), None, NO_ENCODER)
    assert task.kind == "zero-shot"
    assert isinstance(task.task, ZeroShotTask)
    assert list(task.text_names) == ["a", "b", "c"]
    np.testing.assert_allclose(np.linalg.norm(task.task.images, axis=1), 1, atol=1e-6)
    again = open_task(save(class_name=np.array(["a", "b", "c"])), None, NO_ENCODER)
    assert task.digest == again.digest
    assert task.digest != open_task(save(class_name=np.array(["a", "b", "d"])), None, NO_ENCODER).digest
    assert task.digest != open_task(save(label=np.array([0, 1, 2, 0, 1, 1])), None, NO_ENCODER).digest


def test_classes_without_names_have_none_that_captions_could_mention(save: Callable[..., Path]) -> None:
    """A caption may well say "class 2"."""
    task = open_task(save(), None, NO_ENCODER)
    assert list(task.text_names) == ["", "", ""]
    assert task.shown_names == ["class 0", "class 1", "class 2"] and task.image_names[4] == "image 4: class 1"


@pytest.mark.parametrize("length", [1e-30, 1e25, 1e300])
def test_embeddings_may_have_any_length(save: Callable[..., Path], factory: Any, length: float) -> None:
    rows = factory.unit_rows(6, 16, 1).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = open_task(save(image=rows * length), None, NO_ENCODER)
    np.testing.assert_allclose(task.task.images, rows, rtol=1e-6)


def test_a_file_may_have_any_name(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save().rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\x1b\xff.npz")))
    assert open_task(path, None, NO_ENCODER).name == "t \\xff"


def test_entities_of_arrays(save: Callable[..., Path]) -> None:
    task = open_task(save(unseen_class=np.array([2])), None, NO_ENCODER)
    assert task.kind == "entities"
    np.testing.assert_array_equal(task.seen, [True, True, False])
    partly = open_task(save(unseen_class=np.array([2]), train_class=np.array([0])), None, NO_ENCODER)
    np.testing.assert_array_equal(partly.seen, [True, False, False])
    assert open_task(save(unseen_class=np.array([2])), "zero-shot", NO_ENCODER).kind == "zero-shot"


def test_a_retrieval_of_arrays(save: Callable[..., Path], factory: Any) -> None:
    several = open_task(save(label=None, pair=np.array([5, 5, 0])), None, NO_ENCODER)
    assert isinstance(several.task, RetrievalTask)
    np.testing.assert_array_equal(several.task.image_of_text, [5, 5, 0])
    rows = open_task(
        save(label=None, text=factory.unit_rows(6, 16, 3), caption=np.array(list("abcdef"))), None, NO_ENCODER
    )
    np.testing.assert_array_equal(rows.task.image_of_text, range(6))
    assert list(rows.text_names) == list("abcdef")


def test_names_are_shown_whatever_is_in_them(save: Callable[..., Path]) -> None:
    """A name of a file that is no UTF-8, and one that a terminal would obey."""
    names = np.array(["caf\udce9", "a \x1b[31mred\x07 bird", "Grünfink 🐦"])
    shown = open_task(save(class_name=names), None, NO_ENCODER).text_names
    assert list(shown) == ["caf\\xe9", "a  [31mred  bird", "Grünfink 🐦"]
    captions = open_task(save(label=None, pair=np.array([0, 1, 2]), caption=names), None, NO_ENCODER)
    assert list(captions.text_names) == list(shown)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"image": None}, "no `image`"),
        ({"text": None}, "no `text`"),
        ({"image": np.full((6, 16), np.nan, dtype=np.float32)}, "not finite"),
        ({"text": np.zeros((3, 16), dtype=np.float32)}, "zero"),
        ({"image": np.zeros((6, 16), dtype=np.int64)}, "float type"),
        ({"image": np.zeros(16, dtype=np.float32)}, "float type"),
        ({"text": np.ones((3, 8), dtype=np.float32)}, "D = 8"),
        ({"text": np.ones((1, 16), dtype=np.float32), "label": np.zeros(6, dtype=int)}, "1 class:"),
        ({"text": np.ones((0, 16), dtype=np.float32)}, "float type"),
        ({"label": np.array([0, 1, 2, 0, 1, 3])}, "label 3"),
        ({"label": np.array([0, -1, 2, 0, 1, 1])}, "label -1"),
        ({"label": np.array([0, 1, 2, 0, 1, 1 << 63], dtype=np.uint64)}, "9223372036854775808"),
        ({"label": np.array([0, 1])}, "6 whole numbers"),
        ({"label": np.zeros(6)}, "whole numbers"),
        ({"class_name": np.array(["a", "b"])}, "3 texts"),
        ({"class_name": np.array(["a", "b", None], dtype=object)}, "pickles are never loaded"),
        ({"unseen_class": np.array([3])}, "outside its 3"),
        ({"unseen_class": np.array([1]), "seen_class": np.array([0, 1])}, "both seen and unseen"),
        ({"unseen_class": np.array([0, 1, 2])}, "a seen entity"),
        ({"unseen_class": np.array([], dtype=int)}, "an unseen entity"),
        ({"label": None}, "no `pair`"),
        ({"label": None, "pair": np.array([0, 1, 6])}, "outside its 6"),
        ({"label": None, "pair": np.array([0, 1])}, "3 whole numbers"),
    ],
)
def test_arrays_that_contradict_themselves_are_refused(
    changes: dict[str, Any], word: str, save: Callable[..., Path]
) -> None:
    with pytest.raises(EvaluationError, match=word) as refused:
        open_task(save(**changes), None, NO_ENCODER)
    assert refused.value.code == "task_invalid"
    assert "\n" not in refused.value.message


def test_what_is_no_npz_and_what_is_no_task_is_refused(tmp_path: Path, save: Callable[..., Path]) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not a zip")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(save().read_bytes()[:300])
    np.save(tmp_path / "alone.npy", np.zeros(3))
    for name, code in (
        ("bad.npz", "task_invalid"),
        ("cut.npz", "task_invalid"),
        ("array.npz", "task_invalid"),
        ("alone.npy", "task_unknown"),
        ("nowhere", "task_not_found"),
    ):
        with pytest.raises(EvaluationError) as refused:
            open_task(tmp_path / name, None, NO_ENCODER)
        assert refused.value.code == code
    for kind in ("entities", "zero-shot"):
        with pytest.raises(EvaluationError) as refused:
            open_task(save(label=None, pair=np.array([0, 1, 2])), kind, NO_ENCODER)  # type: ignore[arg-type]
        assert refused.value.code == "task_kind"
    with pytest.raises(EvaluationError, match="unseen_class"):
        open_task(save(), "entities", NO_ENCODER)


@pytest.fixture
def shards(tmp_path: Path, factory: Any) -> Path:
    """A folder as clip-retrieval writes it: two files a side, the second one short."""
    root = tmp_path / "cached"
    for name in ("img_emb", "text_emb", "metadata"):
        (root / name).mkdir(parents=True)
    for number, rows in ((0, 5), (1, 3)):
        np.save(root / f"img_emb/img_emb_{number}.npy", factory.unit_rows(rows, 16, number).astype(np.float16))
        np.save(root / f"text_emb/text_emb_{number}.npy", factory.unit_rows(rows, 16, 9 + number).astype(np.float16))
        captions = [f"caption {number} {row}" for row in range(rows)]
        captions[1:2] = [None] if number else captions[1:2]
        table = pa.table(
            {"caption": pa.array(captions, pa.string()), "image_path": [f"{number}/{r}.jpg" for r in range(rows)]}
        )
        pq.write_table(table, root / f"metadata/metadata_{number}.parquet")
    return root


def test_the_folder_of_clip_retrieval_is_a_retrieval(shards: Path) -> None:
    assert not is_raw(shards)
    task = open_task(shards, None, NO_ENCODER)
    assert isinstance(task.task, RetrievalTask)
    assert len(task.task.images) == 7
    assert task.rejected == {"missing_caption": 1}
    assert task.text_names[5] == "caption 1 0"
    first = np.load(shards / "img_emb/img_emb_0.npy").astype(np.float32)
    np.testing.assert_allclose(task.task.images[:5], first, atol=1e-3)
    with pytest.raises(EvaluationError, match="only be a retrieval"):
        open_task(shards, "zero-shot", NO_ENCODER)
    shutil.rmtree(shards / "text_emb")
    with pytest.raises(CorpusError):
        open_task(shards, None, NO_ENCODER)


def write_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = tuple(int(c) for c in np.random.default_rng(seed).integers(0, 256, 3))
    image = Image.new("RGB", (72, 64), colour)
    image.paste((255 - colour[0], colour[2], 90), (seed % 30, 10, 60, 40))
    image.save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders, one of them nested, with a file that is no image and one that only looks like one."""
    root = tmp_path / "birds"
    for number, name in enumerate(("a_small_bird", "duck", "duck/deeper", "parrot")):
        for seed in range(3):
            write_picture(root / name / f"{seed}.png", 10 * number + seed)
    (root / "duck" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (root / "duck" / "README").write_text("about ducks")
    (root / "README.txt").write_text("about birds")
    (root / "duck" / "classes.txt").write_text("duck")
    return root


def raw(encoder: Encoder, **changes: Any) -> RawOptions:
    return RawOptions(encoder, quiet, **changes)


def test_class_folders_are_a_classification(pictures: Path, encoder: Encoder) -> None:
    templates = ("a photo of a {}.", "the {}")
    task = open_task(pictures, None, raw(encoder, templates=templates, classes=("swift",)))
    assert isinstance(task.task, ZeroShotTask)
    assert list(task.text_names) == ["a small bird", "duck", "parrot", "swift"]
    assert task.rejected == {"image_truncated": 1}
    np.testing.assert_array_equal(np.bincount(task.task.labels, minlength=4), [3, 6, 3, 0])
    assert task.details == {"templates": list(templates)}
    alone = encoder.encode_image(encoder.preprocess((pictures / "a_small_bird/0.png").read_bytes())[None])
    np.testing.assert_allclose(task.task.images[0], alone[0], atol=1e-6)
    duck = encoder.encode_text(encoder.tokenize(["a photo of a duck.", "the duck"]).ids).mean(axis=0)
    np.testing.assert_allclose(task.task.class_texts[1], duck / np.linalg.norm(duck), atol=1e-6)
    assert all(thumbnail.startswith(b"\xff\xd8\xff") for thumbnail in task.thumbnails)


def test_a_table_with_labels_and_captions_is_either(pictures: Path, encoder: Encoder) -> None:
    table = pictures.parent / "both.csv"
    table.write_text("image,label,caption\nbirds/duck/0.png,duck,one swims\nbirds/parrot/0.png,parrot,one flies\n")
    assert list(open_task(table, None, raw(encoder)).text_names) == ["duck", "parrot"]
    pairs = open_task(table, "retrieval", raw(encoder))
    assert (pairs.kind, list(pairs.text_names)) == ("retrieval", ["one swims", "one flies"])


def test_hidden_files_say_nothing_of_class_folders(pictures: Path, encoder: Encoder) -> None:
    digest = open_task(pictures, None, raw(encoder)).digest
    (pictures / "._cover.png").write_bytes(b"what macOS keeps")
    (pictures / ".thumbs").mkdir()
    write_picture(pictures / ".thumbs" / "0.png", 3)
    (pictures / ".thumbs" / "0.txt").write_text("a caption")
    assert open_task(pictures, None, raw(encoder)).digest == digest
    write_picture(pictures / "cover.png", 3)
    with pytest.raises(EvaluationError, match="A folder of class folders has its images in the folders, and none be"):
        open_task(pictures, None, raw(encoder))


def test_a_row_without_a_label_costs_itself_alone(pictures: Path, encoder: Encoder) -> None:
    table = pictures.parent / "labels.csv"
    rows = ["duck/0.png,duck", "duck/1.png, duck", "duck/2.png,", "parrot/0.png,parrot ", "parrot/1.png,  "]
    table.write_text("image,label\n" + "".join(f"birds/{row}\n" for row in rows))
    task = open_task(table, None, raw(encoder, unseen=("parrot",)))
    assert list(task.text_names) == ["duck", "parrot"]
    assert isinstance(task.task, ZeroShotTask)
    np.testing.assert_array_equal(task.task.labels, [0, 0, 1])
    assert dict(task.rejected) == {"missing_label": 2}
    table.write_text("image,label\nbirds/duck/0.png,\n")
    with pytest.raises(EvaluationError, match="none of its rows has a label"):
        open_task(table, None, raw(encoder))


def test_a_label_that_is_a_whole_number_is_its_text(pictures: Path, encoder: Encoder) -> None:
    """JSON lines know numbers, and hold labels as numbers most of the time; in a CSV all is text."""
    images = [f"birds/{name}" for name in ("duck/0.png", "duck/1.png", "parrot/0.png")]
    table, numbers = pictures.parent / "labels.csv", pictures.parent / "labels.jsonl"
    table.write_text(
        "image,label\n" + "".join(f"{image},{label}\n" for image, label in zip(images, (3, 3, -10), strict=True))
    )
    rows = [*zip(images, (3, "3", -10), strict=True), (images[0], True), (images[1], 3.0), (images[2], [3])]
    numbers.write_text("".join(json.dumps({"image": image, "label": label}) + "\n" for image, label in rows))
    task = open_task(numbers, None, raw(encoder))
    assert list(task.text_names) == ["-10", "3"]
    assert task.digest == open_task(table, None, raw(encoder)).digest
    assert dict(task.rejected) == {"row_invalid": 3}


def test_two_folders_of_one_class_are_told(pictures: Path, encoder: Encoder) -> None:
    write_picture(pictures / "a small bird" / "0.png", 99)
    with pytest.raises(EvaluationError, match="'a small bird' and 'a_small_bird' are both the class 'a small bird'"):
        open_task(pictures, None, raw(encoder))


def test_unseen_names_make_entities(pictures: Path, encoder: Encoder) -> None:
    task = open_task(pictures, None, raw(encoder, unseen=("parrot",)))
    assert task.kind == "entities"
    np.testing.assert_array_equal(task.unseen, [False, False, True])
    assert open_task(pictures, "zero-shot", raw(encoder, unseen=("parrot",))).kind == "zero-shot"
    with pytest.raises(EvaluationError, match=r"no class 'emu'.* Its classes: a small bird, duck, parrot"):
        open_task(pictures, None, raw(encoder, unseen=("emu",)))
    with pytest.raises(EvaluationError, match=r"no class 'parot'.* The nearest of its classes is 'parrot'"):
        open_task(pictures, None, raw(encoder, unseen=("parot",)))
    folders = open_task(pictures, None, raw(encoder, unseen=("a_small_bird",), classes=("a_small_bird", "a_swift")))
    assert list(folders.text_names) == ["a small bird", "a swift", "duck", "parrot"]  # read as the folders are
    with pytest.raises(EvaluationError, match="--unseen"):
        open_task(pictures, "entities", raw(encoder))


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_table_with_labels_gives_what_the_folders_give(form: str, pictures: Path, encoder: Encoder) -> None:
    folders = open_task(pictures, None, raw(encoder))
    rows = [(f"birds/{name}", name.split("/")[0].replace("_", " ")) for name in folders.image_names]
    table = pictures.parent / f"labels.{form}"
    if form == "csv":
        table.write_text("image,label\n" + "".join(f'{image},"{label}"\n' for image, label in rows))
    else:
        table.write_text("".join(json.dumps({"image": image, "label": label}) + "\n" for image, label in rows))
    task = open_task(table, None, raw(encoder))
    assert task.digest == folders.digest
    with pytest.raises(EvaluationError, match="cannot be evaluated as retrieval"):
        open_task(table, "retrieval", raw(encoder))


def test_pairs_are_a_retrieval_and_captions_of_one_image_share_it(pictures: Path, encoder: Encoder) -> None:
    table = pictures.parent / "pairs.csv"
    lines = ["image,caption", "birds/duck/0.png,a duck", "birds/duck/0.png,a red duck", "birds/parrot/1.png,a parrot"]
    table.write_text("\n".join([*lines, "birds/duck/broken.jpg,gone", "birds/nowhere.png,gone", "birds/duck/1.png,\0"]))
    task = open_task(table, None, raw(encoder))
    assert isinstance(task.task, RetrievalTask)
    np.testing.assert_array_equal(task.task.image_of_text, [0, 0, 1])
    assert list(task.text_names) == ["a duck", "a red duck", "a parrot"]
    assert dict(task.rejected) == {"missing_image": 1, "image_truncated": 1, "text_control_character": 1}
    folder = pictures.parent / "folder"
    for number in range(3):
        write_picture(folder / f"{number}.png", number)
        (folder / f"{number}.txt").write_text(f"a bird {number}")
    assert open_task(folder, None, raw(encoder)).kind == "retrieval"


def test_a_caption_that_the_tokenizer_alone_refuses_costs_its_row(pictures: Path, encoder_dir: Path) -> None:
    """Such as one with [SEP], to tokenizers of transformers; open_clip's own may be given tokens as well."""
    directory = shutil.copytree(encoder_dir, pictures.parent / "encoder")
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    text = config["model_cfg"]["text_cfg"]
    text["tokenizer_kwargs"] = {"additional_special_tokens": ["<sep>"]}
    text["vocab_size"] += 1
    path.write_text(json.dumps(config))
    weights = load_file(directory / "open_clip_model.safetensors")
    embedding = weights["token_embedding.weight"]
    weights["token_embedding.weight"] = torch.cat([embedding, embedding[:1]])
    save_file(weights, directory / "open_clip_model.safetensors")
    table = pictures.parent / "pairs.csv"
    rows = ["birds/duck/0.png,a duck", "birds/duck/1.png,a <sep> duck", "birds/parrot/1.png,a parrot"]
    table.write_text("\n".join(["image,caption", *rows]))
    task = open_task(table, None, raw(Encoder.open(str(directory), device="cpu", dtype="float32")))
    assert list(task.text_names) == ["a duck", "a parrot"]
    assert dict(task.rejected) == {"text_special_token": 1}


def test_images_of_one_name_are_two_and_the_captions_of_a_broken_one_are_counted(
    pictures: Path, encoder: Encoder
) -> None:
    """A key is a path without its extension, and three rows of one image are three rows."""
    write_picture(pictures / "duck" / "0.jpg", 77)
    table = pictures.parent / "pairs.csv"
    rows = ["duck/0.png,a", "duck/0.jpg,b", "duck/0.png,c", "parrot/1.png,d"]
    rows += [f"duck/broken.jpg,gone {number}" for number in range(3)]
    table.write_text("image,caption\n" + "".join(f"birds/{row}\n" for row in rows))
    task = open_task(table, None, raw(encoder))
    assert isinstance(task.task, RetrievalTask)
    np.testing.assert_array_equal(task.task.image_of_text, [0, 1, 0, 2])
    assert dict(task.rejected) == {"image_truncated": 3}


def test_a_text_beside_one_image_of_class_folders_is_told(pictures: Path, encoder: Encoder) -> None:
    folders = open_task(pictures, None, raw(encoder))
    (pictures / "duck" / "1.txt").write_text("a note")
    with pytest.raises(EvaluationError, match=r"It was read as pairs, for duck/1\.txt stands beside an image: take it"):
        open_task(pictures, None, raw(encoder))
    assert open_task(pictures, "zero-shot", raw(encoder)).digest == folders.digest
    (pictures / "parrot" / "1.txt").write_text("a note")
    [note] = open_task(pictures, None, raw(encoder)).notes
    assert "--kind zero-shot" in note


def test_a_table_without_its_columns_is_told_what_to_rename(pictures: Path, encoder: Encoder) -> None:
    table = pictures.parent / "named.csv"
    table.write_text("image,species\nbirds/duck/0.png,duck\n")
    with pytest.raises(EvaluationError, match=r"none of the columns .*image and label \(or class\)") as refused:
        open_task(table, None, raw(encoder))
    assert "--caption-column" not in str(refused.value) and "Its columns: image, species" in str(refused.value)


def test_raw_tasks_that_cannot_be_are_refused(pictures: Path, encoder: Encoder) -> None:
    with pytest.raises(EvaluationError, match="--model"):
        open_task(pictures, None, NO_ENCODER)
    with pytest.raises(EvaluationError, match="1 class:"):
        for name in ("duck", "parrot"):
            shutil.rmtree(pictures / name)
        open_task(pictures, None, raw(encoder))
    broken = pictures.parent / "broken"
    for name in ("a", "b"):
        (broken / name).mkdir(parents=True)
        (broken / name / "0.jpg").write_bytes(b"none")
    with pytest.raises(EvaluationError, match="none of its images"):
        open_task(broken, None, raw(encoder))
    (pictures.parent / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no image"):
        open_task(pictures.parent / "empty", None, raw(encoder))


def test_templates(tmp_path: Path) -> None:
    assert load_templates("plain") == ("a photo of a {}.",)
    assert len(PROMPT_SETS["general"]) == 7
    file = tmp_path / "templates.txt"
    file.write_text("a {}\n\nthe {}, seen\n")
    assert load_templates(str(file)) == ("a {}", "the {}, seen")
    for text in ("no slot\n", "{} and {}\n", "{} {x}\n", "\n", "{"):
        file.write_text(text)
        with pytest.raises(EvaluationError) as refused:
            load_templates(str(file))
        assert refused.value.code == "templates_invalid"
    with pytest.raises(EvaluationError, match="plain, general"):
        load_templates("nowhere")


@pytest.mark.parametrize(
    ("names", "word"), [(["a", "A"], "same name"), (["a", " "], "empty"), (["a", "b\0"], "control")]
)
def test_class_names_that_cannot_be_are_refused(names: list[str], word: str) -> None:
    with pytest.raises(EvaluationError, match=word):
        check_names(names)


def test_tasks_of_one_name_get_different_ones(save: Callable[..., Path]) -> None:
    task = open_task(save(), None, NO_ENCODER)
    tasks: Iterable[EvalTask] = with_different_names([task, task, task])
    assert [one.slug for one in tasks] == ["task", "task-2", "task-3"]
