"""Candidates on disk: written block by block, so that a search can be broken off, and mapped in training.

work/candidates-<id>/ image-rows.npy  image-similarities.npy  text-rows.npy  text-similarities.npy  search.json

The id is a hash of the memory's digest, the pairs and the settings; search.json is written last and says how many pairs
are done. Shapes: N pairs, M candidates each.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from memory import MODALITIES, Modality
from memory.format.durable import write_bytes
from models.training.dataset.exclusion import SearchSettings

FORMAT = 1
PROGRESS = "search.json"
_DTYPES = {"rows": np.dtype("<i4"), "similarities": np.dtype("<f4")}


@dataclass(frozen=True)
class Candidates:
    """What a pair may retrieve, most similar first: `rows` (N, M) of the memory, int32 or int64, -1 for none, and
    `similarities` (N, M) float32, 0 for none."""

    rows: Tensor
    similarities: Tensor


class CandidateStore:
    """Candidates of N pairs, of which the first `done` are there.

    Attributes:
        done: pairs whose candidates were written.
    """

    def __init__(self, directory: Path | None, shape: tuple[int, int]) -> None:
        self._directory, self._shape = directory, shape
        self.done = 0
        if directory is None:
            self._held = {
                modality: Candidates(torch.full(shape, -1, dtype=torch.int32), torch.zeros(shape))
                for modality in MODALITIES
            }

    @classmethod
    def open(cls, work: Path | None, digest: str, ids: Tensor, settings: SearchSettings) -> "CandidateStore":
        """The store of one search, as far as it came; a fresh one in RAM without `work`."""
        shape = (len(ids), settings.num_candidates)
        if work is None:
            return cls(None, shape)
        pairs = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        what = {"format": FORMAT, "memory": digest, "pairs": pairs, "shape": shape, **asdict(settings)}
        description = json.dumps(what, sort_keys=True)
        store = cls(work / f"candidates-{hashlib.sha256(description.encode()).hexdigest()[:16]}", shape)
        store._take_up(what)
        return store

    @property
    def candidates(self) -> dict[Modality, Candidates]:
        """All that is there; mapped, not read, where it lies on disk."""
        if self._directory is None:
            return self._held
        return {
            modality: Candidates(self._mapped(modality, "rows"), self._mapped(modality, "similarities"))
            for modality in MODALITIES
        }

    def write(self, start: int, found: Mapping[Modality, Candidates]) -> None:
        """Keep the candidates of some pairs from `start` on; on disk, they are safe when this returns."""
        count = len(found["image"].rows)
        for modality, block in found.items():
            if self._directory is None:
                self._held[modality].rows[start : start + count] = block.rows
                self._held[modality].similarities[start : start + count] = block.similarities
            else:
                self._write(modality, "rows", start, block.rows)
                self._write(modality, "similarities", start, block.similarities)
        self.done = start + count
        if self._directory is not None:
            self._note_progress()

    def _take_up(self, what: Mapping[str, object]) -> None:
        assert self._directory is not None
        self._what = dict(what)
        try:
            self.done = int(json.loads((self._directory / PROGRESS).read_text(encoding="utf-8"))["done"])
            self._check()
        except (OSError, ValueError, KeyError, TypeError):  # nothing there, or not to be read: begin anew
            self.done = 0
            self._directory.mkdir(parents=True, exist_ok=True)
            for modality in MODALITIES:
                for kind in _DTYPES:
                    self._make(modality, kind)

    def _check(self) -> None:
        """Refuse files of another size, such as those of a folder that was copied in part."""
        for modality in MODALITIES:
            for kind in _DTYPES:
                self._mapped(modality, kind)

    def _path(self, modality: Modality, kind: str) -> Path:
        assert self._directory is not None
        return self._directory / f"{modality}-{kind}.npy"

    def _mapped(self, modality: Modality, kind: str) -> Tensor:
        # Copy-on-write, since torch takes no read-only arrays; nobody writes.
        array = npy.open_memmap(self._path(modality, kind), mode="c")
        if array.shape != self._shape or array.dtype != _DTYPES[kind]:
            raise ValueError(f"{self._path(modality, kind)} is not of this search: delete its folder")
        return torch.from_numpy(array)

    def _make(self, modality: Modality, kind: str) -> None:
        header = {"descr": _DTYPES[kind].str, "fortran_order": False, "shape": self._shape}
        with self._path(modality, kind).open("wb") as file:
            npy.write_array_header_1_0(file, header)
            file.truncate(file.tell() + _DTYPES[kind].itemsize * self._shape[0] * self._shape[1])

    def _write(self, modality: Modality, kind: str, start: int, block: Tensor) -> None:
        # Written as a file, not through a map: a full disk is then an error and not the end of the process.
        data = np.ascontiguousarray(block.numpy(), dtype=_DTYPES[kind]).tobytes()
        width = _DTYPES[kind].itemsize * self._shape[1]
        with self._path(modality, kind).open("r+b") as file:
            file.seek((start - self._shape[0]) * width, os.SEEK_END)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _note_progress(self) -> None:
        assert self._directory is not None
        text = json.dumps({**self._what, "done": self.done}, indent=2) + "\n"
        write_bytes(self._directory / PROGRESS, text.encode(), replace=True)
