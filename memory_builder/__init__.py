"""Corpus to memory: plan, readers, mapper, units, runner. Imports models (encoder) and memory.

    result = build(BuildConfig(corpora=("photos/",), memory=Path("memory")), encoder)

Or from embeddings that were cached before, without a model:

    config = BuildConfig(corpora=("laion/",), memory=Path("memory"))
    readers = open_embeddings(config)
    result = build_from_embeddings(config, readers, Origin.undeclared("clip-vit-b32-openai", readers[0].embed_dim))

Importing it does not load torch: a command line can refuse a wrong corpus (corpora.py, readers/) before the encoder.
"""

from memory_builder.build_result import BuildResult
from memory_builder.builds import (
    build,
    build_from_embeddings,
    build_share,
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
from memory_builder.forecast import Forecast
from memory_builder.progress import Progress
from memory_builder.sharing import Share, ShareResult

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
    "forecast_build",
    "forecast_from_embeddings",
    "open_embeddings",
]
