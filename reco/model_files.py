"""A model and a device by their names: what is not there is told before torch and open_clip are loaded."""

import os
import re
from pathlib import Path

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


def check_model(model: str) -> None:
    """Refuse what is neither an architecture nor a directory with a configuration, as opening it would.

    Raises:
        EncoderError: encoder_directory_missing, architecture_unknown, or what `read_model_config` refuses.
    """
    from models.sources.config import (
        CONFIG_NAME,
        architecture_unknown,
        directory_missing,
        known_architectures,
        read_model_config,
    )

    known = known_architectures()
    if model.replace("/", "-") in known:
        return
    directory = Path(model).expanduser()
    if directory.is_dir():
        read_model_config(directory / CONFIG_NAME)
    elif "/" in model or os.sep in model or model.startswith((".", "~")):
        raise directory_missing(model)
    elif known:  # else open_clip is not installed, which is said by whoever needs it
        raise architecture_unknown(model, known)


def check_device(device: str) -> None:
    """Refuse what no machine calls a device; whether this one has it is torch's to know.

    Raises:
        EncoderError: device_unavailable.
    """
    from models.errors import EncoderError

    if not _DEVICE.fullmatch(device):
        raise EncoderError("device_unavailable", f"{device!r} is no device. Use auto, cpu, cuda or cuda:N.")
