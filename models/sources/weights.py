"""Which weights may be read: safetensors, from a file or one of open_clip's tags; never a pickle, never none at all.

Imports open_clip and safetensors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from safetensors import SafetensorError, safe_open

from models.errors import EncoderError
from models.sources.config import WEIGHTS_NAME

_TAG_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")


def resolve_pretrained(
    architecture: str, pretrained: str | None, config: Mapping[str, Any]
) -> tuple[Path, dict[str, Any] | None]:
    """Find the weights of an architecture, fetching them if `pretrained` is a tag that is not in the cache.

    Returns:
        The safetensors file, and for a tag the preprocessing it was trained with.

    Raises:
        EncoderError: pretrained_missing, pretrained_unknown, pretrained_unavailable, activation_mismatch,
            weights_unsafe, weights_invalid.
    """
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not pretrained:
        raise EncoderError(
            "pretrained_missing",
            f"{architecture} needs trained weights. Name them with --pretrained (RECO_PRETRAINED): a safetensors file "
            f"or one of {', '.join(tags)}. Or name a model directory with --model (RECO_MODEL).",
        )
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tag:
        path = Path(pretrained).expanduser()
        if not path.is_file():
            raise EncoderError(
                "pretrained_unknown",
                f"{pretrained!r} is neither a file nor a tag of {architecture}. Tags: {', '.join(tags)}.",
            )
        check_safetensors(path)
        return path, None
    quick_gelu = bool(tag.get("quick_gelu", False))
    if quick_gelu != bool(config.get("quick_gelu", False)):
        other = f"{architecture}-quickgelu" if quick_gelu else architecture.removesuffix("-quickgelu")
        raise EncoderError(
            "activation_mismatch",
            f"{pretrained!r} was trained with another activation than {architecture} has. Use {other}.",
        )
    try:
        path = Path(open_clip.download_pretrained(tag))
    except Exception as error:  # whatever the network, the hub's client or the disk raise
        raise EncoderError(
            "pretrained_unavailable",
            f"The weights {architecture}/{pretrained} are not in the local cache and could not be fetched. Connect "
            "once, or give pretrained the path of a safetensors file.",
        ) from error
    check_safetensors(path)
    return path, {key: tag[key] for key in _TAG_PREPROCESSING if key in tag}


def check_safetensors(path: Path) -> None:
    """Refuse a file that is not safetensors by name and content, before open_clip chooses how to read it.

    Raises:
        EncoderError: weights_unsafe, weights_invalid.
    """
    if path.suffix != ".safetensors":
        raise unsafe_weights(path.name)
    try:
        with safe_open(path, "pt") as file:
            empty = not list(file.keys())
    except (SafetensorError, OSError) as error:
        raise EncoderError("weights_invalid", f"{path} is not a complete safetensors file. Copy it again.") from error
    if empty:
        raise EncoderError("weights_invalid", f"{path} has no tensors in it.")


def unsafe_weights(name: str) -> EncoderError:
    """The refusal of a file that may be a pickle."""
    return EncoderError(
        "weights_unsafe",
        f"{name} may be a pickle, which runs code when it is read. Convert the weights to safetensors on a machine "
        f"you trust, as {WEIGHTS_NAME}.",
    )
