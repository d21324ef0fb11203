"""Which RECO a machine has: its version, and a hash of the code that makes a unit what it is. Standard library only."""

import hashlib
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("memory", "memory_builder", "models")  # what decodes, encodes and writes


def code_identity() -> str:
    """Equal on two machines if their units would be: `0.1.0, code 3f2a…`."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(path for package in _PACKAGES for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{version('reco-clip')}, code {digest.hexdigest()[:12]}"
