"""Lines of standard input, with those that are there told from those to come. Imports the console."""

import codecs
import io
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from reco.console import stop

Input = TypeVar("Input")

_AT_ONCE_BYTES = 64 << 10  # as much as a pipe holds, and more than Python's own buffer, which stays empty that way


class StandardInput:
    """The lines that are not blank, without the white space around them; what is no text ends the command."""

    def __init__(self) -> None:
        if sys.stdin is None:  # as Python has it where it was closed before the command began
            stop("standard input is closed", code=2)
        # The mark that editors put before UTF-8 is no part of the first line.
        encoding = "utf-8-sig" if codecs.lookup(sys.stdin.encoding).name == "utf-8" else sys.stdin.encoding
        decoder = codecs.getincrementaldecoder(encoding)(sys.stdin.errors or "strict")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._lines: deque[str] = deque()
        self._begun: list[str] = []  # parts of a line that has no end yet
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._lines:
            if self._ended:
                raise StopIteration
            self._read()
        return self._lines.popleft()

    def waits(self) -> bool:
        """Whether the next line would have to be waited for."""
        while not self._lines and not self._ended:
            if not _is_readable():
                return True
            self._read()
        return False

    def _read(self) -> None:
        """Take what is there, or wait until something is."""
        data = sys.stdin.buffer.read1(_AT_ONCE_BYTES)  # type: ignore[union-attr]
        self._ended = not data
        try:
            begin, *others = self._decoder.decode(data, final=self._ended).split("\n")
        except UnicodeDecodeError as error:
            stop(f"standard input: not {error.encoding.upper()}", code=2)
        self._begun.append(begin)
        for other in others:
            self._end_line()
            self._begun = [other]
        if self._ended:
            self._end_line()

    def _end_line(self) -> None:
        if line := "".join(self._begun).strip():
            self._lines.append(line)


def bursts(inputs: Iterator[Input], waits: Callable[[], bool]) -> Iterator[Iterator[Input]]:
    """The inputs, in runs that end where the next one has to be waited for; each is to be gone through before the next.

    Whoever asks a service for a run at a time answers at once where inputs are slow, in small requests, and where they
    are faster than the service, which a pipe then holds back, all are one run.
    """
    for first in inputs:
        yield _burst(first, inputs, waits)


def _burst(first: Input, inputs: Iterator[Input], waits: Callable[[], bool]) -> Iterator[Input]:
    yield first
    while not waits():
        try:
            yield next(inputs)
        except StopIteration:
            return


def _is_readable() -> bool:
    """Whether a read would return at once; yes where that cannot be told, as on Windows, which asks of sockets only."""
    try:
        return bool(select.select([sys.stdin.fileno()], [], [], 0)[0])
    except OSError:
        return True
