"""`reco doctor` says what is there, what is not, and what to do: as a table, as JSON, and by its exit code."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reco.cli import app

TINY_CLIP = Path(__file__).parents[2] / "demo" / "tiny_clip"


def doctor(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
    command = [sys.executable, "-m", "reco.cli", "doctor", *arguments]
    return subprocess.run(command, env=kept | settings, capture_output=True, text=True, check=False)


def told_by(output: str) -> dict[str, dict[str, str]]:
    return {one["what"]: one for one in json.loads(output)}


def findings(**settings: str) -> tuple[dict[str, dict[str, str]], int]:
    """What is found in these settings, and the exit code, asked in this process: another would load torch first."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [one for one in os.environ if one.startswith("RECO_")]:
            patch.delenv(name)
        done = CliRunner().invoke(app, ["doctor", "--json"], env=settings)
    return told_by(done.stdout), done.exit_code


@pytest.fixture(scope="module")
def taken_port() -> "object":
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_machine_without_settings_is_told_where_to_begin() -> None:
    done = doctor("--json")
    told = told_by(done.stdout)
    assert done.returncode == 0
    assert {"Python", "packages", "FAISS", "CPU", "memory", "disk"} <= told.keys()
    assert "reco demo" in told["settings"]["advice"]


def test_what_stands_in_the_way_is_named_with_what_to_do(tmp_path: Path, taken_port: int) -> None:
    told, code = findings(
        RECO_MODEL=str(TINY_CLIP), RECO_MEMORY=str(tmp_path), RECO_PORT=str(taken_port), RECO_HOST="127.0.0.1"
    )
    assert code == 1
    assert told["RECO_MEMORY"]["state"] == "bad"
    assert "reco build" in told["RECO_MEMORY"]["advice"]
    assert told[f"port {taken_port}"]["state"] == "bad"
    assert told["keys"]["state"] == "good"


def test_quiet_tells_only_what_is_not_good() -> None:
    done = doctor("--quiet", RECO_MEMORY="x", RECO_MODEL="y", RECO_THREAD="3")
    assert done.returncode == 1
    assert "did you mean RECO_THREADS?" in done.stdout
    assert "Python" not in done.stdout


def test_a_memory_in_milvus_is_looked_for_there(tmp_path: Path) -> None:
    told, code = findings(
        RECO_MODEL=str(TINY_CLIP), RECO_MEMORY="photos", RECO_BACKEND="milvus", RECO_MILVUS_URI="http://127.0.0.1:9"
    )
    assert code == 1
    assert "ilvus" in told["RECO_MEMORY"]["told"]
    assert "reco memory push" in told["RECO_MEMORY"]["advice"]


def test_the_file_of_keys_is_read(tmp_path: Path) -> None:
    around = {"RECO_MODEL": str(TINY_CLIP), "RECO_MEMORY": str(tmp_path), "RECO_API_KEYS_FILE": str(tmp_path / "keys")}
    told, code = findings(**around)
    assert (told["keys"]["state"], code) == ("bad", 1)
    (tmp_path / "keys").write_text("page use sha256:" + "0" * 63)
    assert findings(**around)[0]["keys"]["state"] == "bad"
    (tmp_path / "keys").write_text("page use sha256:" + "0" * 64)
    told, _ = findings(**around)
    assert (told["keys"]["state"], "one of yours" in told["keys"]["told"]) == ("good", True)
    (tmp_path / "keys").write_text("page operator sha256:" + "0" * 64)
    told, code = findings(**around)
    assert (told["keys"]["state"], "to use it takes none" in told["keys"]["told"]) == ("good", True)


@pytest.mark.parametrize(
    ("model", "state", "said"),
    [
        (str(TINY_CLIP), "good", "are there"),
        ("ViT-B/32", "good", "architecture"),
        ("ViT-B-33", "bad", "Near it are ViT-B-32"),
        ("/nonexistent", "bad", "is not a directory"),
        (str(TINY_CLIP.parent), "bad", "open_clip_config.json"),
    ],
)
def test_a_model_is_looked_at_before_there_is_a_memory(model: str, state: str, said: str) -> None:
    told, code = findings(RECO_MODEL=model)
    assert told["RECO_MODEL"]["state"] == state
    assert said in told["RECO_MODEL"]["told"]
    assert code == (state == "bad")
