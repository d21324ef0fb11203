"""Commands where names are no UTF-8, files may not be used, a pipe closes, or Ctrl-C comes: real processes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RECO = [sys.executable, "-m", "reco"]


@pytest.fixture
def reco(service: Any, tmp_path: Path) -> Any:
    """Run a command in a folder of its own, beside the service."""

    def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RECO, *map(os.fspath, arguments)],  # type: ignore[call-overload]  # a name may be bytes
            cwd=tmp_path, env=os.environ | {"RECO_URL": service.url} | settings,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("output", ["out.jsonl", "out.npy"])
def test_a_name_that_is_no_utf8_is_embedded_and_gone_on_with(
    reco: Any, tmp_path: Path, photo_bytes: dict[str, bytes], output: str
) -> None:
    (tmp_path / "photos").mkdir()
    for name in (b"caf\xe9.jpg", b"ok.jpg"):
        Path(os.fsdecode(bytes(tmp_path / "photos") + b"/" + name)).write_bytes(photo_bytes["jpeg"])
    done = reco("embed", "photos", "-o", output)
    assert done.returncode == 0, done.stderr
    items = tmp_path / output.replace("npy", "items.jsonl")
    keys = [json.loads(line)["key"] for line in items.read_text(encoding="utf-8").splitlines()]
    assert keys == [os.fsdecode(b"photos/caf\xe9.jpg"), "photos/ok.jpg"]
    for more in ([], ["--json"]):
        told = reco("classify", "photos", "--labels", "a,b", *more, PYTHONIOENCODING="utf-8:strict")
        assert (told.returncode, r"caf\udce9.jpg" in told.stdout) == (0, True), told.stderr
    if output.endswith("jsonl"):
        again = reco("embed", "photos", "-o", output, "--resume")
        assert (again.returncode, "embedded 0 images" in again.stderr) == (0, True), again.stderr


@pytest.mark.parametrize("output", ["out.jsonl", "out.npy"])
def test_the_same_command_works_after_one_that_wrote_nothing(reco: Any, tmp_path: Path, output: str) -> None:
    (tmp_path / "texts").write_text("a wren\n")
    missing = reco("embed", "--texts", "nowhere", "-o", output)
    assert (missing.returncode, missing.stderr) == (2, "reco: nowhere: No such file or directory\n")
    away = reco("embed", "--texts", "texts", "-o", output, RECO_URL="ftp://nowhere")
    assert away.returncode == 2
    done = reco("embed", "--texts", "texts", "-o", output)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_written_or_read_is_a_sentence(reco: Any, tmp_path: Path) -> None:
    for arguments, settings, told in (
        (["embed", "--text", "a", "-o", "/proc/out.npy"], {}, "/proc/out.npy.part: No such file or directory"),
        (["embed", "x" * 300], {}, "x: File name too long"),
        (["embed", "--text", "a"], {"RECO_API_KEY_FILE": "nowhere"}, "RECO_API_KEY_FILE nowhere: No such file"),
        (["embed", "--text", "a"], {"RECO_API_KEY_FILE": sys.executable}, f"RECO_API_KEY_FILE {sys.executable}: not"),
    ):
        done = reco(*arguments, **settings)
        assert done.returncode in (1, 2)
        assert re.fullmatch(rf"(⠋.*\n)?reco: .*{re.escape(told)}.*\n", done.stderr), done.stderr


def test_ctrl_c_says_how_to_go_on(service: Any, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("".join(f"bird {number}\n" for number in range(100_000)))
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    output = tmp_path / "out.jsonl"
    command = [*RECO, "embed", "--texts", tmp_path / "texts", "-o", output, "--url", service.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, own)
        while not output.exists() or not output.stat().st_size:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert told.endswith(f"reco: stopped: the same command with --resume goes on with {output}\n")


def test_who_reads_no_further_ends_the_command_and_nothing_is_asked_again(
    service: Any, tmp_path: Path, photo_bytes: dict[str, bytes]
) -> None:
    for number in range(300):
        (tmp_path / f"{number}.jpg").write_bytes(photo_bytes["jpeg"])
    command = [*RECO, "classify", tmp_path, "--labels", "a,b", "--url", service.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("image")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
