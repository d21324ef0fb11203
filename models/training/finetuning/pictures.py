"""Captioned pictures as a loop that trains an encoder reads them: 8-bit pixels in RAM up to a bound, decoded beyond it.

Torch only; how a picture is read and decoded is passed in.
Shapes: N pairs, B pairs in a batch, S image size in px, L tokens.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_CACHE_BYTES = 8 << 30  # 57,000 pictures of 224 px


class PixelCodec:
    """Preprocessed pixels to 8 bits and back, without loss: the encoder's transform ends with (x / 255 - mean) / std.

    A quarter of the RAM, and the last step runs on the device.
    """

    def __init__(self, preprocessing: Mapping[str, Any]) -> None:
        """Take `Preprocessor.record`."""
        self._mean, self._std = (torch.tensor(preprocessing[name]).view(-1, 1, 1) for name in ("mean", "std"))

    def pack(self, pixels: Tensor) -> Tensor:
        """(3, S, S) float32 as the encoder's `preprocess` gives them, to uint8."""
        return ((pixels * self._std + self._mean) * 255).round().clamp(0, 255).to(torch.uint8)

    def unpack(self, packed: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 to float32, on the device they are on."""
        mean, std = self._mean.to(packed.device), self._std.to(packed.device)
        return (packed.float() / 255 - mean) / std


class Pictures:
    """N pictures by number; the first ones to come are kept.

    Args:
        load: picture i as (3, S, S) uint8, from any thread.
        count: N.
        max_bytes: of pixels to keep; pictures beyond are loaded again each time.
        threads: that load ahead.
    """

    def __init__(
        self, load: Callable[[int], Tensor], count: int, *, max_bytes: int = MAX_CACHE_BYTES, threads: int = 4
    ) -> None:
        self._load, self._threads = load, threads
        self._count, self._max_bytes = count, max_bytes
        self._kept = torch.empty(0)  # (up to N, 3, S, S) uint8
        self._is_kept, self._num_kept = torch.zeros(count, dtype=torch.bool), 0
        self._place = torch.zeros(count, dtype=torch.long)

    def __len__(self) -> int:
        return self._count

    def keep(self, number: int, pixels: Tensor) -> None:
        """Keep a picture, (3, S, S) uint8, if there is room."""
        room = min(self._count, self._max_bytes // pixels.numel())
        if not len(self._kept):
            self._kept = torch.empty((room, *pixels.shape), dtype=torch.uint8)
        if self._num_kept < room and not self._is_kept[number]:
            self._kept[self._num_kept] = pixels
            self._place[number], self._is_kept[number] = self._num_kept, True
            self._num_kept += 1

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """Pictures (B, 3, S, S) uint8 for each part, (B,) int64 numbers; the next is loaded meanwhile."""
        with ThreadPoolExecutor(self._threads) as pool, ThreadPoolExecutor(1) as ahead:
            coming = deque(ahead.submit(self._batch, part, pool) for part in parts[:1])
            for following in parts[1:]:
                pixels = coming.popleft().result()
                coming.append(ahead.submit(self._batch, following, pool))
                yield pixels
            yield from (last.result() for last in coming)

    def _batch(self, numbers: Tensor, pool: ThreadPoolExecutor) -> Tensor:
        kept = self._is_kept[numbers]
        if bool(kept.all()):
            return self._kept[self._place[numbers]]
        loaded = iter(pool.map(self._load, numbers[~kept].tolist()))
        return torch.stack(
            [
                self._kept[self._place[number]] if known else next(loaded)
                for number, known in zip(numbers.tolist(), kept.tolist(), strict=True)
            ]
        )


@dataclass(frozen=True)
class CaptionedPictures:
    """Pairs to train an encoder on.

    Attributes:
        pictures: of all pairs of a corpus; a part shares them.
        tokens: (N, L) int64 of all captions.
        shows: (S, N) int64; pairs of one number, in whichever row, count as right for each other.
        numbers: (n,) int64, the pairs of this part.
        codec: pixels to the encoder's input.
    """

    pictures: Pictures
    tokens: Tensor
    shows: Tensor
    numbers: Tensor
    codec: PixelCodec

    def __len__(self) -> int:
        return len(self.numbers)

    def part(self, places: NDArray[np.int64]) -> "CaptionedPictures":
        """Some of the pairs, by their place in this part."""
        numbers = self.numbers[torch.from_numpy(places)]
        return CaptionedPictures(self.pictures, self.tokens, self.shows, numbers, self.codec)

    def batches(self, size: int, dice: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All pairs once, in random order and batches of about equal size, at most `size`.

        Yields:
            packed pixels (B, 3, S, S) uint8, tokens (B, L) int64, positives (B, B) bool.
        """
        order = self.numbers[torch.randperm(len(self), generator=dice)]
        parts = torch.tensor_split(order, self.num_batches(size))
        for chosen, pixels in zip(parts, self.pictures.batches(parts), strict=True):
            shows = self.shows[:, chosen]
            yield pixels, self.tokens[chosen], (shows[:, :, None] == shows[:, None, :]).any(dim=0)

    def num_batches(self, size: int) -> int:
        """Batches an epoch."""
        return -(-len(self) // size)
