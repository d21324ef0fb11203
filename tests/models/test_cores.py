"""How many cores a process takes for its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.cores import bound_openmp, usable_cores, wait_briefly

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


@pytest.mark.parametrize(
    ("environ", "cpu_max", "expected"),
    [
        ({}, "max 100000", None),  # nothing bounds: OpenMP chooses
        ({}, "100000 100000", "1" if AFFINITY > 1 else None),
        ({"RECO_THREADS": "3"}, "100000 100000", "3"),
        ({"RECO_THREADS": "3", "OMP_NUM_THREADS": "5"}, "100000 100000", "5"),
        ({"RECO_THREADS": "many"}, "max 100000", None),  # the settings refuse it
    ],
)
def test_openmp_is_bounded_by_the_setting_then_by_the_quota(
    tmp_path: Path, environ: dict[str, str], cpu_max: str, expected: str | None
) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    bound_openmp(environ, tmp_path)
    assert environ.get("OMP_NUM_THREADS") == expected


@pytest.mark.skipif(AFFINITY < 2, reason="one core is one thread in any case")
def test_a_search_takes_no_more_threads_than_the_service_may(tmp_path: Path) -> None:
    """In a thread that has not met torch: OpenMP's bound is a thread's own, and torch sets its own alone."""
    script = (
        "import threading; from typer.testing import CliRunner; from reco.cli import app;"
        "done = CliRunner().invoke(app, ['serve', '--show-config', '--memory', 'm', '--model', 'm']);"
        "assert done.exit_code == 0, done.output; import torch; torch.set_num_threads(1);"
        "from memory.indexing.kernels import faiss;"
        "thread = threading.Thread(target=lambda: print(faiss.omp_get_max_threads()));"
        "thread.start(); thread.join()"
    )
    environ = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for threads, expected in (("1", "1"), ("2", "2")):
        told = subprocess.run(
            [sys.executable, "-c", script],
            env=environ | {"RECO_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split()[-1] == expected


def test_a_wait_policy_of_the_users_stays() -> None:
    environ = {"OMP_WAIT_POLICY": "passive"}
    wait_briefly(environ)
    assert environ == {"OMP_WAIT_POLICY": "passive"}
    environ = {"GOMP_SPINCOUNT": "7"}
    wait_briefly(environ)
    assert environ == {"GOMP_SPINCOUNT": "7", "OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="torch has libgomp on Linux alone")
def test_a_service_says_how_its_threads_wait_before_openmp_is_loaded() -> None:
    script = (
        "from typer.testing import CliRunner; from reco.cli import app;"
        "done = CliRunner().invoke(app, ['serve', '--show-config', '--memory', 'm', '--model', 'm']);"
        "assert done.exit_code == 0, done.output; import torch; from memory.indexing.kernels import faiss"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    child = subprocess.run(
        [sys.executable, "-c", script],
        env=environ | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    libraries = child.stderr.count("GOMP_SPINCOUNT")
    assert libraries >= 1
    assert child.stderr.count("GOMP_SPINCOUNT = '30000'") == libraries  # of torch, and of FAISS if it has its own
    assert child.stderr.count("OMP_WAIT_POLICY = 'ACTIVE'") == libraries
