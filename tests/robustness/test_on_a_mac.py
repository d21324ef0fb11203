"""RECO without what only Linux has: there is no Mac here, so processes of this one are told that they run on one.

What Linux alone has is taken from them (`on_a_mac/sitecustomize.py`), so whoever relies on it fails. That torch and
FAISS get on with each other there is not shown by this.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from PIL import Image
from served_process import free_port, wait_until_ready

_MAC = Path(__file__).parent / "on_a_mac"
_OPENMP = """
import os, threading
from memory.indexing.kernels import faiss, usable_threads
told = []
thread = threading.Thread(target=lambda: told.append(faiss.omp_get_max_threads()))
thread.start()
thread.join()
print(usable_threads(), *told, os.environ.get("KMP_DUPLICATE_LIB_OK"), os.environ["OMP_NUM_THREADS"])
"""


def on_a_mac(*path: Path) -> dict[str, str]:
    found = [str(one) for one in (_MAC, *path)] + [entry for entry in sys.path if entry]
    return os.environ | {"PYTHONPATH": os.pathsep.join(found)}


def reco(*words: object) -> Sequence[str]:
    return [sys.executable, "-m", "reco", *map(str, words)]


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=on_a_mac(), capture_output=True, text=True, timeout=120)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.effect_noise((100 + number, 90), 60).save(folder / f"{number}.jpg")
        (folder / f"{number}.txt").write_text(f"a bird of kind {number}")
    return folder


def test_a_memory_is_built_and_served(tmp_path: Path, photos: Path, encoder_dir: Path) -> None:
    memory, build = tmp_path / "memory", reco("build", photos, "--model", encoder_dir, "-o")
    planned = run([*build, str(memory), "--plan"])
    assert planned.returncode == 0, planned.stderr
    assert "GB free" in planned.stderr + planned.stdout
    built = run([*build, str(memory)])
    assert built.returncode == 0, built.stderr
    refused = run([*build, str(tmp_path / "other"), "--decoding", "processes"])
    assert refused.returncode != 0
    assert "config_invalid: decoding is 'processes'" in refused.stderr

    port = free_port()
    serve = reco("serve", "--memory", memory, "--model", encoder_dir, "--port", port)
    environ = on_a_mac() | {"RECO_DECODING": "processes"}
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(serve, env=environ, stdout=log, stderr=log) as service:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", service)
            sent = {"content": (photos / "0.jpg").read_bytes(), "headers": {"Content-Type": "image/jpeg"}}
            answer = httpx.post(f"http://127.0.0.1:{port}/embed/image?return_neighbours=true&k=2", **sent, timeout=60)
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"][0]["neighbours"][0]["key"] == "photos/0"
        finally:
            service.terminate()
        assert service.wait(60) == 0


def test_the_doctor_names_no_gpu_that_is_not_used() -> None:
    told = run(reco("doctor"))
    assert "encoding runs on the CPU" in told.stdout + told.stderr


def test_torchs_openmp_comes_first_and_that_of_faiss_has_one_thread(tmp_path: Path) -> None:
    """A folder called torch stands in for it, with this system's OpenMP where a Mac's torch has its own."""
    library = tmp_path / "torch" / "lib" / "libomp.dylib"
    library.parent.mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").touch()
    found = sorted((Path(sys.prefix) / "lib").glob("python*/site-packages/torch/lib/libgomp.so*"))
    if not found:
        pytest.skip("this torch brings no OpenMP of its own")
    shutil.copy(found[0], library)
    environ = on_a_mac(tmp_path) | {"OMP_NUM_THREADS": "3"}
    told = subprocess.run([sys.executable, "-c", _OPENMP], env=environ, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["3", "1", "None", "3"]
