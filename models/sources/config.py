"""A model by its name or directory: what is missing, and a configuration that would reach beyond its directory.

Standard library only.
"""

import difflib
import importlib.util
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from models.errors import EncoderError

CONFIG_NAME, WEIGHTS_NAME = "open_clip_config.json", "open_clip_model.safetensors"
_TIMM_SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")


def directory_missing(model: str) -> EncoderError:
    """What is wrong with a path that leads to no model."""
    return EncoderError(
        "encoder_directory_missing",
        f"{model!r} is not a directory. Give a directory with {CONFIG_NAME} and {WEIGHTS_NAME}, or an open_clip "
        "architecture such as ViT-B-32.",
    )


def architecture_unknown(model: str, known: Collection[str]) -> EncoderError:
    """What is wrong with a bare name that is none of the `known` ones of open_clip."""
    near = difflib.get_close_matches(model, known, n=3, cutoff=0.5)
    return EncoderError(
        "architecture_unknown",
        f"{model!r} is neither an open_clip architecture nor a directory here. "
        + (f"Near it are {', '.join(near)}." if near else "open_clip.list_models() names them all, such as ViT-B-32."),
    )


def weights_missing(directory: Path) -> EncoderError:
    """What is wrong with a model directory that has a configuration alone."""
    return EncoderError("weights_missing", f"{directory} has no {WEIGHTS_NAME}. Put the weights there under that name.")


def known_architectures() -> Collection[str]:
    """open_clip's names, by its files: open_clip itself takes seconds to load. Empty if it is not installed."""
    found = importlib.util.find_spec("open_clip")
    folders = found.submodule_search_locations if found else None
    return {file.stem for folder in folders or () for file in (Path(folder) / "model_configs").glob("*.json")}


def read_model_config(path: Path) -> dict[str, Any]:
    """The `model_cfg` of a directory's `open_clip_config.json`.

    open_clip fetches what a configuration names: a text model or a timm model of the Hugging Face hub. It also hands
    `trust_remote_code` on to the tokenizer. A directory is to be complete, and to be opened without a network.

    Raises:
        EncoderError: config_missing, config_invalid, config_remote.
    """
    if not path.is_file():
        raise EncoderError(
            "config_missing", f"{path.parent} has no {CONFIG_NAME}. Save the model's configuration there."
        )
    try:
        config = json.loads(path.read_bytes())["model_cfg"]
        int(config["embed_dim"]), dict(config["vision_cfg"]), dict(config["text_cfg"])
        beyond = next(_beyond(config), None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EncoderError(
            "config_invalid",
            f"{path} is not an open_clip configuration: expected model_cfg with embed_dim, vision_cfg, text_cfg.",
        ) from error
    if beyond:
        raise EncoderError(
            "config_remote",
            f"{CONFIG_NAME} has {beyond}, which would be fetched or run from elsewhere. Name an open_clip architecture "
            "instead of a directory, or save a model there that needs nothing else.",
        )
    return dict(config)


def _beyond(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings that lead out of the directory."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    if text.get("hf_model_name"):
        yield "text_cfg.hf_model_name"
    if str(vision.get("timm_model_name") or "").startswith(_TIMM_SOURCES):
        yield "vision_cfg.timm_model_name of another place"
    if "trust_remote_code" in (text.get("tokenizer_kwargs") or {}):
        yield "text_cfg.tokenizer_kwargs.trust_remote_code"
