"""Corpus to memory: plan, readers, mapper, units, runner. Imports models (encoder) and memory.

    result = build(BuildConfig(corpora=("photos/",), memory=Path("memory")), encoder)

Importing it does not load torch: a command line can refuse a wrong corpus (corpora.py, readers/) before the encoder.
"""

from memory_builder.config import BuildConfig
from memory_builder.errors import (
    BuildError,
    BuildInterrupted,
    ConfigError,
    CorpusError,
    MemoryBuilderError,
    NothingUsable,
    OutputError,
    TooManyRejected,
)
from memory_builder.progress import Progress
from memory_builder.runner import BuildResult, build

__all__ = [
    "BuildConfig",
    "BuildError",
    "BuildInterrupted",
    "BuildResult",
    "ConfigError",
    "CorpusError",
    "MemoryBuilderError",
    "NothingUsable",
    "OutputError",
    "Progress",
    "TooManyRejected",
    "build",
]
