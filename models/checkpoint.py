"""A fusion on disk: a directory with fusion-<hash>.safetensors and config.json, which names the encoder it is for.

The config names its weights by their hash and is replaced in one step, last: whoever reads or is killed at any moment
finds the old checkpoint or the new one. Never a pickle. Imports models.fusion, safetensors and memory.format.durable.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from memory.format.durable import make_directory, write_bytes
from models.errors import CheckpointError
from models.fusion import Fusion, FusionConfig
from models.places import hindrance

FORMAT = 1
CONFIG = "config.json"
_WEIGHTS = "fusion-{}.safetensors"
_FORMER_WEIGHTS = "fusion.safetensors"  # of checkpoints from before weights were named by their hash
_MAX_CONFIG_BYTES = 16 << 20
# What makes embeddings of two encoders comparable. Probe vectors are left to the memory's own, tolerant check.
_IDENTITY = ("architecture", "weights_sha256", "preprocessing", "tokenizer", "embed_dim")
_UNDECLARED = "undeclared"  # tokenizer kind of an encoder known by a name only: memory/format/encoder_record.py


class SavedFusion(NamedTuple):
    """A checkpoint as it was at one moment.

    Attributes:
        fusion: on the CPU, in evaluation mode.
        id: as `checkpoint_id`.
        config: what config.json says.
    """

    fusion: Fusion
    id: str
    config: Mapping[str, Any]


def check_output(directory: Path) -> None:
    """Refuse a place for a checkpoint before anything is trained.

    Raises:
        CheckpointError: `output_refused`.
    """
    reason = hindrance(directory)
    if (directory / "manifests").is_dir():
        reason = f"{directory} holds a memory"
    if reason is not None:
        raise CheckpointError("output_refused", f"{reason}: give the fusion a folder of its own")


def holds_fusion(directory: Path) -> bool:
    """Whether weights of a fusion lie there, of a checkpoint that is whole or not."""
    return any(directory.glob("fusion*.safetensors"))


def save_fusion(
    directory: Path, fusion: Fusion, encoder: Mapping[str, Any], trained: Mapping[str, Any] | None = None
) -> str:
    """Write a checkpoint, durably; an older one in the directory serves until the config of this one is in its place.

    Args:
        directory: made if absent.
        fusion: its weights are stored in float32.
        encoder: the record of the encoder whose embeddings it was trained on (`Fingerprint.record()`).
        trained: how it was trained and what it reached, for people.

    Returns:
        The checkpoint's id: 16 hex digits of the SHA-256 over its weights and config.

    Raises:
        memory.WriteFailed: the disk is full or not to be written; the older checkpoint is untouched.
    """
    make_directory(directory)
    replaced = _named_weights(directory)
    state = {name: tensor.detach().cpu().float().contiguous() for name, tensor in fusion.state_dict().items()}
    weights = save(state, metadata={"format": "pt"})
    digest = hashlib.sha256(weights).hexdigest()
    config = {
        "format": FORMAT,
        "fusion": fusion.config.as_dict(),
        "encoder": {name: encoder[name] for name in _IDENTITY},
        "weights_sha256": digest,
        "trained": dict(trained or {}),
    }
    told = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    path = directory / _WEIGHTS.format(digest[:16])
    write_bytes(path, weights, replace=True)
    write_bytes(directory / CONFIG, told, replace=True)
    if replaced not in (None, path):
        replaced.unlink(missing_ok=True)
    return _id(told)


def open_fusion(directory: Path, encoder: Mapping[str, Any] | None = None) -> SavedFusion:
    """Read a checkpoint, its weights and its id from one and the same save.

    Args:
        encoder: the record of the encoder in use; a checkpoint trained for another one is refused.

    Raises:
        CheckpointError: `checkpoint_not_found`, `checkpoint_invalid` (damaged, or not finite),
            `encoder_mismatch` (the message names what differs).
    """
    while True:
        told = _config_bytes(directory)
        config = _parse(directory / CONFIG, told)
        if encoder is not None:
            _check_encoder(directory, config["encoder"], encoder)
        try:
            return SavedFusion(_load(directory, config), _id(told), config)
        except CheckpointError:
            if _config_bytes(directory) == told:  # else another save has just taken its place
                raise


def load_fusion(directory: Path, encoder: Mapping[str, Any] | None = None) -> Fusion:
    """The fusion of a checkpoint; as `open_fusion`."""
    return open_fusion(directory, encoder).fusion


def read_config(directory: Path) -> dict[str, Any]:
    """The checkpoint's config.

    Raises:
        CheckpointError: `checkpoint_not_found` or `checkpoint_invalid`.
    """
    return _parse(directory / CONFIG, _config_bytes(directory))


def checkpoint_id(directory: Path) -> str:
    """16 hex digits that change with the weights or the config."""
    return _id(_config_bytes(directory))


def _id(told: bytes) -> str:
    return hashlib.sha256(told).hexdigest()[:16]


def _config_bytes(directory: Path) -> bytes:
    path = directory / CONFIG
    try:
        if not path.is_file() or not holds_fusion(directory):
            raise FileNotFoundError
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise CheckpointError("checkpoint_invalid", f"{path} is too large to be a checkpoint's config")
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            "checkpoint_not_found",
            f"{directory} is no fusion checkpoint: it needs {CONFIG} and the weights it names; make one with "
            "`reco train`",
        ) from None


def _parse(path: Path, told: bytes) -> dict[str, Any]:
    try:
        config = json.loads(told.decode("utf-8"))
        missing = {"format", "fusion", "encoder", "weights_sha256"} - config.keys()
    except (ValueError, AttributeError) as error:
        raise CheckpointError("checkpoint_invalid", f"{path} is not JSON of a checkpoint: {error}") from error
    if missing or config["format"] != FORMAT:
        raise CheckpointError(
            "checkpoint_invalid",
            f"{path} is not format {FORMAT} (missing: {', '.join(sorted(missing)) or 'nothing'})",
        )
    if not re.fullmatch("[0-9a-f]{64}", str(config["weights_sha256"])):
        raise CheckpointError("checkpoint_invalid", f"weights_sha256 in {path} is no SHA-256")
    return dict(config)


def _weights_path(directory: Path, config: Mapping[str, Any]) -> Path:
    path = directory / _WEIGHTS.format(config["weights_sha256"][:16])
    return path if path.is_file() else directory / _FORMER_WEIGHTS


def _named_weights(directory: Path) -> Path | None:
    """The weights of the checkpoint that is there; None if there is none, or one that nobody can read."""
    try:
        return _weights_path(directory, read_config(directory))
    except CheckpointError:
        return None


def _load(directory: Path, config: Mapping[str, Any]) -> Fusion:
    path = _weights_path(directory, config)
    try:
        weights = path.read_bytes()
    except FileNotFoundError:
        weights = b""
    if hashlib.sha256(weights).hexdigest() != config["weights_sha256"]:
        raise CheckpointError("checkpoint_invalid", f"{path} is not what its config hashed: copy it again")
    try:
        fusion = Fusion(FusionConfig(**config["fusion"]))
        fusion.load_state_dict(load(weights), strict=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        hint = f"{error}"
        if "Missing key(s)" in hint:
            hint = "it was trained by another version of RECO: train it again with this one"
        raise CheckpointError("checkpoint_invalid", f"{directory} holds no fusion of its config: {hint}") from error
    if not all(torch.isfinite(tensor).all() for tensor in fusion.state_dict().values()):
        raise CheckpointError("checkpoint_invalid", f"{directory} holds weights that are not finite: train it again")
    return fusion.eval().requires_grad_(False)


def _check_encoder(directory: Path, trained_for: Mapping[str, Any], encoder: Mapping[str, Any]) -> None:
    differing = [name for name in _IDENTITY if trained_for.get(name) != encoder.get(name)]
    if differing and _is_undeclared(trained_for) and not _is_undeclared(encoder):
        raise CheckpointError(
            "encoder_mismatch",
            f"{directory} was trained on embeddings whose encoder is declared by the name "
            f"{trained_for.get('architecture')} only, so nothing shows that {encoder.get('architecture')} made them. "
            "If it did, build their memory again with `reco build --embeddings` and --model, and train on that",
        )
    if differing:
        raise CheckpointError(
            "encoder_mismatch",
            f"{directory} was trained for the encoder {trained_for.get('architecture')}, and the one in use differs in "
            f"{', '.join(differing)}: open that encoder, or train a fusion for this one with `reco train`",
        )


def _is_undeclared(encoder: Mapping[str, Any]) -> bool:
    tokenizer = encoder.get("tokenizer")
    return isinstance(tokenizer, Mapping) and tokenizer.get("kind") == _UNDECLARED
