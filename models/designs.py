"""The designs of a fusion, by name: for whoever asks for one before torch is loaded. Imports nothing."""

from typing import Literal, get_args

Design = Literal["evidence", "faithful", "copy", "gate"]
DESIGNS: tuple[Design, ...] = get_args(Design)
