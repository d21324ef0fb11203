"""A process that decodes: what runs in it. Batches come by a pipe, pixels leave through shared memory."""

import os
import signal
import threading
import time
from collections.abc import Sequence

import torch

from memory_builder.encoding.decoding import Candidate, Described, Refused, decode_batch
from models.images.preprocessor import Preprocessor

_PARENT_CHECK_S = 1.0

_state: dict[str, object] = {}  # a pool gives its workers no other place
_slots: dict[str, torch.Tensor] = {}


def begin(preprocess: Preprocessor, thumbnail_px: int) -> None:
    """Prepare this process: it ends with its parent, however that ends, and leaves interruptions to it."""
    _state.update(preprocess=preprocess, thumbnail_px=thumbnail_px)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def decode_into(path: str, shape: tuple[int, ...], candidates: Sequence[Candidate]) -> list[Described | Refused]:
    """Decode a batch into the memory mapped at `path`, seen as float32 of `shape`; as decoding.decode_batch."""
    if path not in _slots:
        _slots[path] = map_slot(path, shape)
    preprocess, thumbnail_px = _state["preprocess"], _state["thumbnail_px"]
    assert isinstance(preprocess, Preprocessor)
    assert isinstance(thumbnail_px, int)
    return decode_batch(candidates, preprocess, thumbnail_px, _slots[path])


def map_slot(path: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A file as a float32 tensor of `shape`, shared with whoever maps it too."""
    size = torch.Size(shape)
    return torch.from_file(path, shared=True, size=size.numel(), dtype=torch.float32).view(size)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)
