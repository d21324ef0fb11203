"""The demo's evaluation, beside its checkpoint as `reco eval -o` would write it: what the page's third view shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.corpus import QUIZ, quiz_shots
from demo.measure import COLUMNS, Quiz, Row, names_of
from evaluation.checks import check_matplotlib
from evaluation.errors import EvaluationError
from evaluation.plots import draw_plots
from evaluation.report import GALLERY, RESULTS, Evaluated, gallery_page, json_text, results, write_together
from evaluation.run import EvalConfig, TaskResult, evaluate
from evaluation.tasks import EvalTask
from memory import Memory
from models.checkpoint_files import checkpoint_id, read_config
from models.fusion import Fusion
from models.images.decoding import ImageLimits, decode_image
from models.images.thumbnails import make_thumbnail

FOLDER = "evaluation"  # in the checkpoint's own, where the service looks
_THUMBNAIL_PX = 96
_ORDER = ("unseen", "unseen genera", "known", "all")  # what the memory is for comes first
_ABOUT = (
    "A world drawn by this project, made so that names are hard and looks are easy: it shows the mechanism, and is no "
    "benchmark. Known species are those that CLIP learned; unseen ones are in the memory only."
)


def write_evaluation(
    directory: Path, checkpoint: Path, quiz: Quiz, memory: Memory, fusion: Fusion, *, rows: Sequence[Row] = ()
) -> Path:
    """Measure the checkpoint on every column of the quiz and write what was found.

    Args:
        directory: the demo's.
        checkpoint: of the fusion; gets the folder.
        quiz: the tasks, embedded.
        memory: with the newcomers.
        fusion: as the checkpoint holds it.
        rows: the demo's table with its controls, shown beside the figures; none without them.

    Returns:
        The folder. Without matplotlib it has the figures and no plots or gallery.
    """
    config = EvalConfig(curves=True)
    evaluated = Evaluated(
        memory, {checkpoint_id(checkpoint): fusion}, [read_config(checkpoint)["trained"]], config, "both"
    )
    measured = [evaluate(_task(directory, column, quiz), memory, [fusion], config) for column in _ORDER]
    told = results(evaluated, measured) | ({"comparison": _comparison(rows)} if rows else {})

    def write(staging: Path) -> None:
        if _can_draw():
            _draw(staging, evaluated, measured)
        (staging / RESULTS).write_text(json_text(told), encoding="utf-8")

    folder = checkpoint / FOLDER
    write_together(folder, write)
    return folder


def _draw(staging: Path, evaluated: Evaluated, measured: Sequence[TaskResult]) -> None:
    for result in measured:
        draw_plots(result, evaluated.mode, staging)
    (staging / GALLERY).write_text(gallery_page(evaluated, measured), encoding="utf-8")


def _can_draw() -> bool:
    try:
        check_matplotlib()
    except EvaluationError:
        return False
    return True


def _task(directory: Path, column: str, quiz: Quiz) -> EvalTask:
    """A column of the quiz, with its pictures to look at."""
    pictures = [
        (directory / QUIZ / group / Path(shot.key).name).with_suffix(".png")
        for group in COLUMNS[column]
        for shot in quiz_shots(group)
    ]
    return EvalTask(
        name=f"{column} species" if "genera" not in column else column,
        task=quiz.tasks[column],
        text_names=names_of(*COLUMNS[column]),
        image_names=[picture.stem for picture in pictures],
        thumbnails=[_thumbnail(picture) for picture in pictures] if _can_draw() else (),
    )


def _thumbnail(picture: Path) -> bytes:
    return make_thumbnail(decode_image(picture.read_bytes(), ImageLimits()), _THUMBNAIL_PX)


def _comparison(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "title": "Top-1 accuracy in %, beside the controls",
        "note": _ABOUT,
        "columns": list(COLUMNS),
        "rows": {row.method: [row.accuracies[column] for column in COLUMNS] for row in rows},
    }
