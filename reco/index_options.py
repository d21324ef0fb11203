"""`reco build`'s options of the index, and `--reindex`: the logic is in memory/."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reco.console import console, stop
from reco.memory_tables import index_line, show_json, show_table
from reco.shell_words import shell
from reco.stamps import stamp_directory

if TYPE_CHECKING:
    from memory import IndexOptions

_INDEX = "The index; without these it follows the memory's size, and what it was asked before"

Recall = Annotated[
    float | None,
    typer.Option(
        help="Share of the 10 nearest neighbours that searches are to find, measured on held-out rows. [0.99]",
        rich_help_panel=_INDEX,
    ),
]
MaxBytesPerPair = Annotated[
    int | None,
    typer.Option(
        help="Bytes of index a pair may cost, both modalities together; at D = 512 about 2050 is exact, 1080 8-bit "
        "codes, 200 1-bit codes.",
        rich_help_panel=_INDEX,
    ),
]
IndexFactory = Annotated[
    str | None,
    typer.Option(
        help="Instead of choosing: exact, or FAISS's words IVF,SQ8, IVF,RaBitQ, IVF,RaBitQfs, with or without a number "
        "of lists, as in IVF4096,SQ8.",
        metavar="WORDS",
        rich_help_panel=_INDEX,
    ),
]
Reindex = Annotated[
    bool,
    typer.Option(
        "--reindex",
        help="Encode nothing: choose, train and measure the indices of -o MEMORY anew, as a new version, like "
        "`reco build --reindex -o MEMORY --max-bytes-per-pair 256`.",
        rich_help_panel=_INDEX,
    ),
]


def index_options(recall: float | None, max_bytes_per_pair: int | None, factory: str | None) -> "IndexOptions | None":
    """What was asked of the index; None if nothing was."""
    from memory import IndexOptions, IndexOptionsInvalid

    if recall is None and max_bytes_per_pair is None and factory is None:
        return None
    recall = IndexOptions.recall if recall is None else recall
    try:
        return IndexOptions(recall=recall, max_bytes_per_pair=max_bytes_per_pair, factory=factory)
    except IndexOptionsInvalid as error:
        stop(f"{error}", code=2)


def reindex(memory: Path, options: "IndexOptions | None", *, as_json: bool = False) -> None:
    """Make new indices and tell what came of it."""
    from memory import IndexOptionsInvalid, Memory
    from memory import reindex as reindex_memory

    console.print("training and measuring the indices")
    try:
        done = reindex_memory(memory, options, stamps=stamp_directory())
    except IndexOptionsInvalid as error:
        stop(f"{error}", code=2)
    with Memory.open(memory, stamps=stamp_directory()) as opened:
        indices = opened.indices()
    if as_json:
        show_json({"version": done.after.version, "created": done.created, "indices": indices})
        return
    show_table(
        f"{memory}: " + ("indexed anew" if done.created else "the indices came out as they were"),
        [
            ("version", f"{done.before.version} -> {done.after.version}" if done.created else str(done.after.version)),
            *((f"{index['modality']} index", index_line(index)) for index in indices),
        ],
        next_step=f"reco memory gc {shell(memory)} --keep 1 frees the old indices" if done.created else "",
    )
