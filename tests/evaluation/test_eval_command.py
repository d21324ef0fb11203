"""`reco eval` as a person runs it: real files, the tiny CLIP, every option, and one sentence for what cannot be."""

import csv
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seeded_rows import encoder_record
from typer.testing import CliRunner, Result

from evaluation.retrieval import RetrievalTask
from evaluation.tasks import EvalTask
from evaluation.zero_shot import ZeroShotTask
from memory import Memory
from memory_builder import BuildConfig, build
from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig
from reco.cli import app
from reco.eval_options import refuse_kinds


@pytest.fixture
def reco(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run `reco eval` with the arguments given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: Any) -> Result:
        return CliRunner().invoke(app, ["eval", *map(str, arguments)])

    return run


def test_a_table_files_and_json(reco: Callable[..., Result], world: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = reco(
        world.memory, world.fusions[0], world.zero_shot, world.retrieval, world.entities, "--fusion", world.fusions[1],
        "-o", out, "--bootstrap", 300, "--k", 3, "--json", "--show", "image",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value == json.loads((out / "results.json").read_text())
    assert [task["kind"] for task in value["tasks"]] == ["zero-shot", "retrieval", "entities"]
    assert all(task["k"] == 3 for task in value["tasks"])
    assert value["settings"]["bootstrap"]["resamples"] == 300
    assert value["settings"]["mode_shown"] == "image"
    for word in ("none: frozen CLIP", "sum of the four", "top-1", "harmonic mean", "R@10", "median", "query only"):
        assert word in done.stderr
    assert "memory items 3, of 3 of the task's images" in done.stderr
    figure = value["tasks"][0]["measures"]["zero_shot"]["top-1"]["both"]
    assert f"{figure['mean']:.1f}" in done.stderr


def test_a_fusion_of_this_very_memory_has_no_column_to_trust(
    reco: Callable[..., Result], world: Any, tmp_path: Path
) -> None:
    """Three test images lie in the memory: who trained on it has learned them."""
    memory = Memory.open(world.memory)
    fusion = Fusion(FusionConfig("copy", 64, k=4))
    for name, digest in (("here", memory.digest), ("elsewhere", "x")):
        save_fusion(tmp_path / name, fusion, memory.manifest.encoder, {"memory_digest": digest})
        told = " ".join(reco(world.memory, tmp_path / name, world.zero_shot, "--bootstrap", 0).stderr.split())
        # Its record does not say of which pairs.
        assert ("trained on this memory. Unless `--pairs` or `--names` kept the copies" in told) == (name == "here")
        assert ("trust the column without copies" in told) == (name == "elsewhere")


def test_options_change_what_they_say(reco: Callable[..., Result], world: Any) -> None:
    def task(*options: Any) -> dict[str, Any]:
        done = reco(world.memory, world.fusions[0], world.entities, "--json", "--bootstrap", 0, *options)
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)["tasks"][0]
        return found

    plain = task()
    assert plain["kind"] == "entities"
    assert plain["memory_size"] == []  # curves are drawn for -o only
    assert plain["measures"]["zero_shot"]["top-1"]["both"]["interval"] is None
    assert task("--kind", "zero-shot")["kind"] == "zero-shot"
    assert task("--duplicate-cosine", 1)["duplicates"] == {"items": 3, "images": 3}
    assert task("--duplicate-cosine", 0.5)["duplicates"]["items"] > 3
    assert task("--k", 1)["measures"] != plain["measures"]


def test_query_only_shows_what_an_index_of_plain_vectors_would_give(reco: Callable[..., Result], world: Any) -> None:
    done = reco(world.memory, world.fusions[0], world.retrieval, "--query-only", "--json", "--bootstrap", 100)
    assert done.exit_code == 0, done.output
    rows = [
        line.split("  ")[0].strip()
        for line in done.stderr.splitlines()
        if line.startswith((" none:", " text", " image"))
    ]
    assert rows == ["none: frozen CLIP", "text: query only", "none: frozen CLIP", "image: query only"]
    measures = json.loads(done.stdout)["tasks"][0]["measures"]
    for section, side in (("text_to_image", "text"), ("image_to_text", "image")):
        assert f"{measures[section]['R@1'][side]['mean']:.1f}" in done.stderr
    refused = reco(world.memory, world.fusions[0], world.zero_shot, "--query-only")
    assert refused.exit_code == 2
    assert "--query-only is for retrieval tasks, and zero is one of zero-shot" in refused.stderr


def test_without_unseen_asks_a_memory_that_does_not_hold_them(reco: Callable[..., Result], world: Any) -> None:
    options = ("--without-unseen", "--json", "--bootstrap", 100)
    done = reco(world.memory, world.fusions[0], world.entities, *options)
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    task = value["tasks"][0]
    whole, part = (task["measures"][name] for name in ("entities", "entities_without_pairs"))
    assert list(part) == ["seen", "unseen", "harmonic mean"]
    assert part["unseen"]["none"] == whole["unseen"]["none"]
    assert part["unseen"]["both"]["gain"] < whole["unseen"]["both"]["gain"] - 5  # nothing of theirs is found
    assert part["seen"]["both"]["gain"] > 5  # what is still held is found as before
    assert "the same, the memory without the unseen entities' pairs" in done.stderr
    assert any(note.startswith("Without the unseen entities' pairs: 32 of 95 items") for note in task["notes"])
    assert value["settings"]["without_unseen"] is True
    refused = reco(world.memory, world.fusions[0], world.zero_shot, "--without-unseen")
    assert refused.exit_code == 2
    assert "name them with --unseen, or in unseen_class" in refused.stderr


def test_what_cannot_be_ends_with_one_sentence_and_code_2(
    reco: Callable[..., Result], world: Any, tmp_path: Path, factory: Any
) -> None:
    other = tmp_path / "other"
    record = {**encoder_record(64), "architecture": "another"}
    save_fusion(other, Fusion(FusionConfig("copy", 64, k=4)), record)
    faithful = tmp_path / "faithful"
    save_fusion(faithful, Fusion(FusionConfig("faithful", 64, k=4)), encoder_record(64))
    wide = tmp_path / "wide.npz"
    np.savez(wide, image=factory.unit_rows(4, 32, 1), text=factory.unit_rows(2, 32, 2), label=np.array([0, 1, 0, 1]))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, image=np.array([{}], dtype=object), text=np.ones((2, 64)))
    (tmp_path / "file").write_text("")
    (tmp_path / "cut.npz").write_bytes(world.zero_shot.read_bytes()[:500])
    pairs = factory.unit_rows(4, 64, 1)
    factory.write_memory(tmp_path / "emptied", pairs, pairs, ["a", "b", "c", "d"], [0, 1, 2, 3])
    wrong_tasks = _wrong_tasks(tmp_path, world.zero_shot)
    first, task = world.fusions[0], world.zero_shot
    out = tmp_path / "out"
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((tmp_path / "none", first, task), "memory_not_found"),
        ((world.memory, tmp_path / "none", task), "checkpoint_not_found"),
        ((world.memory, other, task), "encoder_mismatch"),
        ((world.memory, first, task, "--fusion", faithful), "fusions_differ"),
        ((world.memory, first, task, "--fusion", first), "same fusion"),
        ((world.memory, first, wide), "not from one encoder"),
        ((world.memory, first, pickled), "never loaded"),
        ((world.memory, first, tmp_path / "none.npz"), "task_not_found"),
        ((world.memory, first, task, "--kind", "oven"), "unknown kind"),
        ((world.memory, first, task, "--show", "none"), "unknown mode"),
        ((world.memory, first, task, "--k", "96"), "k_too_large"),
        ((world.memory, faithful, task, "--k", "5"), "k_too_large"),
        ((world.memory, first, task, "--unseen", tmp_path / "file"), "raw images"),
        ((world.memory, first, task, "--templates", "general"), "--templates: for raw images only"),
        ((world.memory, first, task, "--model", "ViT-B-32", "--dtype", "auto"), "--model and --dtype: for raw images"),
        ((world.memory, first, task, "--seeds", "5"), "--seeds: for --ablations only"),
        ((world.memory, first, task, "--bootstrap", "1"), "--bootstrap 1 gives no interval"),
        ((world.memory, first, task, "--quick"), "--quick: for --ablations only"),
        (("--ablations", task, "--k", "5", "--kind", "zero-shot", "--quick"), "no use for --kind, --k: leave"),
        ((world.memory, first, task, "-o", tmp_path / "file"), "output_refused"),
        ((world.memory, first, tmp_path), "encoder_needed"),
        ((world.memory, first, task, "--k", "0"), "--k"),
        ((tmp_path / "emptied", first, task), "memory_empty"),
        ((world.memory, first, task, "-o", tmp_path / "file" / "report"), "output_refused"),
        ((world.memory, first, task, "-o", Path("/proc/report")), "output_refused"),
        (("--ablations", tmp_path / "cut.npz"), "world_invalid"),
        *(((world.memory, first, path), word) for path, word in wrong_tasks),
    ]
    for arguments, word in cases:
        done = reco(*arguments, *(() if "-o" in arguments else ("-o", out)))
        assert done.exit_code == 2, (arguments, done.output)
        assert word in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.output
        assert not out.exists()


