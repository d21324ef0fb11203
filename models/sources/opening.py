"""Open an open_clip model from its name or a local directory, with the tokenizer that belongs to it.

Imports open_clip and torch.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch

from models.errors import EncoderError
from models.sources.config import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    architecture_unknown,
    directory_missing,
    read_model_config,
    weights_missing,
)
from models.sources.weights import check_safetensors, resolve_pretrained, unsafe_weights

MERGES_NAME = "bpe.txt.gz"


@dataclass(frozen=True)
class OpenedModel:
    """A model as open_clip built it: float32, on the CPU, with its weights loaded.

    Attributes:
        name: for people: architecture and tag, or the directory's own name.
        architecture: for comparing: open_clip's name, or a hash of the configuration where open_clip has none.
        tokenizer: open_clip's tokenizer for it, with the vocabulary the model was built for.
        directory: where it was opened from; None for an architecture of open_clip.
    """

    name: str
    architecture: str
    embed_dim: int
    model: torch.nn.Module
    tokenizer: Any
    directory: Path | None = None


def open_model(model: str, pretrained: str | None) -> OpenedModel:
    """Load an architecture of open_clip with `pretrained` (a tag or a safetensors file), or a local directory.

    An architecture's name wins over a directory of the same name: write ./NAME for the directory.

    Raises:
        EncoderError: with the code of what is missing, unsafe or does not fit together.
    """
    architecture = model.replace("/", "-")
    if architecture in open_clip.list_models():
        return _open_architecture(architecture, pretrained)
    directory = Path(model).expanduser()
    if directory.is_dir():
        return _open_directory(directory)
    if "/" in model or os.sep in model:
        raise directory_missing(model)
    raise architecture_unknown(model, open_clip.list_models())


def _open_architecture(architecture: str, pretrained: str | None) -> OpenedModel:
    config = open_clip.get_model_config(architecture)
    weights, preprocessing = resolve_pretrained(architecture, pretrained, config)
    model = _create(architecture, weights, pretrained=str(weights), force_preprocess_cfg=preprocessing)
    tokenizer = _create_tokenizer(architecture, {})
    _check_vocabulary(tokenizer, model)
    name = f"{architecture}/{weights.stem if preprocessing is None else pretrained}"
    return OpenedModel(name, architecture, int(config["embed_dim"]), model, tokenizer)


def _open_directory(directory: Path) -> OpenedModel:
    config = read_model_config(directory / CONFIG_NAME)
    weights = directory / WEIGHTS_NAME
    if not weights.is_file():
        others = sorted(
            path.name for path in directory.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
        )
        if others:
            raise unsafe_weights(others[0])
        raise weights_missing(directory)
    check_safetensors(weights)
    model = _create(f"local-dir:{directory}", weights)
    tokenizer = _create_tokenizer(f"local-dir:{directory}", _merges_of(directory, config["text_cfg"]))
    _check_vocabulary(tokenizer, model)
    name, architecture = directory.resolve().name, _architecture_of(config)
    return OpenedModel(name, architecture, int(config["embed_dim"]), model, tokenizer, directory)


def _create(identifier: str, weights: Path, **options: Any) -> torch.nn.Module:
    """open_clip's own loading, strict; `weights` is for the message."""
    try:
        model: torch.nn.Module = open_clip.create_model(identifier, require_pretrained=True, **options)
    except ImportError as error:
        raise EncoderError(
            "dependency_missing", f"{identifier} needs a package that is not installed: {one_line(error)}."
        ) from error
    except (RuntimeError, AssertionError) as error:  # load_state_dict, and the resizing before it
        raise EncoderError(
            "weights_mismatch",
            f"{weights.name} does not fit the architecture of {identifier} ({one_line(error)}). Use the weights "
            "and the configuration of one model.",
        ) from error
    except Exception as error:  # a wrong configuration raises whatever the layer it reaches raises
        raise EncoderError("config_invalid", f"open_clip cannot build {identifier}: {one_line(error)}.") from error
    return model


def _create_tokenizer(identifier: str, options: Mapping[str, Any]) -> Any:
    try:
        return open_clip.get_tokenizer(identifier, **options)
    except ImportError as error:
        raise EncoderError(
            "tokenizer_unavailable",
            f"The tokenizer of {identifier} needs a package that is not installed: {one_line(error)}.",
        ) from error
    except Exception as error:  # gzip, Unicode, the hub's client
        raise EncoderError(
            "tokenizer_invalid", f"The tokenizer of {identifier} cannot be made: {one_line(error)}."
        ) from error


def _merges_of(directory: Path, text_config: Mapping[str, Any]) -> dict[str, str]:
    """The directory's own merges file; the path in the configuration would be relative to the working directory."""
    merges = directory / MERGES_NAME
    if text_config.get("hf_tokenizer_name"):
        return {}
    if merges.is_file():
        return {"bpe_path": str(merges)}
    if "bpe_path" in (text_config.get("tokenizer_kwargs") or {}):
        raise EncoderError(
            "tokenizer_missing",
            f"{CONFIG_NAME} names merges of its own. Put them beside it as {MERGES_NAME}.",
        )
    return {}


def _check_vocabulary(tokenizer: Any, model: torch.nn.Module) -> None:
    expected = getattr(model, "vocab_size", None)
    actual = getattr(tokenizer, "vocab_size", None)
    if expected is not None and actual is not None and expected != actual:
        raise EncoderError(
            "tokenizer_mismatch",
            f"The tokenizer has {actual} tokens and the model {expected}. Use the merges the model was trained with, "
            f"as {MERGES_NAME} (one merge more usually means a line feed at the end of that file).",
        )


def one_line(error: Exception) -> str:
    """An error as a part of a message."""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return words if len(words) <= 300 else f"{words[:300]}..."


def _architecture_of(config: Mapping[str, Any]) -> str:
    """open_clip's name of a configuration if it has one, so a saved ViT-B-32 equals the built-in one."""
    wanted = _canonical(config)
    for name in open_clip.list_models():
        if _canonical(open_clip.get_model_config(name)) == wanted:
            return str(name)
    return f"custom-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"


def _canonical(config: Mapping[str, Any]) -> str:
    text = dict(config["text_cfg"])
    # Where the merges lie is not what they are: the tokenizer's own record holds that.
    text["tokenizer_kwargs"] = {k: v for k, v in (text.get("tokenizer_kwargs") or {}).items() if k != "bpe_path"}
    return json.dumps({**config, "text_cfg": text}, sort_keys=True, separators=(",", ":"))
