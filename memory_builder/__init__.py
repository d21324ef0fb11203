"""Corpus to memory. Its folders build on each other one way (tests/test_house.py), and none on what drives them:

    readers/      a corpus as rows, format by format
    encoding/     rows to embeddings
    embeddings/   embeddings that were cached before, as rows that need no encoding
    reporting/    what a build tells of itself
    planning/     which units there are, and whether they can be done
    units/        finished units, kept and brought together
    engines/      who does the units, and on which machines
    builds, runner, committing   what drives them: a build begins, is done step by step, becomes a version

Imports models (encoder) and memory.

    result = build(BuildConfig(corpora=("photos/",), memory=Path("memory")), encoder)

Or from embeddings that were cached before, without a model:

    config = BuildConfig(corpora=("laion/",), memory=Path("memory"))
    readers = open_embeddings(config)
    result = build_from_embeddings(config, readers, Origin.undeclared("clip-vit-b32-openai", readers[0].embed_dim))

Importing it does not load torch: a command line can refuse a wrong corpus (readers/) before the encoder.
"""

from memory_builder.builds import (
    build,
    build_from_embeddings,
    build_share,
    check_corpora,
    forecast_build,
    forecast_from_embeddings,
    open_embeddings,
)
from memory_builder.config import BuildConfig
from memory_builder.embeddings import EmbeddingsReader, Origin
from memory_builder.errors import (
    BuildError,
    BuildInterrupted,
    ConfigError,
    CorpusError,
    EngineError,
    MemoryBuilderError,
    NothingUsable,
    OriginError,
    OutputError,
    TooManyRejected,
)
from memory_builder.planning.forecast import Forecast
from memory_builder.planning.sharing import Share, ShareResult
from memory_builder.reporting.build_result import BuildResult
from memory_builder.reporting.progress import Progress

__all__ = [
    "BuildConfig",
    "BuildError",
    "BuildInterrupted",
    "BuildResult",
    "ConfigError",
    "CorpusError",
    "EmbeddingsReader",
    "EngineError",
    "Forecast",
    "MemoryBuilderError",
    "NothingUsable",
    "Origin",
    "OriginError",
    "OutputError",
    "Progress",
    "Share",
    "ShareResult",
    "TooManyRejected",
    "build",
    "build_from_embeddings",
    "build_share",
    "check_corpora",
    "forecast_build",
    "forecast_from_embeddings",
    "open_embeddings",
]
