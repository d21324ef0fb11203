"""Lanes of a CPU: each takes a batch, decodes it and encodes it with one thread of torch.

Decoding and encoding want the same cores, so there is nothing to gain from doing them at once, and much to lose from
threads of torch that spin while another of them is kept from its core. Pillow and torch let go of the interpreter.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from memory_builder.encoding.decoding import Candidate, Described, Refused, decode_batch
from memory_builder.encoding.lanes.lane import Embeddings, Encoded, embed, join
from memory_builder.encoding.lanes.stage_times import StageTimes

if TYPE_CHECKING:
    from models.encoder import Encoder


class ThreadLanes:
    """As in Lanes; one lane for each worker."""

    def __init__(self, encoder: "Encoder", *, workers: int, batch_size: int, thumbnail_px: int) -> None:
        self.ahead = workers + 1
        self._encoder = encoder
        self._batch_size, self._thumbnail_px = batch_size, thumbnail_px
        self._own = threading.local()
        self._times = StageTimes(workers)
        self._torch_threads = torch.get_num_threads()
        self._threads = ThreadPoolExecutor(workers, "lane", _one_torch_thread)

    def images(self, candidates: Sequence[Candidate]) -> Future[list[Encoded | Refused]]:
        """As in Lanes."""
        return self._threads.submit(self._images, candidates)

    def texts(self, tokens: torch.Tensor) -> Future[list[Embeddings | None]]:
        """As in Lanes."""
        return self._threads.submit(self._texts, tokens)

    def seconds(self) -> Mapping[str, float]:
        """As in Lanes."""
        return self._times.seconds()

    def close(self) -> None:
        """As in Lanes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self._torch_threads)

    def _images(self, candidates: Sequence[Candidate]) -> list[Encoded | Refused]:
        pixels = self._buffer()
        with self._times.of("decode"):
            outcomes = decode_batch(candidates, self._encoder.preprocess, self._thumbnail_px, pixels)
        kept = sum(isinstance(outcome, Described) for outcome in outcomes)
        with self._times.of("encode"):
            return join(outcomes, embed(self._encoder.encode_image, pixels[:kept]) if kept else [])

    def _texts(self, tokens: torch.Tensor) -> list[Embeddings | None]:
        with self._times.of("encode"):
            return embed(self._encoder.encode_text, tokens)

    def _buffer(self) -> torch.Tensor:
        """(batch_size, 3, S, S) float32 of the lane's own."""
        if not hasattr(self._own, "pixels"):
            self._own.pixels = torch.empty((self._batch_size, 3, *self._encoder.preprocess.record["size"]))
        pixels: torch.Tensor = self._own.pixels
        return pixels


def _one_torch_thread() -> None:
    torch.set_num_threads(1)
