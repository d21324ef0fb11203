"""What a build is told to take before it begins, and rows that are tried again after it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memory import Memory
from memory_builder import (
    BuildConfig,
    Origin,
    OutputError,
    build,
    build_from_embeddings,
    forecast_build,
    forecast_from_embeddings,
    open_embeddings,
)
from models.encoder import Encoder
from reco.build_plan import duration

WriteFolder = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path, write_folder: WriteFolder) -> BuildConfig:
    photos = write_folder(tmp_path / "photos", range(40))
    (photos / "000/00003.jpg").write_bytes(b"no image")
    return BuildConfig((str(photos),), tmp_path / "memory", unit_rows=16, batch_size=8, max_error_rate=0.2)


def test_a_forecast_counts_samples_and_writes_nothing(config: BuildConfig, encoder: Encoder) -> None:
    found = forecast_build(config, encoder)
    assert not config.memory.exists()
    assert [(source.name, source.kind, source.rows) for source in found.sources] == [("photos", "folder", 40)]
    assert (found.rows, found.units, found.rows_done) == (40, 3, 0)
    assert found.sampled == 28, "the beginnings of all three units, of which one has 8 rows"
    assert found.rejected == {"image_format_unsupported": 1}
    assert found.rows_per_s > 0
    assert found.seconds == pytest.approx(40 / found.rows_per_s)
    assert set(found.stages) == {"decode", "encode"}
    found.check()


def test_disk_is_predicted_within_a_tenth(config: BuildConfig, encoder: Encoder) -> None:
    found = forecast_build(config, encoder)
    build(config, encoder)
    rows = [path for path in config.memory.rglob("*") if path.name.startswith(("image.", "text.", "items.", "shard-"))]
    held = sum(path.stat().st_size for path in rows if "segments" in path.parts or "indexes" in path.parts)
    assert held == pytest.approx(found.final_bytes, rel=0.1)
    again = forecast_build(config, encoder)
    assert (again.rows_done, again.sampled, again.seconds) == (40, 0, 0.0)


def test_embeddings_are_forecast_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "cache.npz", image=np.ones((50, 8), "f4"), text=np.ones((50, 8), "f4"))
    config = BuildConfig((str(tmp_path / "cache.npz"),), tmp_path / "memory")
    readers = open_embeddings(config)
    origin = Origin.undeclared("some-clip", 8)
    found = forecast_from_embeddings(config, readers, origin)
    assert (found.rows, found.sampled, found.stages) == (50, 50, {})
    assert not config.memory.exists()
    assert build_from_embeddings(config, readers, origin).added == 50


def test_B23_what_cannot_fit_is_refused_before_it_is_begun(
    config: BuildConfig, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(config.memory.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(OutputError, match=r"GB on disk, and 0\.0 GB are free"):
            forecast_build(config, encoder).check()
    found = forecast_build(config, encoder)
    with pytest.raises(OutputError, match=r"of RAM.*--workers"):
        replace(found, free_ram_bytes=found.ram_bytes - 1).check()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "1 s"), (80, "80 s"), (600, "10 min"), (9000, "2.5 h"), (2e5, "2.3 days")]
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_rejected_rows_are_tried_again_on_request(config: BuildConfig, encoder: Encoder) -> None:
    photos = Path(config.corpora[0])
    broken = photos / "000/00003.jpg"
    stamp = broken.stat()
    assert build(config, encoder).rejected == {"image_format_unsupported": 1}
    good = (photos / "000/00004.jpg").read_bytes()
    # As if the decoder had learned the format: to the plan, nothing has changed.
    broken.write_bytes(good)
    with broken.open("r+b") as file:
        file.truncate(stamp.st_size)
    os.utime(broken, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert build(config, encoder).present == 39
    still = build(replace(config, retry_failed=True), encoder)
    assert (still.created, still.present, still.rejected) == (False, 39, {"image_truncated": 1})

    (photos / "000/00003.jpg").write_bytes(good)
    mended = build(replace(config, retry_failed=True), encoder)
    assert (mended.version, mended.added, mended.present, mended.rejected) == (2, 1, 39, {})
    with Memory.open(config.memory) as memory:
        assert sorted(memory.keys()) == [f"photos/{n // 10:03d}/{n:05d}" for n in range(40)]
    assert build(config, encoder).created is False


def test_units_of_an_unfinished_build_are_tried_again_too(config: BuildConfig, encoder: Encoder) -> None:
    with pytest.raises(Exception, match="too_many_rejected"):
        build(replace(config, max_error_rate=0.0), encoder)
    result = build(replace(config, retry_failed=True), encoder)
    assert (result.units_resumed, result.units_encoded, result.added) == (2, 1, 39)


def test_units_of_an_unfinished_build_are_copied_and_indexed_still(config: BuildConfig, encoder: Encoder) -> None:
    fresh = forecast_build(config, encoder)
    with pytest.raises(Exception, match="too_many_rejected"):
        build(replace(config, max_error_rate=0.0), encoder)
    rows = [
        path for path in (config.memory / "work/units").rglob("*") if path.name.startswith(("image", "text", "items"))
    ]
    stored = sum(path.stat().st_size for path in rows)
    again = forecast_build(config, encoder)
    assert (again.rows_done, again.sampled) == (40, 0)
    assert again.final_bytes > 0.5 * stored
    assert again.peak_bytes == again.final_bytes < fresh.peak_bytes
