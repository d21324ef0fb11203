"""An evaluation as files: results.json, the plots and the gallery, all there or none.

results.json holds no clock, path or host: equal inputs give equal figures, up to the rounding of another processor.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.checks import check_matplotlib, check_output
from evaluation.errors import EvaluationError
from evaluation.examples import examples
from evaluation.gallery import gallery
from evaluation.plots import draw_plots
from evaluation.refinement import Mode
from evaluation.run import EvalConfig, TaskResult
from memory import SearchableMemory, encoder_of
from models.fusion import Fusion

FORMAT = 1
RESULTS, GALLERY = "results.json", "gallery.html"


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated.

    Attributes:
        memory: opened.
        fusions: the seeds, in order, by checkpoint id.
        trained: what each checkpoint says of its training.
        config: how.
        mode: that plots and gallery show.
    """

    memory: SearchableMemory
    fusions: dict[str, Fusion]
    trained: Sequence[dict[str, Any]]
    config: EvalConfig
    mode: Mode


def results(evaluated: Evaluated, tasks: Sequence[TaskResult]) -> dict[str, Any]:
    """Everything that was measured, as JSON-ready data."""
    memory, config = evaluated.memory, evaluated.config
    encoder = {name: value for name, value in memory.encoder.items() if name != "probes"}
    fusion = next(iter(evaluated.fusions.values()))
    seeds = [
        {"id": name, "seed": trained.get("seed"), "trained_on": trained.get("memory_digest")}
        for name, trained in zip(evaluated.fusions, evaluated.trained, strict=True)
    ]
    return {
        "format": FORMAT,
        "encoder": encoder,
        "memory": {"digest": memory.digest, "version": memory.version, "items": memory.num_items},
        "fusion": {**fusion.config.as_dict(), "checkpoints": seeds},
        "settings": {
            "bootstrap": {
                "resamples": config.bootstrap.resamples,
                "level": config.bootstrap.level,
                "seed": config.bootstrap.seed,
            },
            "duplicate_cosine": config.duplicate_cosine,
            "mode_shown": evaluated.mode,
            "without_unseen": config.without_unseen,
        },
        "tasks": [_task(result) for result in tasks],
    }


def write_report(directory: Path, evaluated: Evaluated, tasks: Sequence[TaskResult]) -> list[str]:
    """Write results.json, plots and gallery.

    Args:
        directory: made if absent; older files of the same names are replaced, and nothing else is touched.
        evaluated: what was evaluated.
        tasks: the figures.

    Returns:
        Names of the files.

    Raises:
        EvaluationError: output_refused, dependency_missing.
    """
    check_matplotlib()

    def write(staging: Path) -> None:
        for result in tasks:
            draw_plots(result, evaluated.mode, staging)
        (staging / GALLERY).write_text(gallery_page(evaluated, tasks), encoding="utf-8")
        (staging / RESULTS).write_text(json_text(results(evaluated, tasks)), encoding="utf-8")

    return write_together(directory, write)


def write_together(directory: Path, write: Callable[[Path], None]) -> list[str]:
    """Write files that belong together: all are there, or none.

    Args:
        directory: made if absent; older files of the same names are replaced, and nothing else is touched.
        write: given an empty folder to write them to.

    Returns:
        Names of the files.

    Raises:
        EvaluationError: output_refused.
    """
    check_output(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Drawn aside, on the same disk, and moved when whole: a crash leaves no half report.
        staging = Path(tempfile.mkdtemp(prefix=".eval-", dir=directory))
        try:
            write(staging)
            names = sorted(path.name for path in staging.iterdir())
            for name in names:
                os.replace(staging / name, directory / name)  # noqa: PTH105  the verb that says what happens
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        told = f"{directory} cannot be written to: {error.strerror or error}. Make room, or name another folder."
        raise EvaluationError("output_refused", told) from error
    return names


def json_text(value: dict[str, Any]) -> str:
    """As written to results.json; what is not a number (a class without images) becomes null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _task(result: TaskResult) -> dict[str, Any]:
    task, duplicates = result.task, result.duplicates
    return {
        "name": task.name,
        "kind": task.kind,
        "digest": task.digest,
        "k": result.k,
        "images": len(task.task.images),
        "texts": len(task.texts),
        "rejected": dict(task.rejected),
        "notes": list(result.notes),
        **task.details,
        "duplicates": {"items": len(duplicates.item_ids), "images": duplicates.images},
        "measures": {section.name: section.as_dict() for section in result.sections},
        "chance": {section.name: dict(section.chance) for section in result.sections},
        "memory_size": [point.as_dict() for point in result.memory_size],
        "neighbours": [point.as_dict() for point in result.neighbours],
        "per_class": result.per_class,
    }


def gallery_page(evaluated: Evaluated, tasks: Sequence[TaskResult]) -> str:
    """The gallery of what was measured, as HTML."""
    memory = evaluated.memory
    first = next(iter(evaluated.fusions.values()))
    about = [
        f"Encoder {encoder_of(memory)}; memory {memory.digest[:12]} of "
        f"{memory.num_items:,} items; {first.config.design} fusion {', '.join(evaluated.fusions)}.",
    ]
    shown = []
    for result in tasks:
        task = result.task
        title = f"{task.name}: {task.kind}, {len(task.task.images):,} images, {len(task.texts):,} texts, k = {result.k}"
        copies = result.duplicates
        found = f"Memory items that copy a test image: {len(copies.item_ids):,}, of {copies.images:,} of the images."
        shown.append((title, [found, *result.notes], result.sections, examples(result, memory, first, evaluated.mode)))
    return gallery(shown, about, evaluated.mode)
