"""The sources of a task read through, and named as units: what a build begins with, and a forecast."""

from collections.abc import Callable, Sequence
from typing import Any

from memory import Manifest
from memory_builder.config import BuildConfig
from memory_builder.errors import CorpusError
from memory_builder.planning.plan import Plan, plan_units
from memory_builder.planning.task import Task
from memory_builder.readers import Piece, Reader


def plan_build(
    config: BuildConfig, task: Task, previous: Manifest | None, heard: Callable[[], None] = lambda: None
) -> Plan:
    """Scan the sources of a task and name their units.

    Args:
        config, task: what is built.
        previous: the version that grows.
        heard: called between pieces; may raise to stop: a source of millions of rows is scanned for minutes.

    Raises:
        CorpusError: a source is damaged or cannot be read; source_empty, if nothing is in any and nothing grows.
    """
    sources = []
    for reader in task.readers:
        pieces: list[Piece] = []
        for piece in reader.pieces(config.unit_rows):
            heard()
            pieces.append(piece)
        sources.append((reader, pieces))
    row_options = dict(task.row_options)
    if previous and (config.upsert or config.restore_removed):
        # What comes of a unit depends on what is stored, so no unit that was published is that unit.
        row_options["upsert"] = [previous.digest, config.upsert, config.restore_removed]
    plan = plan_units(sources, row_options=row_options, encoder=task.encoder)
    if not plan.units and previous is None:
        raise _empty([reader for reader, _ in sources])
    return plan.retried(previous) if previous and config.retry_failed else plan


def _empty(readers: Sequence[Reader[Any]]) -> CorpusError:
    """Of tars, each of which may be empty; what other sources are told when they are."""
    ignored = sum(reader.ignored for reader in readers)
    example = next((reader.example_ignored for reader in readers if reader.example_ignored), "")
    others = f", only members of other kinds ({ignored:,}, such as {example})" if ignored else ""
    return CorpusError(
        "source_empty",
        f"The corpus holds no image and no caption{others}. Of a tar, images are read, and the .txt, .caption or .json "
        "of their names, which end at the first dot.",
    )