def test_show_without_a_place_for_plots_is_refused(reco: Callable[..., Result], world: Any) -> None:
    done = reco(world.memory, world.fusions[0], world.zero_shot, "--show", "text")
    assert done.exit_code == 2
    assert "--show chooses what plots and gallery show" in done.stderr


def _wrong_tasks(folder: Path, good: Path) -> list[tuple[Path, str]]:
    """Cached embeddings that contradict themselves, each with what must be said of it."""
    with np.load(good, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("image", "text", "label")}
    image, text, label = arrays.values()
    spoilt = image.copy()
    spoilt[3, 5] = np.nan
    cases: list[tuple[dict[str, np.ndarray], str]] = [
        ({**arrays, "image": spoilt}, "`image` row 3 is zero or not finite"),
        ({**arrays, "text": text[:0]}, "`text` is float32[0, 64]"),
        ({**arrays, "label": label + 5}, "is not the number of one of its 12 classes"),
        ({**arrays, "label": label - 1}, "label -1 is not the number"),
        ({**arrays, "text": text[:1], "label": label * 0}, "it has 1 class: a choice needs at least two"),
        ({"image": image[:1], "text": text[:1]}, "at least two images and two texts"),
        ({"img": image, "txt": text}, "it has no `image`, only img, txt"),
    ]
    for number, (wrong, _) in enumerate(cases):
        np.savez(folder / f"wrong-{number}.npz", **wrong)  # type: ignore[arg-type]
    return [(folder / f"wrong-{number}.npz", word) for number, (_, word) in enumerate(cases)]


