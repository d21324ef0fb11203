"""A fusion on disk: a directory with fusion-<hash>.safetensors and config.json, which names the encoder it is for.

The config names its weights by their hash and is replaced in one step, last: whoever reads or is killed at any moment
finds the old checkpoint or the new one. Never a pickle. Imports models.fusion, safetensors and memory.format.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from memory.format.durable import make_directory, write_bytes
from memory.format.encoder_record import is_undeclared
from models.checkpoint_files import CONFIG, FORMAT, config_bytes, id_of, parse_config, read_config
from models.errors import CheckpointError
from models.fusion import Fusion, FusionConfig

_WEIGHTS = "fusion-{}.safetensors"
_FORMER_WEIGHTS = "fusion.safetensors"  # of checkpoints from before weights were named by their hash
# What makes embeddings of two encoders comparable. Probe vectors are left to the memory's own, tolerant check.
_IDENTITY = ("architecture", "weights_sha256", "preprocessing", "tokenizer", "embed_dim")


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
    return id_of(told)


def open_fusion(directory: Path, encoder: Mapping[str, Any] | None = None) -> SavedFusion:
    """Read a checkpoint, its weights and its id from one and the same save.

    Args:
        encoder: the record of the encoder in use; a checkpoint trained for another one is refused.

    Raises:
        CheckpointError: `checkpoint_not_found`, `checkpoint_invalid` (damaged, or not finite),
            `encoder_mismatch` (the message names what differs).
    """
    while True:
        told = config_bytes(directory)
        config = parse_config(directory / CONFIG, told)
        if encoder is not None:
            _check_encoder(directory, config["encoder"], encoder)
        try:
            return SavedFusion(_load(directory, config), id_of(told), config)
        except CheckpointError:
            if config_bytes(directory) == told:  # else another save has just taken its place
                raise


def load_fusion(directory: Path, encoder: Mapping[str, Any] | None = None) -> Fusion:
    """The fusion of a checkpoint; as `open_fusion`."""
    return open_fusion(directory, encoder).fusion


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
    if differing and is_undeclared(trained_for) and not is_undeclared(encoder):
        raise CheckpointError(
            "encoder_mismatch",
            f"{directory} was trained on embeddings whose encoder is declared by the name "
            f"{trained_for.get('architecture')} only, so nothing shows that {encoder.get('architecture')} made them. "
            "If it did, build their memory again with `reco build --embeddings` and --model, and train on that",
        )
    if differing:
        raise CheckpointError(
            "encoder_mismatch",
            f"{directory} was trained for another encoder ({trained_for.get('architecture')}) than the one in use "
            f"({encoder.get('architecture')}), which differs in {', '.join(differing)}: name the memory that it was "
            "trained on, or train a fusion for this one with `reco train`",
        )
