"""A fusion on disk: a directory with fusion.safetensors and config.json, which names the encoder it was trained for.

Never a pickle. Imports models.fusion and safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from models.errors import CheckpointError
from models.fusion import Fusion, FusionConfig
from models.places import hindrance

FORMAT = 1
WEIGHTS = "fusion.safetensors"
CONFIG = "config.json"
_MAX_CONFIG_BYTES = 16 << 20
# What makes embeddings of two encoders comparable. Probe vectors are left to the memory's own, tolerant check.
_IDENTITY = ("architecture", "weights_sha256", "preprocessing", "tokenizer", "embed_dim")
_UNDECLARED = "undeclared"  # tokenizer kind of an encoder known by a name only: memory/encoder_record.py


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


def save_fusion(
    directory: Path, fusion: Fusion, encoder: Mapping[str, Any], trained: Mapping[str, Any] | None = None
) -> str:
    """Write a checkpoint; the config goes last, so a directory without one is no checkpoint.

    Args:
        directory: made if absent; an older checkpoint in it is replaced.
        fusion: its weights are stored in float32.
        encoder: the record of the encoder whose embeddings it was trained on (`Fingerprint.record()`).
        trained: how it was trained and what it reached, for people.

    Returns:
        The checkpoint's id: 16 hex digits of the SHA-256 over its weights and config.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).unlink(missing_ok=True)
    state = {name: tensor.detach().cpu().float().contiguous() for name, tensor in fusion.state_dict().items()}
    weights = save(state, metadata={"format": "pt"})
    config = {
        "format": FORMAT,
        "fusion": fusion.config.as_dict(),
        "encoder": {name: encoder[name] for name in _IDENTITY},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "trained": dict(trained or {}),
    }
    (directory / WEIGHTS).write_bytes(weights)
    (directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return checkpoint_id(directory)


def load_fusion(directory: Path, encoder: Mapping[str, Any] | None = None) -> Fusion:
    """Read a checkpoint, on the CPU, in evaluation mode.

    Args:
        encoder: the record of the encoder in use; a checkpoint trained for another one is refused.

    Raises:
        CheckpointError: `checkpoint_not_found`, `checkpoint_invalid` (damaged, or not finite),
            `encoder_mismatch` (the message names what differs).
    """
    config = read_config(directory)
    if encoder is not None:
        _check_encoder(directory, config["encoder"], encoder)
    weights = (directory / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != config["weights_sha256"]:
        raise CheckpointError(
            "checkpoint_invalid", f"{directory / WEIGHTS} is not what its config hashed: copy it again"
        )
    try:
        fusion = Fusion(FusionConfig(**config["fusion"]))
        fusion.load_state_dict(load(weights), strict=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError("checkpoint_invalid", f"{directory} holds no fusion of its config: {error}") from error
    if not all(torch.isfinite(tensor).all() for tensor in fusion.state_dict().values()):
        raise CheckpointError("checkpoint_invalid", f"{directory} holds weights that are not finite: train it again")
    return fusion.eval().requires_grad_(False)


def read_config(directory: Path) -> dict[str, Any]:
    """The checkpoint's config.

    Raises:
        CheckpointError: `checkpoint_not_found` or `checkpoint_invalid`.
    """
    path = directory / CONFIG
    if not path.is_file() or not (directory / WEIGHTS).is_file():
        raise CheckpointError(
            "checkpoint_not_found",
            f"{directory} is no fusion checkpoint: it needs {CONFIG} and {WEIGHTS}; make one with `reco train`",
        )
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise CheckpointError("checkpoint_invalid", f"{path} is too large to be a checkpoint's config")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        missing = {"format", "fusion", "encoder", "weights_sha256"} - config.keys()
    except (ValueError, AttributeError) as error:
        raise CheckpointError("checkpoint_invalid", f"{path} is not JSON of a checkpoint: {error}") from error
    if missing or config["format"] != FORMAT:
        raise CheckpointError(
            "checkpoint_invalid",
            f"{path} is not format {FORMAT} (missing: {', '.join(sorted(missing)) or 'nothing'})",
        )
    return dict(config)


def checkpoint_id(directory: Path) -> str:
    """16 hex digits that change with the weights or the config."""
    return hashlib.sha256((directory / CONFIG).read_bytes()).hexdigest()[:16]


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