def test_without_matplotlib_only_the_plots_are_refused(
    reco: Callable[..., Result], world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = reco(world.memory, world.fusions[0], world.zero_shot, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "dependency_missing" in refused.stderr
    assert "reco-clip[eval]" in refused.stderr
    assert reco(world.memory, world.fusions[0], world.zero_shot).exit_code == 0


def test_help_teaches_with_examples(reco: Callable[..., Result]) -> None:
    text = re.sub(r"\s+", " ", reco("--help").stdout)
    assert text.count("reco eval my-memory") == 4


@dataclass(frozen=True)
class Photos:
    """A memory of pictures built with the tiny CLIP, and where the pictures lie."""

    memory: Path
    fusion: Path
    folder: Path
    model: Path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, encoder_dir: Path) -> Photos:
    from PIL import Image

    root = tmp_path_factory.mktemp("photos")
    dice = np.random.default_rng(0)
    for number in range(24):
        kind = ("duck", "parrot", "swift")[number % 3]
        for place in (root / "corpus", root / "test" / f"{kind}"):
            place.mkdir(parents=True, exist_ok=True)
            base = np.zeros((48, 64, 3)) + np.eye(3)[number % 3] * 160
            pixels = np.clip(base + dice.normal(60, 40, (6, 8, 3)).repeat(8, axis=0).repeat(8, axis=1), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{kind}-{number}.png")
        (root / "corpus" / f"{kind}-{number}.txt").write_text(f"a {kind} number <b>{number}</b>")
    build(BuildConfig((str(root / "corpus"),), root / "memory"), encoder)
    opened = Memory.open(root / "memory")
    save_fusion(root / "fusion", Fusion(FusionConfig("copy", opened.embed_dim, k=3)), opened.manifest.encoder)
    return Photos(root / "memory", root / "fusion", root / "test", encoder_dir)


def test_raw_images_with_the_encoder(reco: Callable[..., Result], photos: Photos, tmp_path: Path) -> None:
    table = photos.folder.parent / "labels.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label"])
        rows.writerows(
            [f"test/{path.parent.name}/{path.name}", path.parent.name] for path in sorted(photos.folder.rglob("*.png"))
        )
    (tmp_path / "unseen.txt").write_text("swift\n")
    (tmp_path / "classes.txt").write_text("raptor\nwader\n")
    (tmp_path / "templates.txt").write_text("a {}\nthe {} bird\n")
    done = reco(
        photos.memory, photos.fusion, photos.folder, table, "--model", photos.model, "--dtype", "float32",
        "--unseen", tmp_path / "unseen.txt", "--classes", tmp_path / "classes.txt", "--device", "cpu",
        "--templates", tmp_path / "templates.txt", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    folders, labels = json.loads(done.stdout)["tasks"]
    assert folders["digest"] == labels["digest"]
    assert folders["kind"] == "entities"
    assert folders["texts"] == 5
    assert folders["templates"] == ["a {}", "the {} bird"]
    page = (tmp_path / "out" / "gallery.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "<b>1</b>" not in page
    pairs = reco(photos.memory, photos.fusion, photos.folder.parent / "corpus", "--model", photos.model, "--json")
    assert pairs.exit_code == 0, pairs.output
    task = json.loads(pairs.stdout)["tasks"][0]
    assert task["kind"] == "retrieval"
    # the corpus itself is in the memory: every image is a copy, and is said to be one
    assert task["duplicates"] == {"items": 24, "images": 24}
    assert "nothing is left" in pairs.stderr


def test_another_encoder_is_refused(reco: Callable[..., Result], photos: Photos) -> None:
    from demo.clip import tiny_clip_directory

    done = reco(photos.memory, photos.fusion, photos.folder, "--model", tiny_clip_directory())
    assert done.exit_code == 2
    assert "encoder_mismatch" in done.stderr


def test_real_embeddings_give_the_accuracy_that_numpy_gives(
    reco: Callable[..., Result], few_shot: Path, tmp_path: Path, factory: Any
) -> None:
    with np.load(few_shot, allow_pickle=False) as file:
        arrays = dict(file)
    task = arrays["shot_set"] == 4
    image, text, label = arrays["image"].astype(np.float32), arrays["text"].astype(np.float32), arrays["label"]
    image, text = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (image, text))
    np.savez(tmp_path / "task.npz", image=arrays["image"][task], text=arrays["text"], label=label[task])
    rest = ~task
    names = [str(name) for name in arrays["class_name"][label[rest]]]
    opened = factory.write_memory(tmp_path / "memory", image[rest], text[label[rest]], names, [])
    fusion = Fusion(FusionConfig("copy", 512, k=3))
    save_fusion(tmp_path / "fusion", fusion, opened.manifest.encoder)
    done = reco(tmp_path / "memory", tmp_path / "fusion", tmp_path / "task.npz", "--json", "--bootstrap", 200)
    assert done.exit_code == 0, done.output
    top_1 = json.loads(done.stdout)["tasks"][0]["measures"]["zero_shot"]["top-1"]
    direct = ((image[task] @ text.T).argmax(axis=1) == label[task]).mean() * 100
    assert top_1["none"]["mean"] == pytest.approx(direct)
    assert round(direct, 1) == 65.5


def test_options_of_labels_are_refused_where_they_would_count_for_nothing(
    reco: Callable[..., Result], world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "unseen.txt"
    names.write_text("wren")
    refused = reco(world.memory, world.fusions[0], world.zero_shot, "--unseen", names, "--kind", "zero-shot")
    assert refused.exit_code == 2 and "leave one of them out" in refused.stderr
    rows = np.eye(2, dtype=np.float32)
    pairs = EvalTask("pairs", RetrievalTask(rows, rows, np.arange(2)), ["a", "b"], ["", ""])
    classes = EvalTask("classes", ZeroShotTask(rows, np.arange(2), rows), ["a", "b"], ["", ""])
    given = {"templates": "--templates", "unseen": "--unseen"}
    refuse_kinds([pairs, classes], given, query_only=False, without_unseen=False)
    with pytest.raises(SystemExit) as stopped:
        refuse_kinds([pairs], given, query_only=False, without_unseen=False)
    assert stopped.value.code == 2
    assert "--templates and --unseen: for classifications only" in " ".join(capsys.readouterr().err.split())
