"""What a collection is: the manifest's words that matter beyond the files, as JSON in parts that a VARCHAR holds.

Written last, so that a collection with a whole record is a whole memory. numpy only.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memory.errors import ManifestInvalid
from memory.format.encoder_record import check_encoder_record
from memory.milvus.indices import IndexChoice

FORMAT: Final = 1
PART_CHARACTERS: Final = 60_000  # a VARCHAR holds 65,535 bytes
_MADE_AGAIN: Final = (
    "drop the collection COLLECTION__record in Milvus and push the memory again, which finds its rows there"
)


@dataclass(frozen=True)
class Record:
    """One version of a memory as it was pushed.

    Attributes:
        deleted: ids that were deleted when it was pushed; they are not in the collection. Ascending.
        agreement: share of the neighbours (index_recall@10) that Milvus found like the memory it came from, measured
            by the push.
    """

    version: int
    digest: str
    encoder: Mapping[str, Any]
    encoded_with: Mapping[str, Any]
    num_rows: int
    num_items: int
    deleted: NDArray[np.int64]
    index: IndexChoice
    agreement: float

    def parts(self) -> list[str]:
        """The record as text of ASCII, cut; the first part says how many there are and hashes the others."""
        index = self.index
        body = {
            **{name: getattr(self, name) for name in _PLAIN},
            "encoder": dict(self.encoder),
            "encoded_with": dict(self.encoded_with),
            "deleted": base64.b64encode(zlib.compress(self.deleted.astype("<i8").tobytes())).decode("ascii"),
            "index": {
                "index_type": index.index_type,
                "params": dict(index.params),
                "search_params": dict(index.search_params),
            },
        }
        text = json.dumps(body, ensure_ascii=True, allow_nan=False)
        cut = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)]
        head = {"format": FORMAT, "parts": len(cut), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        return [json.dumps(head), *cut]

    @classmethod
    def read(cls, parts: Sequence[str]) -> "Record":
        """Back from its parts.

        Raises:
            ManifestInvalid: the record is not whole, or of a form that this version does not know.
        """
        try:
            head = json.loads(parts[0])
            if head["format"] != FORMAT:
                raise ManifestInvalid(f"the collection's record is of format {head['format']}, not {FORMAT}")
            text = "".join(parts[1:])
            if len(parts) != head["parts"] + 1 or hashlib.sha256(text.encode()).hexdigest() != head["sha256"]:
                raise ManifestInvalid(f"the collection's record is not whole: {_MADE_AGAIN}")
            body = json.loads(text)
            deleted = np.frombuffer(zlib.decompress(base64.b64decode(body.pop("deleted"))), dtype="<i8")
            index = IndexChoice(**body.pop("index"))
            return cls(
                **{**body, "encoder": check_encoder_record(body["encoder"])},
                deleted=deleted.astype(np.int64),
                index=index,
            )
        except (KeyError, IndexError, TypeError, ValueError, zlib.error) as error:
            raise ManifestInvalid(f"the collection's record cannot be read ({error}): {_MADE_AGAIN}") from error


_PLAIN: Final = ("version", "digest", "num_rows", "num_items", "agreement")
