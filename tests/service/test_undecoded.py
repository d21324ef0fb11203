"""Pixels are counted from a request's admission until its images are decoded, and too many turn requests away."""

import io
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from models.images.headers import count_pixels
from service.pipeline.decoding import DecodeThreads
from service.pipeline.undecoded import Undecoded

_MOST = 50_000_000


def test_pixels_are_held_until_each_is_decoded_or_the_request_ends() -> None:
    undecoded = Undecoded(100)
    with undecoded.share([60, 0, 70]) as decoded:
        assert (undecoded.pixels, undecoded.has_room) == (130, False)
        decoded(2)
        assert (undecoded.pixels, undecoded.has_room) == (60, True)
    assert undecoded.pixels == 0


def test_pixels_of_a_request_that_fails_are_given_back() -> None:
    undecoded = Undecoded(100)
    with pytest.raises(ValueError, match="as is"), undecoded.share([60, 70]) as decoded:
        decoded(0)
        raise ValueError("as is")
    assert undecoded.pixels == 0


def test_what_is_decoded_after_its_request_failed_is_not_given_back_twice() -> None:
    undecoded = Undecoded(100)
    with undecoded.share([60, 70]) as decoded:
        pass
    decoded(1)
    assert undecoded.pixels == 0


def test_headers_tell_the_pixels(photo_bytes: dict[str, bytes]) -> None:
    for name in ("jpeg", "png_alpha", "webp", "cmyk_jpeg"):
        with Image.open(io.BytesIO(photo_bytes[name])) as image:
            assert count_pixels(photo_bytes[name], _MOST) == image.width * image.height
    assert count_pixels(photo_bytes["jpeg"], 10) == 0, "refused undecoded"
    assert count_pixels(b"no image", _MOST) == 0
    assert count_pixels(b"\x00\x00\x00\x18ftypavif", _MOST) == _MOST, "only its decoder can tell"


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> Iterator["Gate"]:
    gate = Gate()
    monkeypatch.setattr(DecodeThreads, "_decode", lambda decoders, data: gate.decode(decoders._preprocess, data))
    yield gate
    gate.open.set()


class Gate:
    """Decoding that waits until a test lets it, and how many were at it at once."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.open.set()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def decode(self, preprocess: Any, data: bytes) -> torch.Tensor:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.entered.set()
        assert self.open.wait(20)
        with self._lock:
            self.at_once -= 1
        result: torch.Tensor = preprocess(data)
        return result


def _pixels(service: Any) -> float:
    found = re.search(r"^reco_undecoded_pixels (\S+)$", service.client.get("/metrics").text, re.M)
    assert found
    return float(found[1])


def test_X24_pixels_beyond_the_room_are_503_until_they_are_decoded(
    serve: Any, shut: Gate, photo_bytes: dict[str, bytes]
) -> None:
    photo = photo_bytes["jpeg"]
    pixels = count_pixels(photo, _MOST)
    files = [("files", ("a.jpg", photo))]
    with serve(max_inflight_pixels=2 * pixels) as service:
        shut.open.clear()
        shut.entered.clear()
        first = threading.Thread(
            target=service.client.post, args=("/embed/image",), kwargs={"files": 3 * files}, daemon=True
        )
        first.start()  # beyond the room by itself, and let in all the same: nothing else is there
        assert shut.entered.wait(10)
        assert _pixels(service) == 3 * pixels
        refused = service.client.post("/embed/image", files=files)
        assert (refused.status_code, refused.json()["code"]) == (503, "pixels_full")
        assert refused.headers["retry-after"] == "1"
        assert service.client.post("/embed/text", json={"texts": "a"}).status_code == 200, "texts go on"
        mixed = service.client.post("/v1/embeddings", json={"model": "tiny-clip", "input": "a"})
        assert mixed.status_code == 200, "a request that may hold texts is read"
        assert 'reco_rejections_total{reason="pixels_full"} 1.0' in service.client.get("/metrics").text
        shut.open.set()
        first.join(20)
        assert service.client.post("/embed/image", files=files).status_code == 200
        assert _pixels(service) == 0


def test_no_more_images_are_decoded_at_once_than_there_are_decoders(
    serve: Any, shut: Gate, photo_bytes: dict[str, bytes]
) -> None:
    """What a decoded image takes, up to 0.9 GB, is taken so many times at most (docs/operations.md)."""
    files = 12 * [("files", ("a.jpg", photo_bytes["jpeg"]))]
    with serve(decode_workers=2) as service:
        shut.open.clear()
        asking = threading.Thread(target=service.client.post, args=("/embed/image",), kwargs={"files": files})
        asking.start()
        end = time.monotonic() + 10
        while shut.at_once < 2 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)  # for a third
        shut.open.set()
        asking.join(20)
        assert shut.most_at_once == 2
