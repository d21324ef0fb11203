"""A process that decodes: what runs in it. Batches come by a pipe, pixels leave through shared memory."""

from collections.abc import Sequence

import torch

from memory_builder.encoding.decoding import Candidate, Described, Refused, decode_batch
from models.images.child_process import settle
from models.images.preprocessor import Preprocessor

_state: dict[str, object] = {}  # a pool gives its workers no other place
_slots: dict[str, torch.Tensor] = {}


def begin(preprocess: Preprocessor, thumbnail_px: int) -> None:
    """Prepare this process."""
    _state.update(preprocess=preprocess, thumbnail_px=thumbnail_px)
    settle()


def decode_into(
    path: str, shape: tuple[int, ...], dtype: torch.dtype, candidates: Sequence[Candidate]
) -> list[Described | Refused]:
    """Decode a batch into the memory mapped at `path`, seen as `map_slot` has it; as decoding.decode_batch."""
    if path not in _slots:
        _slots[path] = map_slot(path, shape, dtype)
    preprocess, thumbnail_px = _state["preprocess"], _state["thumbnail_px"]
    assert isinstance(preprocess, Preprocessor)
    assert isinstance(thumbnail_px, int)
    return decode_batch(candidates, preprocess, thumbnail_px, _slots[path])


def map_slot(path: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A file as a tensor of `shape` and `dtype`, shared with whoever maps it too."""
    size = torch.Size(shape)
    return torch.from_file(path, shared=True, size=size.numel(), dtype=dtype).view(size)
