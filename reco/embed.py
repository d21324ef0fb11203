"""`reco embed`: images or texts to embeddings, from a running service."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.asking import (
    WRONG_COMMAND,
    InFlight,
    Inputs,
    KeyFile,
    Url,
    asking,
    duration,
    images_in,
    lines_of,
    tell_failures,
)
from reco.console import STOPPED, progress_bar, say, stop
from reco.counted import counted
from reco.standard_input import StandardInput, bursts

if TYPE_CHECKING:
    from reco.embedding_files import Output
    from reco_client import Client

_LESS = "ask less of it at a time with --in-flight, and go on with --resume."
_HINTS = {
    "queue_full": f"the service is busy; {_LESS}",  # it was full for as long as the client asks
    "rate_limited": f"the service takes fewer a second; {_LESS}",  # it asks for a longer wait than the client has
}


def embed(
    images: Inputs = None,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be given several times.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="A file with a text a line, blank ones left out; - is standard input.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=".npy or .jsonl; else lines of JSON on standard output."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier run stopped.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="The frozen encoder's own embeddings, not refined.")] = False,
    k: Annotated[int | None, typer.Option(min=1, help="Neighbours a query; else the fusion's own number.")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    in_flight: InFlight = 8,
) -> None:
    """Embed images or texts with a running service.

    Inputs stay in order: images by name, folder by folder; texts line by line, as they come. NAME.npy is an (N, D)
    float32 array, and NAME.items.jsonl says which input each row is. What cannot be embedded is told with its code, and
    the exit code is then 1. Examples:

        reco embed photos/ -o photos.npy

        reco embed --text "a photo of a puffin"

        cat captions.txt | reco embed --texts - -o captions.jsonl --resume
    """
    inputs, total, noun, waits = _inputs(images, text, texts)
    from reco.embedding_files import OutputError

    try:
        file = _open(output, resume=resume)
    except OutputError as error:
        stop(str(error), WRONG_COMMAND)
    failed: Counter[str] = Counter()
    first = ""
    asked = asking(url, key_file, hints=_HINTS, in_flight=in_flight)
    with _stopped(output), closing(file), asked as client, progress_bar() as bar:
        space, started = _space(client, plain), time.monotonic()
        if file.space not in (None, space):
            stop("the output holds embeddings of another vector space; name another file", WRONG_COMMAND)
        task = bar.add_task(f"embedding {noun}s", total=total, completed=len(file.done))
        options: dict[str, Any] = {"enhance": False} if plain else {}
        options |= {} if k is None else {"k": k}
        for some in bursts(_rest(inputs, file.done), waits):
            for key, vector, code in _embedded(client, some, noun, space, options):
                if code is None:
                    file.write(key, vector, space)
                else:
                    file.write_error(key, code)
                    failed[code] += 1
                    first = first or key
                bar.advance(task)
                if bar.tasks[0].completed % 64 == 0:
                    file.flush()
            file.flush()
        count = int(bar.tasks[0].completed) - len(file.done)
        file.finish()
        spent = max(time.monotonic() - started, 1e-9)
    where = f" in {output}" if output is not None else ""
    say(f"embedded {counted(count - failed.total(), noun)}{where}: {duration(spent)}, {count / spent:,.0f}/s")
    tell_failures(failed, first)


def _inputs(
    images: list[Path] | None, text: list[str] | None, texts: Path | None
) -> tuple[Iterable[tuple[str, Any]], int | None, str, Callable[[], bool]]:
    """Keys and inputs, how many if that is known, what they are, and whether the next has to be waited for."""
    if bool(images) == bool(text or texts):
        stop("name either images or texts: reco embed photos/, or --text, or --texts FILE", WRONG_COMMAND)
    if images:
        found = images_in(images)
        return ((str(path), path) for path in found), len(found), "image", _never
    typed = StandardInput() if texts is not None and str(texts) == "-" else None
    lines = typed or (lines_of(texts) if texts is not None else ())
    chained = itertools.chain(text or (), lines)
    total = None if texts is not None else len(text or ())
    return ((one, one) for one in chained), total, "text", typed.waits if typed else _never


def _never() -> bool:
    return False


@contextmanager
def _stopped(output: Path | None) -> Iterator[None]:
    """What Ctrl-C says where the same command, given again, would be refused."""
    try:
        yield
    except KeyboardInterrupt:
        if output is None:
            raise
        stop(f"stopped: the same command with --resume goes on with {output}", STOPPED)


def _open(output: Path | None, *, resume: bool) -> "Output":
    from reco.embedding_files import ArrayFile, JsonLines

    if output is not None and output.suffix not in (".npy", ".jsonl"):
        stop(f"{output}: the output is a .npy or a .jsonl file", WRONG_COMMAND)
    if resume and output is None:
        stop("--resume needs the --output to go on with", WRONG_COMMAND)
    if output is not None and not output.parent.is_dir():
        stop(f"{output.parent} is no folder", WRONG_COMMAND)
    return ArrayFile(output, resume=resume) if output and output.suffix == ".npy" else JsonLines(output, resume=resume)


def _space(client: "Client", plain: bool) -> str:
    memory = client.memory()
    space: str = memory["original_space"] if plain else memory["space"]
    return space


def _rest(inputs: Iterable[tuple[str, Any]], done: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The inputs that are not done; those that are must be the same as then."""
    remaining = iter(inputs)
    for key in done:
        if next(remaining, (None,))[0] != key:
            stop("the inputs are not those of the run to go on with; name another output", WRONG_COMMAND)
    return remaining


def _embedded(
    client: "Client", inputs: Iterable[tuple[str, Any]], noun: str, space: str, options: dict[str, Any]
) -> Iterator[tuple[str, Any, str | None]]:
    """Key, embedding (D,), and the code of what is wrong with it, one after the other."""
    for_keys, for_client = itertools.tee(inputs)
    stream = client.stream_images if noun == "image" else client.stream_texts
    place = 0
    for part in stream((content for _, content in for_client), on_error="partial", **options):
        if part.degraded:
            stop("the memory is away, and plain vectors cannot be mixed with refined ones: --resume when it is back")
        if part.space not in ("", space):
            stop("the service changed its fusion meanwhile, and vectors of both cannot be mixed: begin anew")
        for row, (key, _) in enumerate(itertools.islice(for_keys, len(part))):
            error = part.errors.get(place)
            yield key, part.vectors[row], None if error is None else error.code
            place += 1
