"""The engine that has a Ray cluster do the units."""

import os
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memory.format.work_files import WORK
from memory_builder.config import BuildConfig
from memory_builder.encoding.mapper import Checkpoint
from memory_builder.engines.engine import Job
from memory_builder.engines.ray.worker import Assignment, EncoderSource
from memory_builder.planning.plan import Unit
from memory_builder.units.store import UnitStore


class RayEngine:
    """As in Engine, within `connected`.

    A machine that comes is given work, one that goes has its units done again by the others.
    """

    def __init__(
        self,
        config: BuildConfig,
        source: EncoderSource,
        record: Mapping[str, Any],
        say: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        """Prepare.

        Args:
            config: of the build; with `workers` 0 a worker has all cores of its machine, or of its GPU's share of it,
                that other work leaves.
            source: what the machines open the encoder from.
            record: of the encoder that names the units; another one found on a machine is refused.
            say: told, in a sentence for people, what the build waits for.
        """
        self._config, self._source, self._record, self._say = config, source, record, say

    def finish(self, units: Sequence[Unit], job: Job, checkpoint: Checkpoint) -> Generator[str, None, None]:
        """As in Engine; also raises EngineError: engine_empty, engine_paths, engine_version,
        engine_workers_lost."""
        from memory_builder.engines.ray.crew import Crew  # Ray with it, which is an extra

        # What is there under a unit's name is half of it, or would come out differently today; workers replace nothing.
        UnitStore(job.root).remove(unit.id for unit in units)
        readers = tuple({id(unit.reader): unit.reader for unit in units}.values())
        with _token(job.root) as token:
            assignment = Assignment(self._config, self._source, job.known, readers, str(Path.cwd()), token)
            crew = Crew(assignment, self._record, self._say)
            try:
                yield from crew.finish(units, checkpoint, job.lanes)
            finally:
                crew.dismiss()


@contextmanager
def _token(root: Path) -> Iterator[str]:
    """A file in the work folder; its name is one that the next build sweeps, should this one be killed."""
    name = f".tmp-{os.getpid()}-{secrets.token_hex(8)}"
    path = root / WORK / name
    path.touch()
    try:
        yield name
    finally:
        path.unlink(missing_ok=True)
