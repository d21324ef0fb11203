"""Fine-tuning the encoder: `reco train --train-encoder` on a few dozen drawn pictures."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from demo.clip import tiny_clip_directory
from demo.shots import species_shot
from demo.species import species_of
from memory_builder.readers import ReaderOptions
from models.encoder import Encoder
from models.errors import EncoderError
from models.images.preprocessor import Preprocessor
from models.sources.opening import OpenedModel, open_model
from models.sources.saving import check_free, save_model
from models.training.finetuning.finetune import FinetuneConfig, FinetuneReport, cropped, default_learning_rate, finetune
from models.training.finetuning.pictures import Pictures, PixelCodec
from reco.captioned_corpus import Lessons, Selection, read_lessons, read_rows
from reco.cli import app

NUM_SPECIES, PER_SPECIES = 8, 6
VALIDATION = ["birds/*-005"]
QUICK = FinetuneConfig(epochs=2, batch_size=20, learning_rate=1e-3)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order: equal seeds are then equal bits, however many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six captioned pictures of each of eight species that the tiny CLIP never saw."""
    folder = tmp_path_factory.mktemp("corpus") / "birds"
    folder.mkdir()
    for species in species_of("training")[:NUM_SPECIES]:
        for number in range(PER_SPECIES):
            shot = species_shot(species, "guide/training", number)
            (folder / f"{Path(shot.key).name}.png").write_bytes(shot.png())
            (folder / f"{Path(shot.key).name}.txt").write_text(shot.caption)
    return folder


def lessons_of(corpus: Path, opened: OpenedModel, names: list[str] | None = None) -> Lessons:
    records, _ = read_rows([str(corpus)], ReaderOptions())
    return read_lessons(records, opened, Selection(validation=VALIDATION, names=names or []))


def tuned(corpus: Path, config: FinetuneConfig) -> tuple[OpenedModel, tuple[float, ...]]:
    opened = open_model(str(tiny_clip_directory()), None)
    lessons = lessons_of(corpus, opened)
    return opened, finetune(opened.model, lessons.training, lessons.validation, config)


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", "--train-encoder", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_loss_falls_and_the_best_epoch_is_kept(corpus: Path) -> None:
    opened = open_model(str(tiny_clip_directory()), None)
    lessons = lessons_of(corpus, opened)
    reports: list[FinetuneReport] = []
    losses = finetune(opened.model, lessons.training, lessons.validation, QUICK, reports.append)
    assert len(lessons.training) == NUM_SPECIES * (PER_SPECIES - 1) and len(lessons.validation) == NUM_SPECIES
    assert len(losses) == 3 and min(losses[1:]) < losses[0]
    assert [report.pairs for report in reports] == [20, 40, 60, 80] and reports[0].total == 80
    assert not opened.model.training and not any(p.requires_grad for p in opened.model.parameters())
    assert 1 <= float(opened.model.logit_scale.exp()) <= 100.001  # type: ignore[operator]


def test_what_is_kept_has_the_lowest_validation_loss(corpus: Path) -> None:
    from models.training.finetuning.finetune import validation_loss

    wild = FinetuneConfig(epochs=3, batch_size=20, learning_rate=3e-2)
    opened, losses = tuned(corpus, wild)
    again = validation_loss(opened.model, lessons_of(corpus, opened).validation, wild)
    assert again == pytest.approx(min(losses[1:]), abs=1e-4)


