"""What a second run of the demo takes up, and what it makes anew."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from seeded_rows import encoder_record

from demo.story import _fusion, tell
from memory import VersionNotFound
from models.checkpoint import open_fusion
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


@pytest.mark.parametrize("damage", ["another version", "no JSON"])
def test_what_another_version_left_is_made_anew(tmp_path: Path, damage: str) -> None:
    """Whoever runs the demo again after an upgrade had been told to train again, which is what the demo does."""
    lessons: Any = Lessons()
    memory: Any = SimpleNamespace(encoder=encoder_record(64), digest="a")
    _fusion(tmp_path / "fusion", memory, lessons, 0)
    config = tmp_path / "fusion" / "config.json"
    told = config.read_text()
    config.write_text(told.replace('"gate"', '"copy"') if damage == "another version" else told[:20])
    _fusion(tmp_path / "fusion", memory, lessons, 0)
    assert lessons.fits == 2
    assert open_fusion(tmp_path / "fusion", memory.encoder).config["trained"]["memory_digest"] == "a"


def test_a_memory_without_its_first_version_is_told_before_anything_is_drawn(tmp_path: Path) -> None:
    """`reco memory gc --keep 1` drops it, which `reco memory info` advises."""
    manifests = tmp_path / "memory" / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "00000002.json").touch()
    with pytest.raises(VersionNotFound, match=r"keeps version 2 and not 1.*serve\.env.*--directory"):
        tell(tmp_path, (0,), SimpleNamespace())  # type: ignore[arg-type]  # nothing is told of a step
