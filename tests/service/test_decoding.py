"""Where images are decoded: threads and processes give the same, and a process that dies costs nobody an answer."""

import asyncio
import errno
import gc
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from poisoned_preprocessor import FAULT, POISON, Poisoned

from models.encoder import Encoder
from models.errors import ImageError
from models.images.preprocessor import Preprocessor
from service.pipeline.batch import BatcherStopped
from service.pipeline.decoding import DecodeProcesses, DecodeThreads


@pytest.fixture
def processes(encoder: Encoder) -> Iterator[DecodeProcesses]:
    decoders = DecodeProcesses(encoder.preprocess, 2)
    yield decoders
    decoders.stop()


def _no_room(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _pids(processes: DecodeProcesses) -> list[int]:
    return [seat.process.pid for seat in processes._seats if seat.process is not None and seat.process.pid is not None]


def test_processes_give_the_raw_pixels_that_threads_give(
    processes: DecodeProcesses, encoder: Encoder, photo_bytes: dict[str, bytes]
) -> None:
    threads = DecodeThreads(encoder.preprocess, 2, raw=True)
    for name in ("jpeg", "png_alpha", "webp", "cmyk_jpeg"):
        ours, theirs = (asyncio.run(one.decode(photo_bytes[name])) for one in (processes, threads))
        assert ours.dtype == torch.uint8
        assert torch.equal(ours, theirs)
    threads.stop()


def test_what_cannot_be_decoded_keeps_its_code(processes: DecodeProcesses, photo_bytes: dict[str, bytes]) -> None:
    for data, code in ((b"", "image_empty"), (photo_bytes["jpeg"][:300], "image_truncated")):
        with pytest.raises(ImageError) as caught:
            asyncio.run(processes.decode(data))
        assert caught.value.code == code


def test_X34_processes_that_die_are_replaced_and_their_images_decoded(
    processes: DecodeProcesses, encoder: Encoder, photo_bytes: dict[str, bytes]
) -> None:
    """Both are killed while forty images wait: all forty are answered."""
    expected = encoder.preprocess(photo_bytes["jpeg"], raw=True)

    async def forty() -> list[torch.Tensor]:
        processes.start()
        victims = _pids(processes)
        killer = threading.Timer(0.01, lambda: [os.kill(pid, signal.SIGKILL) for pid in victims])
        killer.start()
        found = await asyncio.gather(*(processes.decode(photo_bytes["jpeg"]) for _ in range(40)))
        killer.join()
        assert not set(victims) & set(_pids(processes))
        return found

    assert all(torch.equal(one, expected) for one in asyncio.run(forty()))


def test_X34_an_image_that_ends_its_process_is_the_only_one_that_fails(
    encoder: Encoder, photo_bytes: dict[str, bytes]
) -> None:
    good = photo_bytes["jpeg"]
    decoders = DecodeProcesses(cast(Preprocessor, Poisoned(encoder.preprocess)), 2)

    async def all_at_once() -> list[torch.Tensor | BaseException]:
        images = [*[good] * 20, good + POISON, *[good] * 20]
        return await asyncio.gather(*map(decoders.decode, images), return_exceptions=True)

    async def twice() -> list[list[torch.Tensor | BaseException]]:
        return [await all_at_once() for _ in range(2)]

    for found in asyncio.run(twice()):
        culprit = found.pop(20)
        assert isinstance(culprit, ImageError) and culprit.code == "image_undecodable"
        assert all(isinstance(one, torch.Tensor) for one in found)
    decoders.stop()


def test_who_leaves_before_an_answer_spoils_nobody_elses(
    processes: DecodeProcesses, encoder: Encoder, photo_bytes: dict[str, bytes]
) -> None:
    expected = encoder.preprocess(photo_bytes["webp"], raw=True)

    async def leave_often() -> list[torch.Tensor]:
        found = []
        for _ in range(10):
            leaving = [asyncio.ensure_future(processes.decode(photo_bytes["jpeg"])) for _ in range(5)]
            await asyncio.sleep(0.002)  # two are being decoded, the others wait
            for one in leaving:
                one.cancel()
            found.append(await asyncio.wait_for(processes.decode(photo_bytes["webp"]), 10))
        return found

    processes.start()
    assert all(torch.equal(one, expected) for one in asyncio.run(leave_often()))


def test_images_are_decoded_in_the_order_of_their_coming(encoder: Encoder) -> None:
    """One comes with every turn of the event loop, so also where one is done and the next is about to begin."""
    decoders, order = DecodeProcesses(encoder.preprocess, 1), list[int]()

    async def one(number: int) -> None:
        with pytest.raises(ImageError):
            await decoders.decode(b"")
        order.append(number)

    async def come() -> None:
        tasks = []
        for number in range(500):
            tasks.append(asyncio.ensure_future(one(number)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    decoders.start()
    asyncio.run(come())
    decoders.stop()
    assert order == sorted(order)


def test_an_error_that_nobody_waits_for_is_not_logged(processes: DecodeProcesses) -> None:
    told = []

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        leaving = [asyncio.ensure_future(processes.decode(b"")) for _ in range(2)]
        await asyncio.sleep(0)  # they begin
        for one in leaving:
            one.cancel()
        with pytest.raises(ImageError):
            await processes.decode(b"")

    processes.start()
    asyncio.run(leave())
    gc.collect()
    assert not told


def test_an_answer_that_finds_no_memory_spoils_nobody_elses(
    encoder: Encoder, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = DecodeProcesses(encoder.preprocess, 1)

    async def fail_and_go_on() -> torch.Tensor:
        with monkeypatch.context() as full:
            full.setattr("torch.empty", lambda *_, **__: bytearray(2**62))
            with pytest.raises(MemoryError):
                await decoders.decode(photo_bytes["jpeg"])
        return await asyncio.wait_for(decoders.decode(photo_bytes["webp"]), 20)

    decoders.start()
    found = asyncio.run(fail_and_go_on())
    decoders.stop()
    assert torch.equal(found, encoder.preprocess(photo_bytes["webp"], raw=True))


def test_X34_a_process_that_ended_while_it_had_nothing_to_do_counts_against_no_image(
    encoder: Encoder, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one begun in its place ends, too: the first that had the image."""
    decoders = DecodeProcesses(encoder.preprocess, 1)
    decoders.start()
    (seat,) = decoders._seats
    begin, victims = seat.begin, list[int]()

    def kill() -> None:
        assert seat.process is not None and seat.process.pid is not None
        os.kill(seat.process.pid, signal.SIGKILL)
        seat.process.join()
        victims.append(seat.process.pid)

    def begin_in_vain() -> None:
        begin()
        if len(victims) == 1:
            kill()

    kill()
    monkeypatch.setattr(seat, "begin", begin_in_vain)
    asyncio.run(decoders.decode(photo_bytes["jpeg"]))
    assert len(victims) == 2
    decoders.stop()


def test_X34_a_process_that_hangs_is_ended_and_its_image_decoded_by_another(
    processes: DecodeProcesses, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.start()
    taken_next = _pids(processes)[-1]
    os.kill(taken_next, signal.SIGSTOP)
    monkeypatch.setattr("service.pipeline.decoding._HANGS_AFTER_S", 0.5)
    asyncio.run(asyncio.wait_for(processes.decode(photo_bytes["jpeg"]), 10))
    assert not Path(f"/proc/{taken_next}").exists()


def test_where_no_process_can_be_begun_the_others_go_on(
    processes: DecodeProcesses, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose_one() -> list[torch.Tensor]:
        await processes.decode(photo_bytes["jpeg"])
        os.kill(_pids(processes)[-1], signal.SIGKILL)  # of the one that is taken next
        monkeypatch.setattr("socket.socketpair", _no_room)
        return [await processes.decode(photo_bytes["jpeg"]) for _ in range(3)]

    processes.start()
    assert len(asyncio.run(lose_one())) == 3


def test_where_no_process_can_be_begun_at_all_the_image_is_not_to_blame(
    encoder: Encoder, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = DecodeProcesses(encoder.preprocess, 2)

    async def in_vain() -> None:
        monkeypatch.setattr("socket.socketpair", _no_room)
        with pytest.raises(OSError, match="Too many open files"):
            await decoders.decode(photo_bytes["jpeg"])

    asyncio.run(in_vain())


def test_a_fault_of_ours_is_told_as_one_and_the_process_goes_on(
    encoder: Encoder, photo_bytes: dict[str, bytes]
) -> None:
    decoders = DecodeProcesses(cast(Preprocessor, Poisoned(encoder.preprocess)), 1)

    async def fail_and_go_on() -> int | None:
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            await decoders.decode(photo_bytes["jpeg"] + FAULT)
        before = decoders._seats[0].process
        await decoders.decode(photo_bytes["jpeg"])
        return before is decoders._seats[0].process

    assert asyncio.run(fail_and_go_on())
    decoders.stop()


def test_an_image_under_way_as_the_service_ends_is_refused_and_no_process_is_begun(
    processes: DecodeProcesses, photo_bytes: dict[str, bytes]
) -> None:
    async def stop_under_way() -> list[torch.Tensor | BaseException]:
        for pid in pids:  # nothing is decoded before the end
            os.kill(pid, signal.SIGSTOP)
        work = [asyncio.ensure_future(processes.decode(photo_bytes["jpeg"])) for _ in range(5)]  # three of them wait
        await asyncio.sleep(0.01)
        await asyncio.to_thread(processes.stop)
        return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 10)

    processes.start()
    pids = _pids(processes)
    assert [type(answer) for answer in asyncio.run(stop_under_way())] == [BatcherStopped] * 5
    assert _pids(processes) == pids


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who sent a signal")
def test_X34_only_its_own_service_ends_a_process_that_decodes(
    processes: DecodeProcesses, photo_bytes: dict[str, bytes]
) -> None:
    """A supervisor asks every process of a service to end: the image that is decoded then is answered."""
    processes.start()
    own = [seat.process for seat in processes._seats if seat.process is not None]
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    script = "import os, signal, sys; [os.kill(int(one), signal.SIGTERM) for one in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", script, *map(str, [*_pids(processes), server])], check=True)
    asyncio.run(processes.decode(photo_bytes["jpeg"]))
    assert all(process.is_alive() for process in own)
    for process in own:
        process.terminate()
        process.join(10)
    assert not any(process.is_alive() for process in own)


def test_a_service_decodes_in_processes_if_told_to(serve: Any, photo_bytes: dict[str, bytes]) -> None:
    rows = []
    for decoding in ("threads", "processes"):
        with serve(decoding=decoding) as service:
            answer = service.client.post(
                "/embed/image?enhance=false", content=photo_bytes["jpeg"], headers={"content-type": "image/jpeg"}
            )
            assert answer.status_code == 200
            rows.append(answer.json()["data"][0]["embedding"])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
