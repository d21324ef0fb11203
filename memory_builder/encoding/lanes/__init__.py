"""Batches to embeddings: decode, copy and encode, kept going side by side. One file per way; these import torch.

    threads     on a CPU: each core decodes a batch and encodes it, alone; no core ever waits for another
    processes   for an accelerator: processes decode into shared memory, the device encodes what is decoded

Which batches there are is decided by the mapper, so that neither way nor the number of workers changes a byte of them.
"""

from typing import TYPE_CHECKING

from memory_builder.config import BuildConfig
from memory_builder.encoding.lanes.lane import Lanes
from memory_builder.encoding.lanes.processes import ProcessLanes
from memory_builder.encoding.lanes.threads import ThreadLanes
from models.cores import usable_cores

if TYPE_CHECKING:
    from models.encoder import Encoder

__all__ = ["Lanes", "ProcessLanes", "ThreadLanes", "open_lanes"]


def open_lanes(config: BuildConfig, encoder: "Encoder") -> Lanes:
    """The lanes for an encoder's device, with a worker for each core we may use unless `config` says otherwise."""
    workers = config.workers or usable_cores()
    on_cpu = encoder.device.startswith("cpu")
    decoding = config.decoding if config.decoding != "auto" else ("threads" if on_cpu else "processes")
    kind = ThreadLanes if decoding == "threads" else ProcessLanes
    return kind(encoder, workers=workers, batch_size=config.batch_size, thumbnail_px=config.thumbnail_px)
