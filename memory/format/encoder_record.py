"""The encoder a memory was built with, and whether another is the same one.

numpy and errors only. The record is a plain JSON object written by the encoder's own fingerprint, or, for embeddings
whose encoder nobody could open, one that declares a name and nothing else.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from memory.errors import EncoderMismatch, ManifestInvalid
from memory.neighbours import MODALITIES

# Another device or precision of the same weights moves a probe by less than this; other weights by far more.
PROBE_COSINE: Final = 0.999
_UNDECLARED: Final = "undeclared"  # tokenizer kind of an encoder that is known by a name only
_SHA256 = re.compile(r"[0-9a-f]{64}")


def undeclared_encoder(name: str, embed_dim: int) -> dict[str, Any]:
    """The record of an encoder that is known by a name only: equal names are taken for the same encoder.

    It has no probes to compare and the hash of no weights, so no encoder that can be opened is ever equal to it.
    """
    told = hashlib.sha256(f"undeclared encoder\0{name}".encode()).hexdigest()
    return {
        "architecture": name,
        "weights_sha256": told,
        "preprocessing": {},
        "tokenizer": {"kind": _UNDECLARED, "sha256": told, "context_length": 0},
        "embed_dim": embed_dim,
        "probes": {modality: [] for modality in MODALITIES},
    }


def is_undeclared(record: Mapping[str, Any]) -> bool:
    """Whether the record is `undeclared_encoder`'s."""
    tokenizer = record.get("tokenizer")
    return isinstance(tokenizer, Mapping) and tokenizer.get("kind") == _UNDECLARED


def check_encoder_record(record: object) -> Mapping[str, Any]:
    """Check the form of an encoder record; further keys are kept and compared.

    Raises:
        ManifestInvalid: a field is missing or of another type.
    """
    if not isinstance(record, Mapping):
        raise ManifestInvalid("encoder: not an object")
    embed_dim = record.get("embed_dim")
    tokenizer, probes = record.get("tokenizer"), record.get("probes")
    forms = {
        "architecture": isinstance(record.get("architecture"), str) and record["architecture"] != "",
        "weights_sha256": _is_sha256(record.get("weights_sha256")),
        "preprocessing": isinstance(record.get("preprocessing"), Mapping),
        "tokenizer": isinstance(tokenizer, Mapping)
        and isinstance(tokenizer.get("kind"), str)
        and isinstance(tokenizer.get("sha256"), str)
        and type(tokenizer.get("context_length")) is int,
        "embed_dim": type(embed_dim) is int and 1 <= embed_dim <= 1 << 16,
    }
    for name, holds in forms.items():
        if not holds:
            raise ManifestInvalid(f"encoder: {name!r} is missing or not of the expected form")
    if not isinstance(probes, Mapping) or set(probes) != set(MODALITIES):
        raise ManifestInvalid("encoder: 'probes' must hold 'image' and 'text'")
    for modality in MODALITIES:
        _probe_matrix(probes[modality], int(record["embed_dim"]), modality)
    return record


def check_encoder(stored: Mapping[str, Any], given: Mapping[str, Any], called: str = "") -> None:
    """Refuse an encoder that is not the one the memory was built with.

    The same encoder has all fields equal except the probes, and each probe vector at a cosine of at least
    `PROBE_COSINE`: another device or precision of the same encoder is welcome, other weights are not.

    Args:
        called: what a person calls the stored one (`encoder_name`); its architecture if nothing is given.

    Raises:
        EncoderMismatch: naming what differs.
    """
    names = (set(stored) | set(given)) - {"probes"}
    differing = sorted(name for name in names if stored.get(name) != given.get(name))
    if differing and (is_undeclared(stored) or is_undeclared(given)):
        raise EncoderMismatch(_undeclared_mismatch(stored, given))
    if differing:
        told = "; ".join(
            f"{name}: memory {_short(stored.get(name))}, here {_short(given.get(name))}" for name in differing
        )
        raise EncoderMismatch(
            f"this memory was built with {called or encoder_name(stored, {})}, and the encoder here is another one "
            f"({told}). Open it with that encoder, or build it again."
        )
    for modality in MODALITIES:
        embed_dim = int(stored["embed_dim"])
        ours = _probe_matrix(stored["probes"][modality], embed_dim, modality)
        try:
            theirs = _probe_matrix(given["probes"][modality], embed_dim, modality)
        except (ManifestInvalid, KeyError, TypeError) as error:
            raise EncoderMismatch(f"the encoder's {modality} probes cannot be compared: {error}") from error
        if ours.shape != theirs.shape:
            raise EncoderMismatch(
                f"probes: the memory has {len(ours)} {modality} probes, this encoder {len(theirs)}: build it again."
            )
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines = (ours * theirs).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
        if cosines.size and cosines.min() < PROBE_COSINE:
            raise EncoderMismatch(
                f"probes: the same weights on paper, but {modality} probe {int(cosines.argmin())} agrees "
                f"only to cosine {cosines.min():.5f} (at least {PROBE_COSINE} expected): another "
                "preprocessing or library, or a broken device."
            )


def _undeclared_mismatch(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    ours, theirs = (f"{record.get('architecture')} (D = {record.get('embed_dim')})" for record in (stored, given))
    if not is_undeclared(stored):
        return (
            f"this memory was built with the encoder {ours}, and the embeddings are declared by the name {theirs} "
            "only. Name their encoder with --model instead of --encoder-name, or build a memory of their own."
        )
    told = f"this memory was built from embeddings whose encoder is declared by the name {ours} only"
    if is_undeclared(given):
        return f"{told}, and here by {theirs}: give the same name, or build a memory of their own."
    return (
        f"{told}, so nothing shows that {theirs} made them. If it did, build the memory again with "
        "`reco build --embeddings` and --model, which checks it; else open the encoder that did."
    )


def _probe_matrix(vectors: object, embed_dim: int, modality: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not isinstance(vectors, Sequence):
        raise ManifestInvalid(f"encoder: {modality} probes are not a list")
    try:
        matrix = np.asarray(vectors, dtype=np.float64).reshape(len(vectors), embed_dim)
    except (TypeError, ValueError) as error:
        raise ManifestInvalid(f"encoder: {modality} probes are not vectors of {embed_dim} numbers") from error
    if not np.isfinite(matrix).all():
        raise ManifestInvalid(f"encoder: {modality} probes are not finite")
    return matrix


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def encoder_name(encoder: Mapping[str, Any], encoded_with: Mapping[str, Any]) -> str:
    """What a person calls the encoder of a manifest, with its architecture where the name does not say that.

    A model of one's own has an architecture like custom-385b26aec22b, which nobody recognises; memories from before
    names were kept have nothing else.
    """
    architecture = str(encoder["architecture"])
    own = "a model of one's own" if architecture.startswith("custom-") else architecture
    name = str(encoded_with.get("model", own))
    return name if name.startswith(architecture) else f"{name} ({architecture})"


def encoder_of(memory: Any) -> str:
    """`encoder_name` of an opened memory, wherever it is kept."""
    return encoder_name(memory.encoder, getattr(memory, "encoded_with", {}))  # arrays in memory have no names
