"""A model that is named by a path: what is missing there is told before torch and open_clip are loaded."""

import os
from pathlib import Path


def check_model(model: str) -> None:
    """Refuse a path that leads to no model. A bare name may be open_clip's, which is known when that is loaded.

    Raises:
        EncoderError: encoder_directory_missing, or what `read_model_config` refuses.
    """
    from models.sources.config import CONFIG_NAME, directory_missing, read_model_config

    if os.sep not in model and not model.startswith((".", "~")):
        return
    directory = Path(model).expanduser()
    if directory.is_dir():
        read_model_config(directory / CONFIG_NAME)
    elif directory.is_absolute() or model.startswith("."):  # else an architecture such as ViT-B/32
        raise directory_missing(model)
