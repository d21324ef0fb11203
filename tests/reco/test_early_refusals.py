"""What can be refused without torch is refused before it is loaded, and what takes seconds is announced first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reco.serve import _say_loading

TINY_CLIP = str(Path(__file__).parents[2] / "demo" / "tiny_clip")
_RUN = (
    "import json, sys\n"
    "from reco.cli import main\n"
    "code = 0\n"
    "try: main()\n"
    "except SystemExit as end: code = end.code\n"
    "print(json.dumps({'code': code, 'torch': 'torch' in sys.modules}))\n"
)


def test_a_log_of_json_says_what_is_loaded_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    _say_loading("json")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["loading torch, the encoder and the memory"]


def reco(*arguments: object, at: Path, **settings: str) -> tuple[dict[str, object], str]:
    """Exit code and whether torch was loaded, and standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, arguments)],
        cwd=at,
        env=kept | settings | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    (tmp_path / "photos" / "a.txt").write_text("a bird")
    (tmp_path / "task.npz").write_bytes(b"")
    (tmp_path / "empty.txt").write_text("\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("build nowhere -o m --model ViT-B-32", "corpus_not_found"),
        ("build photos -o m", "which encoder?"),
        ("build photos -o m --model ./nowhere", "encoder_directory_missing"),
        ("build photos -o m --model photos/", "config_missing"),
        ("build photos -o m --plan --model ./nowhere", "encoder_directory_missing"),
        ("train nowhere -o f", "memory_not_found"),
        ("train nowhere -o f --names nowhere.txt", "--names nowhere.txt"),
        ("train nowhere -o f --names empty.txt", "one name a line"),
        ("train nowhere -o f --design eviden", "unknown design"),
        ("train nowhere -o task.npz", "output_refused"),
        ("train nowhere -o f --learning-rate fast", "--learning-rate"),
        ("eval nowhere nowhere nowhere.npz", "task_not_found"),
        ("eval nowhere nowhere task.npz", "checkpoint_not_found"),
        ("eval nowhere nowhere photos", "encoder_needed"),
        ("eval nowhere nowhere photos --model ./nowhere", "encoder_directory_missing"),
        ("eval nowhere nowhere task.npz --kind zeroshot", "unknown kind"),
        ("eval nowhere nowhere photos --model ViT-B-32 --classes nowhere.txt", "classes_invalid"),
        ("eval --ablations nowhere", "world_unknown"),
        ("serve", "--model (RECO_MODEL) is needed; --memory (RECO_MEMORY) is needed"),
        ("serve --port 99999", "--port (RECO_PORT)"),
    ],
)
def test_without_torch(arguments: str, said: str, folder: Path) -> None:
    told, stderr = reco(*arguments.split(), at=folder)
    assert said in " ".join(stderr.split())
    assert told["code"] in (1, 2)
    assert not told["torch"], "seconds for nothing"
    assert "loading" not in stderr


def test_what_loads_torch_says_so_first_and_not_when_quiet(folder: Path) -> None:
    build = ("build", "photos", "-o", "m", "--model", TINY_CLIP, "--plan", "--device", "cpu")
    told, stderr = reco(*build, at=folder)
    assert told["torch"], stderr
    lines = stderr.splitlines()
    assert lines[0] == "looking at photos"
    assert lines[1].startswith("loading torch")
    _, stderr = reco("--quiet", *build, at=folder)
    assert "loading" not in stderr
