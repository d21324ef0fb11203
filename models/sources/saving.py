"""A trained open_clip model written as a directory that `Encoder.open` takes: whole or not at all.

Imports open_clip and safetensors.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from safetensors.torch import save

from models.errors import EncoderError
from models.places import hindrance
from models.sources.config import CONFIG_NAME, WEIGHTS_NAME
from models.sources.opening import MERGES_NAME, OpenedModel

ABOUT_NAME = "finetuned.json"
# What tokenizers are read from; nothing else of a source directory is taken over.
_TOKENIZER_FILES = (
    MERGES_NAME,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def check_free(directory: Path) -> None:
    """Refuse a place that cannot be written, or that holds something: memories may have been built with what is there.

    Raises:
        EncoderError: model_directory_taken, model_directory_refused.
    """
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise EncoderError(
            "model_directory_taken", f"{directory} is there already and is not an empty directory: choose another one."
        )
    reason = hindrance(directory)
    if reason is not None:
        raise EncoderError("model_directory_refused", f"{reason}.")


def save_model(directory: Path, opened: OpenedModel, about: Mapping[str, Any]) -> None:
    """Write `opened.model` as it is now, with the configuration and the tokenizer of its source.

    Everything is written beside `directory` under another name, which is then renamed.

    Args:
        directory: absent or empty; its parents are made.
        about: how it was trained, for people; a file beside the weights.

    Raises:
        EncoderError: as `check_free`.
    """
    check_free(directory)
    target = Path(os.path.abspath(directory))  # noqa: PTH100  "." has no name to put the other one beside
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    state = {
        name: (value.float() if value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for name, value in opened.model.state_dict().items()
    }
    # Not save_file: what that writes only its owner may read.
    (partial / WEIGHTS_NAME).write_bytes(save(state, metadata={"format": "pt"}))
    (partial / CONFIG_NAME).write_bytes(_config_of(opened))
    for name in _TOKENIZER_FILES if opened.directory else ():
        source = opened.directory / name  # type: ignore[operator]
        if source.is_file():
            shutil.copyfile(source, partial / name)
    (partial / ABOUT_NAME).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in partial.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    partial.rename(target)


def _config_of(opened: OpenedModel) -> bytes:
    if opened.directory:
        return (opened.directory / CONFIG_NAME).read_bytes()
    used = dict(opened.model.visual.preprocess_cfg)  # type: ignore[union-attr, arg-type]
    preprocessing = {name: used[name] for name in ("mean", "std", "interpolation", "resize_mode", "fill_color")}
    config = {"model_cfg": open_clip.get_model_config(opened.architecture), "preprocess_cfg": preprocessing}
    return (json.dumps(config, indent=2) + "\n").encode()
