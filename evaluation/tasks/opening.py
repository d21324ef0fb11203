"""Which form a task has, by what lies at its path. Imports the forms."""

from dataclasses import replace
from pathlib import Path

from evaluation.errors import EvaluationError
from evaluation.forms import Kind, is_raw, is_shard_folder
from evaluation.tasks.arrays import read_npz
from evaluation.tasks.raw import RawOptions, read_raw
from evaluation.tasks.shards import read_shards
from evaluation.tasks.task import EvalTask


def open_task(path: Path, kind: Kind | None, options: RawOptions) -> EvalTask:
    """Read a task of any form.

    Args:
        path: file or folder.
        kind: forced; by default what lies there.
        options: of raw images.

    Raises:
        EvaluationError: what is wrong with it, and what was expected.
        CorpusError, EncoderError: from the rooms that read and encode.
    """
    if is_raw(path):
        return read_raw(path, kind, options)
    if is_shard_folder(path):
        if kind not in (None, "retrieval"):
            raise EvaluationError("task_kind", f"{path} holds pairs without labels: it can only be a retrieval.")
        return read_shards(path)
    return read_npz(path, kind)


def with_different_names(tasks: list[EvalTask]) -> list[EvalTask]:
    """The same tasks; of those that share a name, the later ones get a number, for files are named after them."""
    taken: set[str] = set()
    named = []
    for task in tasks:
        name, number = task.name, 1
        while replace(task, name=name).slug in taken:
            number += 1
            name = f"{task.name} {number}"
        named.append(replace(task, name=name))
        taken.add(named[-1].slug)
    return named
