"""The tiny CLIP that ships with the demo: a model directory like any other, checked against its SHA-256."""

import hashlib
from pathlib import Path

DIRECTORY = Path(__file__).parent / "tiny_clip"


def tiny_clip_directory() -> Path:
    """The directory to hand to `Encoder.open`.

    Raises:
        RuntimeError: if a file is not the one that was shipped.
    """
    for line in (DIRECTORY / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        expected, name = line.split()
        if hashlib.sha256((DIRECTORY / name).read_bytes()).hexdigest() != expected:
            raise RuntimeError(f"{DIRECTORY / name} is not the file that was shipped: install RECO again")
    return DIRECTORY
