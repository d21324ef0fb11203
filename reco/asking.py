"""What the commands that ask a running service share: where it is, who asks, which images, and how it went."""

import errno
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.console import say, stop
from reco.counted import counted
from reco.standard_input import StandardInput

if TYPE_CHECKING:
    from reco_client import Client, RecoError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
WRONG_COMMAND = 2
_SHOWN = 80  # characters of an input that failed
_QUIET_S = 30.0  # between two lines that say that no answer comes
_NO_KEY = "the service takes a key: --key-file FILE, which holds it alone, or RECO_API_KEY."
_WRONG_KEY = "the service does not know the key of --key-file, RECO_API_KEY or RECO_API_KEY_FILE."

URL_HELP = "The service.  [RECO_URL, or http://127.0.0.1 at RECO_PORT, or 8000]"
Url = Annotated[str | None, typer.Option("--url", help=URL_HELP)]
KeyFile = Annotated[Path | None, typer.Option(help="File that holds the API key.  [RECO_API_KEY, RECO_API_KEY_FILE]")]
InFlight = Annotated[int, typer.Option(min=1, help="Requests under way at a time.")]
Inputs = Annotated[list[Path] | None, typer.Argument(help="Image files, and folders of them.", metavar="IMAGES")]


@contextmanager
def asking(
    url: str | None, key_file: Path | None, *, hints: Mapping[str, str] | None = None, **arguments: Any
) -> "Iterator[Client]":
    """A client; what goes wrong with it ends the command with one sentence.

    Args:
        hints: what to do about the service's answers, by their codes, where this command knows more than others.
        arguments: of `reco_client.Client`.
    """
    try:
        from reco_client import Client, ConnectionFailed, RecoError
    except ImportError:
        stop("this command needs the client: pip install ./client, or make install")
    try:
        client = Client(url, api_key=api_key(key_file), on_retry=_Waiting(), **arguments)
    except ValueError as error:  # what --url, --key-file or their variables hold
        stop(str(error), WRONG_COMMAND)
    except OSError as error:
        stop(f"RECO_API_KEY_FILE {error.filename}: {error.strerror}", WRONG_COMMAND)
    try:
        with client:
            yield client
    except ConnectionFailed as error:
        stop(f"{error} Start one with `reco serve` or `reco demo`, or name it with --url.")
    except RecoError as error:
        known = {"unauthorized": _WRONG_KEY if client.sends_key else _NO_KEY} | dict(hints or {})
        hint = known.get(str(getattr(error, "code", "")))
        stop(f"{hint} It answered: {error}" if hint else str(error))


class _Waiting:
    """Says at once that nobody answers and that the client asks again, not for each request and each attempt."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # requests under way fail side by side
        self._said_at = -math.inf

    def __call__(self, failure: "RecoError", attempt: int, wait_s: float) -> None:
        from reco_client import ConnectionFailed, Retries

        if isinstance(failure, ConnectionFailed):
            what, how_long = str(failure).partition(". ")[0], f", for up to {Retries().in_all_s:.0f} s"
        elif getattr(failure, "code", None) == "not_ready":
            what, how_long = str(failure), ""  # it says when to come back
        else:
            return  # a full service is asked again in silence
        with self._lock:
            if time.monotonic() - self._said_at < _QUIET_S:
                return
            self._said_at = time.monotonic()
        say(f"{what}; asking again{how_long}", style="yellow")


def api_key(file: Path | None) -> str | None:
    """The key that a file holds; None leaves it to the environment."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        stop(f"--key-file {file}: {getattr(error, 'strerror', None) or 'not text'}", WRONG_COMMAND)


def images_in(paths: Sequence[Path]) -> list[Path]:
    """The image files named, and those in the folders named, sorted folder by folder; a wrong name ends the command.

    Hidden files of a folder (`._x.jpg` is what macOS keeps beside x.jpg) are not taken, as in `reco build`; told if
    there is nothing else.
    """
    found, hidden = list[Path](), 0
    for path in paths:
        if path.is_dir():
            images = sorted(_images_under(path))
            found += (one for one in images if not one.name.startswith("."))
            hidden += sum(one.name.startswith(".") for one in images)
        elif path.exists():
            found.append(path)
        else:
            stop(f"{path} is not there", WRONG_COMMAND)
    if not found:
        but = f" (but {counted(hidden, 'hidden file')}, such as macOS' ._x.jpg)" if hidden else ""
        looked = f"looked for {' '.join(IMAGE_SUFFIXES)}"
        stop(f"no image in {', '.join(map(str, paths))}{but}: {looked}", WRONG_COMMAND)
    return found


def _images_under(folder: Path) -> Iterator[Path]:
    """Files of an image's name in any depth; hidden folders are not looked into."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root) / name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)


def lines_of(file: Path) -> Iterator[str]:
    """The lines of a text file that are not blank, without the mark that editors put first; - is standard input.

    A file that is not there ends the command here, and not with the first line.
    """
    if str(file) == "-":
        return StandardInput()
    if not file.exists():
        stop(f"{file}: {os.strerror(errno.ENOENT)}", WRONG_COMMAND)
    return _read(file)


def _read(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield from (line.strip() for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        stop(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}", WRONG_COMMAND)


def tell_failures(failed: Counter[str], first: str) -> None:
    """What could not be done, by code; ends the command with exit code 1 if there was anything."""
    if failed:
        # A text may be of thousands of characters; a file is known by the end of its path.
        short = first if len(first) <= _SHOWN else f"{first[: _SHOWN // 2]}…{first[-_SHOWN // 2 + 1 :]}"
        shown = short if short.isprintable() else json.dumps(short)  # a terminal obeys control characters
        [code, *_] = failed
        one = failed.total() == 1
        stop(f"{shown}: {code}" if one else f"{failed.total():,} failed: {codes_told(failed)}. The first: {shown}")


def codes_told(codes: Counter[str]) -> str:
    """How often each came, the most frequent first."""
    return ", ".join(f"{count:,} {code}" for code, count in codes.most_common())


def duration(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"
