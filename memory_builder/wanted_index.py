"""The index that a memory is going to have: asked before work begins. Imports memory's choice of families."""

from memory import IndexOptions, Manifest
from memory.indexing.families import Family
from memory.indexing.options import choose_family
from memory.indexing.reports import read_report, wanted_options
from memory_builder.config import BuildConfig


def wanted_family(config: BuildConfig, previous: Manifest | None, new_rows: int, embed_dim: int) -> Family:
    """The family of indices, by the rows there will be.

    Args:
        config: of the build.
        previous: the version that grows.
        new_rows: at most, to be added.
        embed_dim: D.

    Raises:
        memory.IndexOptionsInvalid: no index can be what is wanted.
    """
    held = sum(segment.rows for segment in previous.segments) if previous else 0
    return choose_family(max(1, new_rows + held), embed_dim, _options(config, previous))


def _options(config: BuildConfig, previous: Manifest | None) -> IndexOptions:
    """What is asked of the index now, or was asked of the one that grows."""
    if config.index is not None or previous is None:
        return config.index or IndexOptions()
    return wanted_options(read_report(config.memory, previous.indexes["image"]))
