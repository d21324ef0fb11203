"""What a second run of the demo takes up, and what it makes anew."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from seeded_rows import encoder_record

from demo.story import _fusion
from models.fusion import Fusion, FusionConfig


class Lessons:
    """Fits at once, and counts how often."""

    fits = 0

    def fit(self, seed: int) -> Fusion:
        self.fits += 1
        return Fusion(FusionConfig("gate", 64)).eval()


@pytest.mark.parametrize(("digest", "architecture", "fits"), [("a", "tiny", 1), ("b", "tiny", 2), ("a", "other", 2)])
def test_only_a_fusion_of_this_memory_is_taken_up(tmp_path: Path, digest: str, architecture: str, fits: int) -> None:
    """Whoever deletes the folder of the memory gets a fusion of the one that is built in its place."""
    lessons: Any = Lessons()
    for told in ({"digest": "a"}, {"digest": digest, "architecture": architecture}):
        encoder = encoder_record(64) | {"architecture": told.get("architecture", "tiny")}
        memory: Any = SimpleNamespace(encoder=encoder, digest=told["digest"])
        _fusion(tmp_path / "fusion", memory, lessons, 0)
    assert lessons.fits == fits
