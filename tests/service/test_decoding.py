"""Where images are decoded: threads and processes give the same, and a process that dies costs nobody an answer."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from models.encoder import Encoder
from models.errors import ImageError
from service.pipeline.decoding import DecodeProcesses, DecodeThreads


@pytest.fixture
def processes(encoder: Encoder) -> Iterator[DecodeProcesses]:
    decoders = DecodeProcesses(encoder.preprocess, 2)
    yield decoders
    decoders.stop()


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
        await processes.decode(photo_bytes["jpeg"])
        victims = list(processes._pool._processes)
        killer = threading.Timer(0.01, lambda: [os.kill(pid, signal.SIGKILL) for pid in victims])
        killer.start()
        found = await asyncio.gather(*(processes.decode(photo_bytes["jpeg"]) for _ in range(40)))
        killer.join()
        assert not set(victims) & set(processes._pool._processes)
        return found

    assert all(torch.equal(one, expected) for one in asyncio.run(forty()))


def test_X34_an_image_that_ends_its_process_twice_is_to_blame(
    processes: DecodeProcesses, photo_bytes: dict[str, bytes]
) -> None:
    async def ended_twice() -> None:
        asking = asyncio.ensure_future(processes.decode(photo_bytes["jpeg"]))
        for _ in range(2):
            pool = processes._pool
            while not pool._processes:
                await asyncio.sleep(0.001)
            for pid in list(pool._processes):  # before they have begun: a process takes longer to start than an image
                os.kill(pid, signal.SIGKILL)
            while processes._pool is pool:
                await asyncio.sleep(0.001)
        await asyncio.wait_for(asking, 20)

    with pytest.raises(ImageError) as caught:
        asyncio.run(ended_twice())
    assert caught.value.code == "image_undecodable"


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
