"""Curves, examples, page and files: right numbers, nothing that a caption could do to the page, all files or none."""

import errno
import json
import os
import re
import sys
import xml.dom.minidom
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import report
from evaluation.bootstrap import Bootstrap
from evaluation.checks import check_output
from evaluation.curves import fits_in_ram, memory_size_curve, neighbours_curve
from evaluation.duplicates import LeavingOut
from evaluation.errors import EvaluationError
from evaluation.examples import TOP, examples
from evaluation.gallery import signed
from evaluation.label_sets import label_set_weights
from evaluation.measuring import measure
from evaluation.plots import _classes
from evaluation.refinement import refined
from evaluation.report import Evaluated, json_text, results, write_report
from evaluation.run import EvalConfig, TaskResult, check_parts, evaluate
from evaluation.task_sides import task_sides_at
from evaluation.tasks import RawOptions, open_task
from evaluation.unseen_pairs import pairs_of_unseen
from memory import MODALITIES, Memory
from models.checkpoint import load_fusion
from models.fusion import Fusion, FusionConfig
from models.fusion.label_set import LabelSetWeights

CONFIG = EvalConfig(bootstrap=Bootstrap(200), curves=True)


@pytest.fixture(scope="module")
def evaluated(world: Any) -> Evaluated:
    fusions = {f"fusion-{seed}": load_fusion(path) for seed, path in enumerate(world.fusions)}
    return Evaluated(Memory.open(world.memory), fusions, [{"seed": 0}, {}], CONFIG, "both")


@pytest.fixture(scope="module")
def run(evaluated: Evaluated) -> Callable[..., TaskResult]:
    """Evaluate the task at a path; a config may be given."""

    def measure(path: Path, config: EvalConfig = CONFIG) -> TaskResult:
        task = open_task(path, None, RawOptions(None, lambda *_: None))
        return evaluate(task, evaluated.memory, list(evaluated.fusions.values()), config)

    return measure


def test_the_memory_helps_where_names_are_hard(world: Any, run: Callable[..., TaskResult]) -> None:
    top_1 = run(world.zero_shot).sections[0].measures["top-1"]
    assert top_1["both"].gain is not None
    assert top_1["both"].interval is not None
    assert top_1["both"].gain > 5
    assert top_1["both"].interval[0] > 0
    assert len(top_1["both"].seeds) == 2


def test_classes_with_one_text_are_told(world: Any, run: Callable[..., TaskResult], tmp_path: Path) -> None:
    assert not any("same text embedding" in note for note in run(world.zero_shot).notes)
    arrays = dict(np.load(world.zero_shot))
    arrays["text"][4] = arrays["text"][1]
    np.savez(tmp_path / "twice.npz", **arrays)
    config = EvalConfig(bootstrap=Bootstrap(0))
    assert any(note.startswith("1 of the classes") for note in run(tmp_path / "twice.npz", config).notes)


def test_copies_are_counted_and_masked(world: Any, run: Callable[..., TaskResult], tmp_path: Path) -> None:
    result = run(world.zero_shot)
    np.testing.assert_array_equal(result.duplicates.item_ids, [0, 1, 2])
    assert result.duplicates.images == 3
    assert "top-1 without copies" in result.sections[0].measures
    arrays = dict(np.load(world.zero_shot))
    np.savez(tmp_path / "clean.npz", **arrays | {name: arrays[name][3:] for name in ("image", "label")})
    clean = run(tmp_path / "clean.npz", EvalConfig(bootstrap=Bootstrap(0)))
    assert list(clean.sections[0].measures) == ["top-1", "mean per class"]
    assert clean.sections[0].measures["top-1"]["both"].interval is None


