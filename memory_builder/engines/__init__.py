"""Who does the units of a build, and on which machine. One file per engine; the commit is never theirs."""

from memory_builder.engines.engine import Engine, Job
from memory_builder.engines.local import LocalEngine

__all__ = ["Engine", "Job", "LocalEngine"]
