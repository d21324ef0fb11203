"""Where images are decoded: in threads beside an encoder on a CPU, in processes beside an accelerator.

Decoding holds the interpreter for a third of its time. Threads that decode for an accelerator keep it from the thread
that feeds the accelerator: beside 14 of them a batch that takes 1.5 ms took 14 (docs/gpu.md). Processes cost a copy of
the file and one of the pixels. Each has a socket that the event loop itself reads: a pool with threads of its own,
which carry what they pickle, took the interpreter for as long as the whole rest of an image's path.
"""

import asyncio
import multiprocessing
import socket
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from typing import Protocol

import torch

from models.images.decode_process import ANSWER, LENGTH, PIXELS, REFUSED, pixels_shape, serve
from models.images.headers import image_error
from models.images.preprocessor import Preprocessor
from service.pipeline.batch import BatcherStopped

_HANGS_AFTER_S = 60.0  # the largest image that is accepted takes two seconds
_TRIES = 3  # to find a place with a process, or one where one can be begun


class Decoders(Protocol):
    """What the pipeline asks of them."""

    async def decode(self, data: bytes) -> torch.Tensor:
        """An image file to the encoder's input, (3, S, S); raises ImageError."""
        ...

    def start(self) -> None:
        """Be ready to decode; blocks meanwhile."""

    def stop(self) -> None:
        """Drop what waits, and end."""


class DecodeThreads:
    """As Decoders."""

    def __init__(self, preprocess: Preprocessor, workers: int, *, raw: bool) -> None:
        """Threads; `raw` pixels or normalised ones, as the encoder takes them."""
        self._preprocess, self._raw = preprocess, raw
        self._pool = ThreadPoolExecutor(workers, "reco-decode", torch.set_num_threads, (1,))

    async def decode(self, data: bytes) -> torch.Tensor:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._decode, data)

    def start(self) -> None:
        """Threads start by themselves."""

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, data: bytes) -> torch.Tensor:
        return self._preprocess(data, raw=self._raw)


class DecodeProcesses:
    """As Decoders, for one event loop; the pixels are raw.

    A process that dies or hangs takes one image with it, which another process gets: an image that ends both is
    undecodable.
    """

    def __init__(self, preprocess: Preprocessor, workers: int) -> None:
        self._seats = [_Seat(preprocess) for _ in range(workers)]
        self._free = deque(self._seats)  # taken from the right: the last used has its parts in a core's cache
        self._turns = asyncio.Semaphore(workers)  # in the order of coming; a queue lets who comes later go first
        self._stopping = False

    async def decode(self, data: bytes) -> torch.Tensor:
        ended = not_begun = 0
        while ended < 2:
            await self._turns.acquire()
            work = asyncio.ensure_future(self._decode(self._free.pop(), data))
            work.add_done_callback(_hear)
            try:
                return await asyncio.shield(work)  # who leaves does not leave half an answer in the socket
            except _ProcessEndedError:
                ended += 1
            except OSError:  # no image's fault, and another place may have a process
                not_begun += 1
                if not_begun == _TRIES:
                    raise
        raise image_error("image_undecodable")

    def start(self) -> None:
        """The first process loads torch, which takes longer than a request may; the others are forked from it."""
        for seat in self._seats:
            seat.begin()

    def stop(self) -> None:
        self._stopping = True
        for seat in self._seats:
            seat.kill()
        for seat in list(self._free):
            seat.hang_up()

    async def _decode(self, seat: "_Seat", data: bytes) -> torch.Tensor:
        put_back = self._free.append
        try:
            if self._stopping:
                raise BatcherStopped
            return await seat.decode(data)
        except OSError:  # no process can be begun there: taken first again, it would fail whoever comes
            put_back = self._free.appendleft
            raise
        except _ProcessEndedError:
            if self._stopping:
                raise BatcherStopped from None
            raise
        finally:
            if self._stopping:
                seat.hang_up()
            put_back(seat)
            self._turns.release()


def _hear(work: "asyncio.Future[torch.Tensor]") -> None:
    """Of an error that nobody waits for any more; asyncio would log it as one that was forgotten."""
    if not work.cancelled():
        work.exception()


class _ProcessEndedError(Exception):
    """The process that had an image is gone."""


class _Seat:
    """A place for one process that decodes an image at a time; who comes when it is empty begins another."""

    def __init__(self, preprocess: Preprocessor) -> None:
        self._preprocess, self._shape = preprocess, pixels_shape(preprocess)
        self.process: ForkServerProcess | None = None
        self._socket: socket.socket | None = None

    def begin(self) -> None:
        """Have a process; blocks until it is there.

        Raises:
            OSError: the system has no room for one, or it ended as it began.
        """
        # Not fork: this process has threads, and torch's do not survive it.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["models.images.fork_server"])
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = context.Process(target=serve, args=(theirs, self._preprocess), daemon=True)
                self.process.start()
            if not ours.recv(ANSWER.size):
                raise ChildProcessError("a process that decodes ended as it began")
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        self._socket = ours

    def kill(self) -> None:
        """End the process; whoever waits for its answer hears of it."""
        if self.process is not None and self.process.pid is not None:
            self.process.kill()
            self.process.join()

    def hang_up(self) -> None:
        """Have no process any more, as far as this side knows; in the event loop, or where nobody decodes."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    async def decode(self, data: bytes) -> torch.Tensor:
        """An image file to raw pixels, (3, S, S) uint8.

        Raises:
            ImageError: as `Preprocessor.decode`.
            _ProcessEndedError: before there was an answer.
            OSError: there was none, and none can be begun.
        """
        if self._socket is not None and _has_hung_up(self._socket):  # while it had nothing to do: no image's fault
            await self._end()
        if self._socket is None:
            await asyncio.to_thread(self.begin)
        assert self._socket is not None, "begun"
        try:
            async with asyncio.timeout(_HANGS_AFTER_S):
                kind, answer = await self._exchange(self._socket, data)
        except BaseException as error:  # what is left of the answer would be taken for the next one's
            await self._end()
            if isinstance(error, OSError | EOFError):
                raise _ProcessEndedError from None
            raise
        if kind == PIXELS:
            return answer
        told = answer.numpy().tobytes().decode()
        raise image_error(told) if kind == REFUSED else RuntimeError(f"a decoder failed:\n{told}")

    async def _end(self) -> None:
        self.hang_up()
        await asyncio.to_thread(self.kill)

    async def _exchange(self, connection: socket.socket, data: bytes) -> tuple[int, torch.Tensor]:
        """What an answer holds, and that: pixels, or the bytes of a text."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, LENGTH.pack(len(data)))
        await loop.sock_sendall(connection, data)
        kind, length = ANSWER.unpack(await _receive(connection, bytearray(ANSWER.size)))
        answer = torch.empty(self._shape if kind == PIXELS else (length,), dtype=torch.uint8)
        await _receive(connection, answer.numpy().data.cast("B"))
        return kind, answer


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the other side has, where it has nothing to say."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


async def _receive(connection: socket.socket, place: bytearray | memoryview) -> memoryview:
    """Fill a place; raises EOFError where the other side has hung up."""
    loop, rest = asyncio.get_running_loop(), memoryview(place)
    while rest:
        count = await loop.sock_recv_into(connection, rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return memoryview(place)
