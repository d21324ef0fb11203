"""How many cores a service takes for its own."""

import os
from pathlib import Path

import pytest

from service.pipeline.cores import usable_cores

AFFINITY = len(os.sched_getaffinity(0))


def test_without_a_control_group_it_is_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == AFFINITY


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000", AFFINITY),
        ("100000 100000", 1),
        ("50000 100000", 1),  # half a core is one thread
        ("150000 100000", min(2, AFFINITY)),
        ("6400000 100000", AFFINITY),  # more than there is
        ("", AFFINITY),
        ("nonsense", AFFINITY),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, cpu_max: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{cpu_max}\n")
    assert usable_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", AFFINITY), ("100000", 1)])
def test_a_quota_of_version_1(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == expected
