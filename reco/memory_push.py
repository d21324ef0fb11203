"""`reco memory push`: copy a memory into Milvus; the logic is in memory/milvus/."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from reco.backend import TokenFile, Uri, milvus_server
from reco.console import Bar, stop
from reco.inspect import MemoryPath
from reco.memory_tables import show_table
from reco.shell_words import shell
from reco.stamps import stamp_directory

Name = Annotated[str, typer.Option(help="What to call it there: letters, digits and _.", metavar="NAME")]
Index = Annotated[
    str,
    typer.Option(
        help="auto (FLAT up to 50,000 items, else HNSW), FLAT, HNSW, HNSW_SQ, IVF_FLAT, IVF_SQ8, IVF_RABITQ, DISKANN."
    ),
]
IndexParams = Annotated[
    str | None, typer.Option(help="Milvus' build parameters over our defaults, as JSON.", metavar="JSON")
]
SearchParams = Annotated[
    str | None, typer.Option(help="Milvus' search parameters over our defaults, as JSON.", metavar="JSON")
]


def push(
    memory: MemoryPath,
    uri: Uri = None,
    name: Name = "reco",
    index: Index = "auto",
    index_params: IndexParams = None,
    search_params: SearchParams = None,
    token_file: TokenFile = None,
) -> None:
    """Copy a memory into Milvus, check it there, and name it. Broken off, the same command goes on.

    Each push makes a collection of its own; the name is turned to it when all is checked, so who has the old one open
    keeps it. Example:

        reco memory push my-memory --uri http://127.0.0.1:19530 --name birds
    """
    from memory import Memory
    from memory.milvus import choose_index, connect
    from memory.milvus import push as push_memory

    server = milvus_server(uri, token_file)
    building, searching = _object(index_params, "--index-params"), _object(search_params, "--search-params")
    with Memory.open(Path(memory), stamps=stamp_directory()) as opened:
        choice = choose_index(index, opened.num_items, building, searching)
        bar = Bar("copying")
        try:
            done = push_memory(opened, connect(server), name, choice, bar.update)
        finally:
            bar.close()
        show_table(
            f"{name} at {server.shown}",
            [
                ("items", f"{opened.num_items:,}, {done.written:,} written now"),
                ("collection", done.collection),
                ("index", choice.index_type),
                ("neighbours", f"{100 * done.agreement:.1f} % of the 10 nearest as the memory itself finds them"),
                ("memory version", f"{opened.version}, digest {opened.digest[:16]}"),
                *(
                    [("replaced", f"{done.replaced}, still there: drop it when nobody uses it")]
                    if done.replaced
                    else []
                ),
            ],
            next_step=f"reco serve --memory {shell(name)} --backend milvus --uri {shell(server.shown)} ...",
        )


def _object(text: str | None, option: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        stop(f"{option} takes a JSON object, like '{{\"ef\": 256}}'", code=2)
    return value
