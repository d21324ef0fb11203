"""The index that a memory is going to have: asked before work begins. Pure but for the report of the index it has."""

from pathlib import Path

from memory.format.families import Family
from memory.format.manifest import Manifest
from memory.indexing.options import IndexOptions, choose_family
from memory.indexing.reports import read_report, wanted_options


def wanted_family(
    root: Path, previous: Manifest | None, options: IndexOptions | None, *, new_rows: int, embed_dim: int
) -> Family:
    """The family of indices, by the rows there will be.

    Args:
        root: the memory's directory.
        previous: the version that grows.
        options: what is asked of the index now; None asks for what was asked of `previous`, or for the defaults.
        new_rows: at most, to be added.
        embed_dim: D.

    Raises:
        IndexOptionsInvalid: no index can be what is wanted.
    """
    held = previous.num_rows if previous else 0
    if options is None and previous is not None:
        options = wanted_options(read_report(root, previous.indexes["image"]))
    return choose_family(max(1, new_rows + held), embed_dim, options or IndexOptions())
