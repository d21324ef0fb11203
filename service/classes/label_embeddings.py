"""Class embeddings of the frozen encoder, kept label by label.

They depend on a label and its templates alone. So neither another version of the memory nor one more label in a set
costs the others again, and what was embedded before a request's time was up is there when it is sent again: a set may
take longer than one request has. Bounded by bytes, the least recently used go first. Used from the event loop alone.
Depends on the engine's types. Shapes: D embedding dim.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from service.pipeline.engine import Engine, FloatArray

_OVERHEAD_BYTES = 400  # of an entry beside its row, roughly


class LabelEmbeddings:
    """Embeddings (D,) float32, unit norm, by what they were embedded with (`embedded_with`) and by label."""

    def __init__(self, max_bytes: int) -> None:
        """Nothing is kept with `max_bytes` 0."""
        self._max_bytes = max_bytes
        self._rows: OrderedDict[tuple[str, str], FloatArray] = OrderedDict()
        self.bytes = 0

    def find(self, embedded_with: str, labels: Iterable[str]) -> dict[str, FloatArray]:
        """Those of some labels that are kept."""
        found = {}
        for label in labels:
            row = self._rows.get((embedded_with, label))
            if row is not None:
                self._rows.move_to_end((embedded_with, label))
                found[label] = row
        return found

    def keep(self, embedded_with: str, rows: dict[str, FloatArray]) -> None:
        """Keep embeddings by label."""
        for label, row in rows.items():
            key = embedded_with, label
            if key not in self._rows:
                self.bytes += _size(row)
            self._rows[key] = np.array(row)  # a copy: a view would keep the whole part that it is of
            self._rows.move_to_end(key)
        while self.bytes > self._max_bytes:
            self.bytes -= _size(self._rows.popitem(last=False)[1])


def embedded_with(engine: Engine, templates: Sequence[str]) -> str:
    """The name of all that a label's embedding depends on beside the label: the encoder and the templates."""
    return hashlib.sha256(json.dumps([engine.original_space, list(templates)]).encode()).hexdigest()


def _size(row: FloatArray) -> int:
    return row.nbytes + _OVERHEAD_BYTES
