"""`reco bench`: how fast a running service answers, and how it behaves under more than it can do."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reco.asking import URL_HELP, WRONG_COMMAND, KeyFile, api_key, asking, codes_told, images_in, lines_of
from reco.console import WIDE, console, stop
from reco.counted import counted

if TYPE_CHECKING:
    from reco.load import Request

_IMAGES = 32  # different ones: a service may keep what it has seen
_MAX_CONCURRENCY = 4096


def bench(
    url: Annotated[str | None, typer.Argument(help=URL_HELP)] = None,
    what: Annotated[str, typer.Option(help="images, texts or both.")] = "both",
    images: Annotated[Path | None, typer.Option(help="A folder of JPEGs to send; drawn ones of 640×480 else.")] = None,
    texts: Annotated[Path | None, typer.Option(help="A file with a text a line to send; captions if left out.")] = None,
    concurrency: Annotated[
        str, typer.Option("--concurrency", "-c", help="Requests at a time; several in turn.")
    ] = "1,8,32",
    seconds: Annotated[float, typer.Option(min=0.1, help="For each line of the table.")] = 10.0,
    batch: Annotated[int, typer.Option(min=1, help="Items in a request.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="The frozen encoder's own embeddings.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object on standard output.")] = False,
    key_file: KeyFile = None,
) -> None:
    """Load a running service, and tell rates, latencies and refusals.

    Nothing is tried again: a refusal is counted by its code, and where no request was answered the exit code is 1. This
    client uses the processor too: on the service's own machine its share is missing from the result. Examples:

        reco bench

        reco bench http://10.0.0.5:8000 --what images --images photos/ -c 1,32,128 --seconds 30 --json
    """
    if what not in ("images", "texts", "both"):
        stop(f"--what is images, texts or both, not {what}", WRONG_COMMAND)
    for option, path in (("images", images), ("texts", texts)):
        if path is not None and what not in (option, "both"):
            stop(f"--{option} with --what {what}: leave one of them out", WRONG_COMMAND)
    levels = _levels(concurrency)
    loads = _loads(what, images, texts, batch, False if plain else None)
    with asking(url, key_file) as client:
        memory, address = client.memory(), client.url
    told = []
    for name, requests in loads.items():
        for level in levels:
            with console.status(f"{name}, {level} at a time, {seconds:g} s"):
                told.append({"what": name, **_measure(address, key_file, requests, level, (seconds, timeout))})
    refined = "plain" if plain or not memory["enhancement"] else "refined"
    head = {"url": address, "model": memory["model"], "memory_version": memory["memory_version"]}
    result = {**head, "items": memory["num_items"], "embeddings": refined, "batch": batch, "results": told}
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        _show(result)
    _refuse_unanswered(told)


def _levels(words: str) -> list[int]:
    levels = [int(word) for word in words.split(",") if word.strip().isdigit()]
    if not levels or len(levels) != len(words.split(",")) or not all(1 <= one <= _MAX_CONCURRENCY for one in levels):
        stop(f"--concurrency is a number or several, such as 1,8,32, each up to {_MAX_CONCURRENCY}", WRONG_COMMAND)
    return levels


def _loads(
    what: str, images: Path | None, texts: Path | None, batch: int, enhance: bool | None
) -> "dict[Literal['images', 'texts'], list[Request]]":
    from reco.load import image_requests, text_requests

    loads: dict[Literal["images", "texts"], list[Request]] = {}
    if what != "texts":
        files = [_read(path) for path in images_in([images])] if images is not None else _drawn()
        loads["images"] = image_requests(files, batch, enhance=enhance)
    if what != "images":
        lines = list(lines_of(texts)) if texts is not None else _captions()
        if not lines:
            stop(f"{texts} holds no text", WRONG_COMMAND)
        loads["texts"] = text_requests(lines, batch, enhance=enhance)
    return loads


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:  # a link to nowhere, or another user's
        stop(f"{path} cannot be read: {error.strerror}", WRONG_COMMAND)


def _measure(
    address: str, key_file: Path | None, requests: "list[Request]", level: int, limits: tuple[float, float]
) -> dict[str, Any]:
    import asyncio

    import httpx

    from reco.load import measure
    from reco_client.settings import http_arguments

    seconds, timeout = limits

    async def run() -> dict[str, Any]:
        arguments = http_arguments(address, api_key(key_file), timeout, level)
        async with httpx.AsyncClient(**arguments) as client:
            return (await measure(client, requests, concurrency=level, seconds=seconds)).summary()

    return asyncio.run(run())


def _refuse_unanswered(rows: list[dict[str, Any]]) -> None:
    """End with exit code 1 where no request of images, or none of texts, was answered: no rate was measured."""
    for what in dict.fromkeys(row["what"] for row in rows):
        codes = sum((Counter(row["codes"]) for row in rows if row["what"] == what), Counter[str]())
        if not any(row["requests"] for row in rows if row["what"] == what):
            stop(f"no request of {what} was answered: {codes_told(codes)}")


def _drawn() -> list[bytes]:
    """Different 640×480 JPEGs, as large as photographs of that size are."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    files = []
    for _ in range(_IMAGES):
        coarse = chance.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = chance.normal(0, 8, (480, 640, 1)).astype(np.int16)
        file = io.BytesIO()
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def _captions() -> list[str]:
    colours, birds = ("red", "brown", "grey", "white"), ("songbird", "duck", "raptor", "parrot", "swift", "wader")
    places = ("on a branch", "in the snow", "over the water")
    return [f"a photo of a {colour} {bird} {place}" for colour in colours for bird in birds for place in places]


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = WIDE  # in a pipe a row is a line
    batch = f", {result['batch']} a request" if result["batch"] > 1 else ""
    out.print(
        f"[bold]{escape(result['url'])}[/]  {escape(result['model'])}, {result['embeddings']} embeddings{batch}, "
        f"memory version {result['memory_version']} with {counted(result['items'], 'item')}"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("", "at a time", "items/s", "p50 ms", "p95 ms", "p99 ms", "requests", "failed"):
        table.add_column(name, justify="left" if not name else "right")
    last = ""
    for row in result["results"]:
        numbers = [f"{row['items_per_s']:,.1f}", *(_milliseconds(row[f"p{p}_ms"]) for p in (50, 95, 99))]
        name = row["what"] if row["what"] != last else ""
        last = row["what"]
        table.add_row(name, str(row["concurrency"]), *numbers, f"{row['requests']:,}", _failures(row))
    out.print(table)


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _failures(row: dict[str, Any]) -> str:
    if not row["failed"]:
        return "0"
    return f"[yellow]{codes_told(Counter(row['codes']))}[/] (p50 {_milliseconds(row['failed_p50_ms'])} ms)"