def test_a_fusion_that_was_trained_on_the_copies_is_told(
    world: Any, run: Callable[..., TaskResult], evaluated: Evaluated, tmp_path: Path
) -> None:
    """Hiding copies from the search leaves what training learned of them: the column without them is no help."""
    config = EvalConfig(bootstrap=Bootstrap(0), trained_on=("another", evaluated.memory.digest))
    seen = run(world.zero_shot, config)
    assert seen.saw_copies
    assert any("trained on this memory" in note for note in seen.notes)
    arrays = dict(np.load(world.zero_shot))
    np.savez(tmp_path / "clean.npz", **arrays | {name: arrays[name][3:] for name in ("image", "label")})
    elsewhere = run(world.zero_shot, replace(config, trained_on=("another", None)))
    for result in (run(tmp_path / "clean.npz", config), elsewhere):
        assert not result.saw_copies
        assert not any("trained on this memory" in note for note in result.notes)


@pytest.mark.parametrize(
    ("whole", "left", "told"),
    [
        ((0.0, 0.0, 0.5), (0.4, 0.1, 0.0), "Without the copies the memory gets a weight."),
        ((0.4, 0.1, 0.0), (0.0, 0.0, 0.5), "Without the copies: The memory gets no weight for these labels"),
        ((0.4, 0.1, 0.0), (0.2, 0.1, 0.0), None),
        ((0.0, 0.0, 0.5), (0.0, 0.0, 0.5), None),
    ],
)
def test_a_weight_that_hangs_on_the_copies_is_told(
    whole: tuple[float, ...],
    left: tuple[float, ...],
    told: str | None,
    world: Any,
    run: Callable[..., TaskResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the one column says that the memory is not used, and the other shows what it gains, or the reverse."""
    monkeypatch.setattr(
        "evaluation.distrust.label_set_weights",
        lambda labels, memory, *_: LabelSetWeights(*(left if isinstance(memory, LeavingOut) else whole)),
    )
    notes = [note for note in run(world.zero_shot, EvalConfig(bootstrap=Bootstrap(0))).notes if "copies" in note]
    assert len(notes) == (told is not None)
    assert all(note.startswith(str(told)) for note in notes)


def test_an_image_that_is_given_twice_is_drawn_once(world: Any, run: Callable[..., TaskResult], tmp_path: Path) -> None:
    """Every image twice is no larger test: the figures and their intervals stay as they are."""
    config = EvalConfig(bootstrap=Bootstrap(300))
    for path in (world.zero_shot, world.entities):
        with np.load(path) as arrays:
            twice = {name: np.repeat(arrays[name], 1 + (name in ("image", "label")), axis=0) for name in arrays.files}
        np.savez(tmp_path / "twice.npz", **twice)
        once, doubled = run(path, config), run(tmp_path / "twice.npz", config)
        assert any("96 of the images equal an earlier one" in note for note in doubled.notes)
        assert not any("equal an earlier one" in note for note in once.notes)
        for section, same in zip(once.sections, doubled.sections, strict=True):
            for name, measured in section.measures.items():
                figure, other = measured["both"], same.measures[name]["both"]
                assert other.mean == pytest.approx(figure.mean)
                assert other.interval == (None if figure.interval is None else pytest.approx(figure.interval))


def test_intervals_of_few_images_are_told(world: Any, run: Callable[..., TaskResult], tmp_path: Path) -> None:
    def few(path: Path, resamples: int = 100) -> list[str]:
        notes = run(path, EvalConfig(bootstrap=Bootstrap(resamples))).notes
        return [note for note in notes if "too narrow" in note]

    assert few(world.zero_shot) == few(world.retrieval) == []  # 96 images
    (of_a_part,) = few(world.entities)
    assert "of 32 images of a part" in of_a_part
    with np.load(world.zero_shot) as arrays:
        one = {name: arrays[name][:1] if name in ("image", "label") else arrays[name] for name in arrays.files}
    np.savez(tmp_path / "one.npz", **one)
    (of_one,) = few(tmp_path / "one.npz")
    assert "of 1 image, " in of_one
    assert few(tmp_path / "one.npz", 0) == []
    with np.load(world.zero_shot) as arrays:
        part = {name: arrays[name][:48] for name in ("image", "label")}
        twice = {name: np.repeat(part.get(name, arrays[name]), 1 + (name in part), axis=0) for name in arrays.files}
    np.savez(tmp_path / "twice.npz", **twice)
    (of_half,) = few(tmp_path / "twice.npz")
    assert "of 48 images, " in of_half, "each is given twice"


def test_curves_end_at_the_figures_of_the_table(world: Any, run: Callable[..., TaskResult]) -> None:
    for path in (world.zero_shot, world.entities, world.retrieval):
        result = run(path)
        assert [point.at for point in result.memory_size] == [6, 12, 24, 48, 95]
        assert [point.at for point in result.neighbours] == [1, 2, 3, 5, 7, 10, 15, 20]
        for section in result.sections:
            for scoring, figure in section.measures[section.headline].items():
                assert result.memory_size[-1].values[section.name][scoring] == pytest.approx(figure.mean)


def test_the_size_curve_has_one_fixed_order(world: Any, run: Callable[..., TaskResult], evaluated: Evaluated) -> None:
    task = run(world.zero_shot).task
    fusions = list(evaluated.fusions.values())
    first, second, other = (memory_size_curve(task, evaluated.memory, fusions, 4, seed=seed) for seed in (0, 0, 1))
    assert first == second != other
    assert fits_in_ram(evaluated.memory)


def test_the_neighbours_curve_ends_at_what_the_fusion_takes(world: Any, run: Callable[..., TaskResult]) -> None:
    faithful = [Fusion(FusionConfig("faithful", 64, k=6)).eval()]
    points = neighbours_curve(run(world.zero_shot).task, Memory.open(world.memory), faithful)
    assert [point.at for point in points] == [1, 2, 3, 5, 6]


def test_parts_that_do_not_fit_are_refused(evaluated: Evaluated) -> None:
    copy = next(iter(evaluated.fusions.values()))
    faithful = Fusion(FusionConfig("faithful", 64, k=6))
    for fusions, k, code in (
        ([copy, faithful], None, "fusions_differ"),
        ([faithful], 7, "k_too_large"),
        ([copy], 96, "k_too_large"),
    ):
        with pytest.raises(EvaluationError) as refused:
            check_parts(evaluated.memory, fusions, k)
        assert refused.value.code == code
    assert check_parts(evaluated.memory, [copy], None) == 4


def test_an_example_shows_what_happened(world: Any, run: Callable[..., TaskResult], evaluated: Evaluated) -> None:
    result = run(world.zero_shot)
    fusion = next(iter(evaluated.fusions.values()))
    shown = examples(result, evaluated.memory, fusion, "both")[0]
    task, sides = result.task.task, result.sides[0]
    before, after = ((v @ t.T).argmax(axis=1) == task.labels for v, t in (sides.of("none"), sides.of("both")))
    assert shown.counts["helped"] == (~before & after).sum()
    assert shown.counts["harmed"] == (before & ~after).sum()
    for example in shown.shown:
        row = list(result.task.image_names).index(example.query.text)
        assert example.right[0].text == result.task.text_names[task.labels[row]]
        assert (example.before == 1) == before[row]
        assert len(example.plain) == len(example.refined) == TOP
        assert [answer.score for answer in example.refined] == sorted((a.score for a in example.refined), reverse=True)
        assert len(example.neighbours) == len(example.answer_neighbours) == 4
    only_text = examples(result, evaluated.memory, fusion, "text")[0].shown[0]
    assert not only_text.neighbours
    assert only_text.answer_neighbours


def test_influence_is_the_lead_lost_without_the_neighbour(
    world: Any, run: Callable[..., TaskResult], evaluated: Evaluated
) -> None:
    """The slow twin: a memory that returns all neighbours but one."""
    result = run(world.zero_shot)
    fusion = next(iter(evaluated.fusions.values()))
    example = examples(result, evaluated.memory, fusion, "image")[0].shown[0]
    row = list(result.task.image_names).index(example.query.text)
    label = result.task.task.labels[row]
    query, texts = result.task.task.images[row : row + 1], result.task.texts

    class Hiding:
        embed_dim, num_items, hidden = 64, 95, -1

        def search(self, queries: Any, k: int, *, modality: Any) -> Any:
            found = evaluated.memory.search(queries, k, modality=modality)
            if self.hidden >= 0:
                found.mask[:, self.hidden] = False
            return found

    def lead(hidden: int) -> float:
        memory = Hiding()
        memory.hidden = hidden
        scores = (refined(query, memory, fusion, "image", 4) @ texts.T)[0]
        return float(scores[label] - np.delete(scores, label).max())

    for number, neighbour in enumerate(example.neighbours):
        assert neighbour.influence == pytest.approx(lead(-1) - lead(number), abs=1e-5)


def test_an_image_to_which_every_text_belongs_has_no_wrong_answer_to_lead_by(
    world: Any, run: Callable[..., TaskResult], evaluated: Evaluated, tmp_path: Path
) -> None:
    with np.load(world.retrieval) as arrays:
        np.savez(tmp_path / "one.npz", image=arrays["image"][:2], text=arrays["text"][:3], pair=np.zeros(3, dtype=int))
    result = run(tmp_path / "one.npz", EvalConfig())
    fusion = next(iter(evaluated.fusions.values()))
    [shown] = [one for one in examples(result, evaluated.memory, fusion, "both") if one.queries == "image"]
    assert [len(example.right) for example in shown.shown] == [3]
    assert np.isfinite([neighbour.influence for neighbour in shown.shown[0].neighbours]).all()


def test_influence_on_a_label_is_at_the_weight_of_its_set(world: Any, evaluated: Evaluated) -> None:
    fusion = Fusion(FusionConfig("evidence", 64, k=4)).eval()
    task = open_task(world.zero_shot, None, RawOptions(None, lambda *_: None))
    result = evaluate(task, evaluated.memory, [fusion], EvalConfig())
    weights = label_set_weights(result.task.texts, evaluated.memory, fusion, 4)
    assert weights is not None
    assert weights.text > 0
    example = examples(result, evaluated.memory, fusion, "text")[0].shown[0]
    image = result.task.task.images[list(result.task.image_names).index(example.query.text)]
    label = list(result.task.text_names).index(example.right[0].text)
    text = result.task.texts[label : label + 1]
    found = evaluated.memory.search(text, 4, modality="text")

    def score(hidden: int) -> float:
        mask = found.mask & (np.arange(4) != hidden)
        alike = np.full((1, 4), found.similarities[0, 0])  # each of the four captions names the label
        parts = map(torch.from_numpy, (text, found.values, alike, mask))
        return float(fusion.text(*parts, torch.tensor(weights.text)).numpy()[0] @ image)

    influences = [neighbour.influence for neighbour in example.answer_neighbours]
    assert influences == pytest.approx([score(-1) - score(number) for number in range(4)], abs=1e-5)
    assert max(map(abs, influences)) > 1e-3


class _Page(HTMLParser):
    """Collects the tags of a page, and whether they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_files(world: Any, run: Callable[..., TaskResult], evaluated: Evaluated, tmp_path: Path) -> None:
    tasks = [replace(run(world.zero_shot), notes=("<b> & trust nothing",)), run(world.retrieval)]
    names = write_report(tmp_path / "out", evaluated, tasks)
    plots = ["pairs-memory-size", "pairs-neighbours", "zero-classes", "zero-memory-size", "zero-neighbours"]
    assert names == sorted(
        ["gallery.html", "results.json", *(f"{plot}.{form}" for plot in plots for form in ("png", "svg"))]
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for plot in plots:
        assert (tmp_path / "out" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
        xml.dom.minidom.parseString((tmp_path / "out" / f"{plot}.svg").read_bytes())
    page = (tmp_path / "out" / "gallery.html").read_text()
    parsed = _Page()
    parsed.feed(page)
    assert not parsed.open
    assert not [value for name, value in parsed.attributes if name in ("src", "href") and not value.startswith("data:")]
    assert "species <" not in page
    assert "species &lt;" in page
    assert "Memory items that copy a test image: 3, of 3 of the images." in page
    assert "&lt;b&gt; &amp; trust nothing" in page  # who gets the page passed on must see what is wrong with it
    assert not re.search(r"<script|url\(|@import|https?://", page)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write_report(tmp_path / "out", evaluated, tasks)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_leaving_unseen_pairs_out_is_a_memory_without_them(
    world: Any, run: Callable[..., TaskResult], evaluated: Evaluated, factory: Any, tmp_path: Path
) -> None:
    whole = evaluated.memory
    result = run(world.entities, EvalConfig(bootstrap=Bootstrap(0), without_unseen=True))
    ids = pairs_of_unseen(result.task, whole)
    np.testing.assert_array_equal(ids, np.arange(64, 96))  # of the last four of twelve classes, eight pairs each
    sides_of_whole = [whole.rows(modality) for modality in MODALITIES]
    smaller = factory.write_memory(tmp_path / "part", *sides_of_whole, whole.captions(), [5, *ids.tolist()])
    sides = [task_sides_at(result.task, smaller, one, [result.k])[0] for one in evaluated.fusions.values()]
    expected = next(one for one in measure(result.task, sides, Bootstrap(0)) if one.name == "entities")
    found = next(one for one in result.sections if one.name == "entities_without_pairs")
    assert found.as_dict() == expected.as_dict()
    assert result.per_class == run(world.entities).per_class  # whatever else is told is of the whole memory


def test_a_caption_that_names_an_unseen_entity_beside_others_is_left_out(tmp_path: Path, factory: Any) -> None:
    rows = factory.unit_rows(5, 64, 1)
    captions = ["a wren beside an owl", "an owl beside a wren", "a rock owl", "a rock owl and an owl", "a wren"]
    memory = factory.write_memory(tmp_path / "memory", rows, rows, captions, [])
    arrays = {"image": rows[:3], "text": rows[:3], "label": np.array([0, 1, 2]), "unseen_class": np.array([1])}
    names = {"named": np.array(["wren", "owl", "rock owl"]), "unnamed": np.array(["", "", ""])}
    for stem, class_name in names.items():
        np.savez(tmp_path / f"{stem}.npz", **arrays, class_name=class_name)
    named, unnamed = (open_task(tmp_path / f"{stem}.npz", None, RawOptions(None, lambda *_: None)) for stem in names)
    np.testing.assert_array_equal(pairs_of_unseen(named, memory), [0, 1, 3])
    assert not len(pairs_of_unseen(unnamed, memory))


def test_that_the_rest_of_a_memory_gets_no_weight_is_told(
    world: Any, run: Callable[..., TaskResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads a table of ±0.0 should see why, though the whole memory has a weight."""
    weighed = {True: LabelSetWeights(0.0, 0.0, 0.5), False: LabelSetWeights(0.4, 0.1, 0.0)}
    monkeypatch.setattr(
        "evaluation.distrust.label_set_weights",
        lambda labels, memory, fusion, k, names: weighed[memory.num_items < 90],  # 95, 92 of them no copies
    )
    notes = run(world.entities, EvalConfig(bootstrap=Bootstrap(0), without_unseen=True)).notes
    (told,) = (note for note in notes if "gets no weight" in note)
    assert told.startswith("Without the unseen entities' pairs: ")
    assert "for 50% of them the pairs it finds are not theirs" in told
    assert not any("gets no weight" in note for note in run(world.entities).notes)


@pytest.mark.parametrize(("caption", "told"), [("a thing", "there is no pair"), ("a wren", "nothing is left")])
def test_nothing_or_everything_to_leave_out_is_told(
    caption: str, told: str, tmp_path: Path, factory: Any, evaluated: Evaluated
) -> None:
    rows = factory.unit_rows(12, 64, 1)
    memory = factory.write_memory(tmp_path / "memory", rows, rows, [caption] * 12, [3])
    arrays = {"image": factory.unit_rows(4, 64, 2), "text": rows[:2], "label": np.array([0, 1, 0, 1])}
    np.savez(tmp_path / "task.npz", **arrays, class_name=np.array(["wren", "owl"]), unseen_class=np.array([0]))
    task = open_task(tmp_path / "task.npz", None, RawOptions(None, lambda *_: None))
    config = EvalConfig(bootstrap=Bootstrap(0), without_unseen=True)
    result = evaluate(task, memory, list(evaluated.fusions.values()), config)
    assert [one.name for one in result.sections] == ["zero_shot", "entities"]
    assert any(told in note for note in result.notes)


def test_the_plot_of_many_classes_is_drawn_as_one_shape(world: Any, run: Callable[..., TaskResult]) -> None:
    figure_of = pytest.importorskip("matplotlib.figure").Figure
    rows = [{"class": f"class {one}", "images": 1, "none": 50.0, "both": float(one % 100)} for one in range(2000)]
    figure = figure_of()
    _classes(replace(run(world.zero_shot), per_class=rows), "both")(figure)
    shapes = figure.axes[0].patches
    assert len(shapes) == 2
    np.testing.assert_array_equal(
        sum(shape.get_data().values for shape in shapes), sorted(row["both"] - 50 for row in rows)
    )


def test_results_are_complete_and_hold_no_place_or_time(
    world: Any, run: Callable[..., TaskResult], evaluated: Evaluated
) -> None:
    text = json_text(results(evaluated, [run(world.entities)]))
    assert str(world.memory.parent) not in text
    value = json.loads(text)
    assert value["memory"]["digest"] == evaluated.memory.digest
    assert [one["id"] for one in value["fusion"]["checkpoints"]] == ["fusion-0", "fusion-1"]
    assert value["encoder"]["architecture"] == "tiny"
    task = value["tasks"][0]
    assert task["kind"] == "entities"
    assert set(task["measures"]["entities"]) == {"seen", "unseen", "harmonic mean", "harmonic mean without copies"}
    assert len(task["per_class"]) == 12
    figure = task["measures"]["zero_shot"]["top-1"]["both"]
    assert set(figure) == {"mean", "spread", "seeds", "gain", "interval"}
    assert json_text({"a": [float("nan"), 1.0]}) == '{\n  "a": [\n    null,\n    1.0\n  ]\n}\n'


def test_a_report_that_fails_leaves_nothing_and_an_older_one_alone(
    world: Any, run: Callable[..., TaskResult], evaluated: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("older")

    def fail(*_: object) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr(report, "gallery", fail)
    with pytest.raises(RuntimeError):
        write_report(tmp_path / "out", evaluated, [run(world.zero_shot)])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["results.json"]
    assert (tmp_path / "out" / "results.json").read_text() == "older"


def test_a_full_disk_is_told_in_a_sentence(
    evaluated: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "page")

    monkeypatch.setattr(report, "gallery", fill)
    with pytest.raises(EvaluationError, match="out cannot be written to: No space left on device") as told:
        write_report(tmp_path / "out", evaluated, [])
    assert told.value.code == "output_refused"
    assert list((tmp_path / "out").iterdir()) == []


def test_without_matplotlib_the_report_says_what_to_install(
    evaluated: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EvaluationError, match="dependency_missing"):
        write_report(tmp_path / "out", evaluated, [])
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_is_refused(world: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", world.memory, world.fusions[0]):
        with pytest.raises(EvaluationError) as refused:
            check_output(place)
        assert refused.value.code == "output_refused"


@pytest.mark.parametrize(("value", "text"), [(1.26, "+1.3"), (-0.5, "−0.5"), (0.01, "±0.0"), (-0.04, "±0.0")])
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text
