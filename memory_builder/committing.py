"""What a build did becomes a version: segments, the report of near-duplicates, indices, and at last the manifest."""

from collections.abc import Sequence
from pathlib import Path

from memory import Contents, Manifest, SegmentRecord, build_indexes, publish, write_deletes, write_removed
from memory_builder.config import BuildConfig
from memory_builder.interruption import Watch
from memory_builder.planning.plan import Plan
from memory_builder.planning.previous import Previous
from memory_builder.planning.task import Task
from memory_builder.reporting.near_duplicates import AddedDuplicates, report_near_duplicates
from memory_builder.units.books import Books
from memory_builder.units.segmenting import group_units, write_units
from memory_builder.units.store import UnitStore


class Commit:
    """The commit of one build, under its lock."""

    def __init__(self, config: BuildConfig, task: Task, previous: Previous, books: Books, watch: Watch) -> None:
        self._config, self._task, self._watch = config, task, watch
        self._root: Path = config.memory
        self._previous, self._books = previous, books

    def run(self, plan: Plan, store: UnitStore) -> tuple[Manifest, AddedDuplicates]:
        """Write what is new as segments, index all segments, publish.

        Raises:
            memory.MemoryStoreError: write_failed, version_taken.
            BuildInterrupted: between two steps.
        """
        previous = self._previous.manifest
        new = self._write_segments(store)
        segments = (*(previous.segments if previous else ()), *new)
        duplicates = self._report_duplicates(segments, len(new))
        self._watch.stage("index")
        indexes = build_indexes(
            self._root,
            segments,
            options=self._config.index,
            previous=previous.indexes if previous else None,
            check=self._watch.stop.check,
        )
        self._watch.stage("publish")
        corpora = [*(previous.sources or {}).get("corpora", ())] if previous else []
        corpora += [name for name in _names(plan) if name not in corpora]
        replaced = self._books.replaced  # goes in the same commit as what takes its place
        contents = Contents(
            encoder=previous.encoder if previous else self._task.encoder,
            encoded_with=previous.encoded_with if previous else self._task.encoded_with,
            segments=segments,
            indexes=indexes,
            deletes=(
                *(previous.deletes if previous else ()),
                *([write_deletes(self._root, replaced)] if replaced else ()),
            ),
            removed=write_removed(self._root, self._books.removed),
            sources={"corpora": corpora},
            parent=previous.version if previous else None,
        )
        return publish(self._root, contents), duplicates

    def _write_segments(self, store: UnitStore) -> list[SegmentRecord]:
        self._watch.stage("segments")
        segments = []
        for units in group_units(self._books.finished, self._config.max_segment_rows):
            self._watch.stop.check()
            segments.append(write_units(self._root, store, units))
        return segments

    def _report_duplicates(self, segments: Sequence[SegmentRecord], added: int) -> AddedDuplicates:
        cosine = self._config.near_duplicates
        if not cosine:
            return AddedDuplicates(0, 0)
        self._watch.stage("duplicates")
        gone = self._previous.deleted.union(self._books.replaced)
        return report_near_duplicates(self._root, segments, added, cosine, gone=gone)


def _names(plan: Plan) -> list[str]:
    return list(dict.fromkeys(unit.reader.name for unit in plan.units))
