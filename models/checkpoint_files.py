"""The files of a fusion on disk: what can be read and refused before torch is loaded. Standard library only."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from models.errors import CheckpointError
from models.places import hindrance

FORMAT = 1
CONFIG = "config.json"
_MAX_CONFIG_BYTES = 16 << 20


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


def read_config(directory: Path) -> dict[str, Any]:
    """The checkpoint's config.

    Raises:
        CheckpointError: `checkpoint_not_found` or `checkpoint_invalid`.
    """
    return parse_config(directory / CONFIG, config_bytes(directory))


def checkpoint_id(directory: Path) -> str:
    """16 hex digits that change with the weights or the config."""
    return id_of(config_bytes(directory))


def id_of(told: bytes) -> str:
    """The id of a checkpoint whose config.json has these bytes."""
    return hashlib.sha256(told).hexdigest()[:16]


def config_bytes(directory: Path) -> bytes:
    """The config as it lies there; fails as `read_config`."""
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


def parse_config(path: Path, told: bytes) -> dict[str, Any]:
    """What the bytes of a config at `path` say; fails as `read_config`."""
    try:
        config = json.loads(told.decode("utf-8"))
        missing = {"format", "fusion", "encoder", "weights_sha256"} - config.keys()
    except (ValueError, AttributeError, RecursionError) as error:  # the last: brackets within brackets, by thousands
        raise CheckpointError("checkpoint_invalid", f"{path} is not JSON of a checkpoint: {error}") from error
    if missing or config["format"] != FORMAT:
        raise CheckpointError(
            "checkpoint_invalid",
            f"{path} is not format {FORMAT} (missing: {', '.join(sorted(missing)) or 'nothing'})",
        )
    no_objects = [name for name in ("fusion", "encoder", "trained") if not isinstance(config.get(name, {}), dict)]
    if no_objects:
        raise CheckpointError("checkpoint_invalid", f"{', '.join(no_objects)} in {path} is no JSON object")
    if not re.fullmatch("[0-9a-f]{64}", str(config["weights_sha256"])):
        raise CheckpointError("checkpoint_invalid", f"weights_sha256 in {path} is no SHA-256")
    return dict(config)