def test_the_seed_decides(corpus: Path) -> None:
    (one, first), (two, second), (other, third) = (
        tuned(corpus, FinetuneConfig(epochs=1, batch_size=20, learning_rate=1e-3, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == second != third
    states = [model.model.state_dict() for model in (one, two, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["visual.conv1.weight"], states[2]["visual.conv1.weight"])


def test_bfloat16_trains_too(corpus: Path) -> None:
    _, losses = tuned(corpus, FinetuneConfig(epochs=1, batch_size=40, learning_rate=1e-3, bfloat16=True))
    assert all(np.isfinite(losses))


def test_the_command_writes_a_model_that_opens(corpus: Path, tmp_path: Path) -> None:
    options = ("--model", tiny_clip_directory(), "--epochs", "1", "--batch-size", "20", "--validate", VALIDATION[0])
    code, output = run(corpus, "-o", tmp_path / "mine", *options)
    assert code == 0, output
    assert "40 pairs to train on, 8 to validate" in output and f"--model {tmp_path / 'mine'}" in output.replace(
        "\n", ""
    )
    source, mine = (Encoder.open(str(path), dtype="float32") for path in (tiny_clip_directory(), tmp_path / "mine"))
    assert mine.fingerprint.id != source.fingerprint.id
    differing = {key for key, value in mine.fingerprint.record().items() if value != source.fingerprint.record()[key]}
    assert differing == {"weights_sha256", "probes"}
    about = json.loads((tmp_path / "mine" / "finetuned.json").read_text())
    assert about["pairs"] == 40 and about["source"]["weights_sha256"] == source.fingerprint.weights_sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    assert len({path.stat().st_mode for path in (tmp_path / "mine").iterdir()}) == 1
    code, output = run(corpus, "-o", tmp_path / "mine", *options)
    assert code == 2 and "not an empty directory" in output


def test_the_next_command_reads_the_table_as_this_one_did(corpus: Path, tmp_path: Path) -> None:
    shots = sorted(corpus.glob("*.png"))
    rows = [f"{shutil.copy(shot, tmp_path / shot.name).name};{shot.with_suffix('.txt').read_text()}" for shot in shots]
    (tmp_path / "birds.csv").write_text("\n".join(["Photo;What it shows", *rows]))
    columns = ("--image-column", "Photo", "--caption-template", "{What it shows}")
    options = ("--model", tiny_clip_directory(), "--epochs", "1", "--learning-rate", "1e-3", *columns)
    code, output = run(tmp_path / "birds.csv", "-o", tmp_path / "mine", *options)
    assert code == 0, output
    assert "--image-column Photo --caption-template '{What it shows}' -o my-memory" in output.replace("\n", "")


def test_a_killed_run_leaves_no_half_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_model(str(tiny_clip_directory()), None)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("models.sources.saving.json.dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            save_model(tmp_path / "mine", opened, {})
    assert not (tmp_path / "mine").exists()
    with pytest.raises(EncoderError, match="encoder_directory_missing"):
        open_model(str(tmp_path / "mine"), None)
    save_model(tmp_path / "mine", opened, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    same = Encoder.open(str(tmp_path / "mine"), dtype="float32").fingerprint.id
    assert same == Encoder.open(str(tiny_clip_directory()), dtype="float32").fingerprint.id


def test_a_run_that_is_stopped_while_training_writes_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.training.finetuning.finetune._step", stopped)
    code, _ = run(corpus, "-o", tmp_path / "mine", "--model", tiny_clip_directory())
    assert code not in (0, 2)
    assert not list(tmp_path.iterdir())


def test_no_better_epoch_writes_nothing(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rising = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr("models.training.finetuning.finetune.validation_loss", lambda *_: next(rising))
    code, output = run(corpus, "-o", tmp_path / "mine", "--model", tiny_clip_directory(), "--epochs", "2")
    assert code == 1 and "no epoch did better than tiny_clip itself" in output
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.finetuning.finetune.contrastive_loss", lambda *_: torch.tensor(float("nan")))
    code, output = run(corpus, "-o", tmp_path / "mine", "--model", tiny_clip_directory())
    assert code == 1 and "lower the learning rate" in output
    assert not list(tmp_path.iterdir())


def test_weights_that_a_last_step_broke_stop_too(corpus: Path) -> None:
    """The loss before it was finite: only the validation after it tells."""
    with pytest.raises(ValueError, match="lower the learning rate"):
        tuned(corpus, FinetuneConfig(epochs=1, batch_size=40, learning_rate=1e30, weight_decay=0.0))


@pytest.mark.parametrize(
    "wrong", ["no captions", "one pair", "unknown model", "no corpus", "no names", "taken", "a file above"]
)
def test_bad_inputs_are_one_sentence(corpus: Path, tmp_path: Path, wrong: str) -> None:
    folder, output, model, more = tmp_path / "few", tmp_path / "mine", str(tiny_clip_directory()), list[str]()
    folder.mkdir()
    pictures = sorted(corpus.glob("*.png"))
    for path in pictures[: 1 if wrong == "one pair" else 4]:
        (folder / path.name).write_bytes(path.read_bytes())
        if wrong != "no captions":
            (folder / path.with_suffix(".txt").name).write_text(path.stem)
    if wrong == "unknown model":
        model = "ViT-Q-99"
    if wrong == "no corpus":
        folder = tmp_path / "absent"
    if wrong == "no names":
        (tmp_path / "names.txt").write_text("")
        more = ["--names", str(tmp_path / "names.txt")]
    if wrong == "taken":
        output = corpus
    if wrong == "a file above":
        output = pictures[0] / "mine"
    code, told = run(folder, "-o", output, "--model", model, *more)
    assert code == 2 and told.startswith("reco:") and "Traceback" not in told, told
    assert len(told.strip().splitlines()) == 1, told
    assert not (tmp_path / "mine").exists()


def test_train_itself_takes_no_part_of_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--help"])
    assert result.exit_code == 0 and "--train-encoder" in result.output and "MEMORY" in result.output
    result = CliRunner().invoke(app, ["train", "--train-encoder", "--help"])
    assert result.exit_code == 0 and "CORPUS" in result.output and "--design" not in result.output


def test_equal_captions_and_shared_names_are_right_for_each_other(corpus: Path) -> None:
    opened = open_model(str(tiny_clip_directory()), None)
    by_caption = lessons_of(corpus, opened).training
    by_name = lessons_of(corpus, opened, [one.name for one in species_of("training")]).training
    for lessons, least in ((by_caption, 40), (by_name, 60)):
        _, tokens, positives = next(lessons.batches(100, torch.Generator().manual_seed(0)))
        assert torch.equal(positives, positives.T) and bool(positives.diagonal().all())
        equal = (tokens[:, None] == tokens[None, :]).all(dim=2)
        assert bool(positives[equal].all()) and int(positives.sum()) >= least
    with pytest.raises(EncoderError, match="taken"):
        check_free(corpus)


@pytest.mark.parametrize("names", [None, ["words of 1"]])
def test_captions_of_one_picture_stand_on_one_side_and_are_right_for_each_other(
    corpus: Path, tmp_path: Path, names: list[str] | None
) -> None:
    """Three captions of each of 30 pictures, no two alike."""
    rows = ["sku,path,caption"]
    for place, path in enumerate(sorted(corpus.glob("*.png"))[:30]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        rows += [f"{place}-{turn},{path.name},words of {turn} for {place}" for turn in range(3)]
    table = tmp_path / "pictures.csv"
    table.write_text("\n".join(rows))
    opened = open_model(str(tiny_clip_directory()), None)
    records, refused = read_rows([str(table)], ReaderOptions(key_column="sku"))
    assert len(records) == 90 and not refused
    for seed in range(5):
        lessons = read_lessons(records, opened, Selection(names=names or [], seed=seed))
        sides = [set((part.numbers // 3).tolist()) for part in (lessons.training, lessons.validation)]
        assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 30
        _, tokens, positives = next(lessons.training.batches(100, torch.Generator().manual_seed(0)))
        expected = 3 * len(tokens) + (len(tokens) // 3) * (len(tokens) // 3 - 1) * bool(names)
        assert int(positives.sum()) == expected


def test_packed_pixels_are_the_preprocessed_ones(corpus: Path) -> None:
    opened = open_model(str(tiny_clip_directory()), None)
    preprocess = Preprocessor(opened.model.visual.preprocess_cfg)  # type: ignore[union-attr, arg-type]
    codec = PixelCodec(preprocess.record)
    pixels = preprocess(next(corpus.glob("*.png")).read_bytes())
    assert torch.equal(codec.unpack(codec.pack(pixels)[None])[0], pixels)


def test_pictures_beyond_the_bound_are_loaded_again() -> None:
    loaded: list[int] = []

    def load(number: int) -> torch.Tensor:
        loaded.append(number)
        return torch.full((3, 2, 2), number, dtype=torch.uint8)

    pictures = Pictures(load, 6, max_bytes=40)  # three pictures of 12 bytes
    for number in (0, 2, 3, 5):
        pictures.keep(number, load(number))
    loaded.clear()
    parts = [torch.tensor([5, 0, 3]), torch.tensor([2]), torch.tensor([1, 4])]
    batches = list(pictures.batches(parts))
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [[5, 0, 3], [2], [1, 4]]
    assert sorted(loaded) == [1, 4, 5]
    assert not list(pictures.batches([]))


def test_a_crop_shows_most_of_the_picture() -> None:
    plain = torch.linspace(0, 1, 32).expand(4, 3, 32, 32)
    seen = cropped(plain, torch.Generator().manual_seed(0))
    assert seen.shape == plain.shape
    assert float((seen - plain).abs().max()) < 0.12 and not torch.equal(seen[0], seen[1])


def test_large_models_are_trained_gently() -> None:
    assert default_learning_rate(torch.nn.Linear(10, 10)) > default_learning_rate(torch.nn.Linear(5000, 5000))
