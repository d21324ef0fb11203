"""What can be refused without torch is refused before it is loaded, and what takes seconds is announced first."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from memory import MemoryNotFound, read_manifest
from reco.serve import _say_loading

TINY_CLIP = str(Path(__file__).parents[2] / "demo" / "tiny_clip")
_RUN = (
    "import json, sys\n"
    "from reco.cli import main\n"
    "code = 0\n"
    "try: main()\n"
    "except SystemExit as end: code = end.code\n"
    "print(json.dumps({'code': code, **{name: name in sys.modules for name in ('torch', 'faiss')}}))\n"
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
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "a.txt").write_text("a bird")
    (tmp_path / "task.npz").write_bytes(b"")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    (tmp_path / "broken" / "a.txt").write_text("a bird")
    (tmp_path / "outside.csv").write_text(f"path,caption\n{tmp_path}/photos/a.png,a bird\n../a.png,a bird\n")
    (tmp_path / "odd.csv").write_text("address,caption\na.png,a bird\n")
    (tmp_path / "empty.txt").write_text("\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("build nowhere -o m --model ViT-B-32", "corpus_not_found"),
        ("build photos -o m", "which encoder?"),
        ("build broken -o m --model ViT-B-32", "nothing_usable: The only row cannot be stored: 1 image_format_uns"),
        ("build broken -o m --model ViT-B-32 --plan", "The first: broken/a.png"),
        ("build outside.csv -o m --model ViT-B-32", "2 path_outside. The first: outside.csv row 1 (outside/"),
        ("build odd.csv -o m --model ViT-B-32", "table_columns"),
        ("build photos -o m --model ./nowhere", "encoder_directory_missing"),
        ("build photos -o m --model photos/", "config_missing"),
        ("build photos -o m --plan --model ./nowhere", "encoder_directory_missing"),
        ("train nowhere -o f", "memory_not_found"),
        ("train nowhere -o f --names nowhere.txt", "--names nowhere.txt"),
        ("train nowhere -o f --names empty.txt", "one name a line"),
        ("train nowhere -o f --design eviden", "unknown design"),
        ("train nowhere -o task.npz", "output_refused"),
        ("train nowhere -o s3://bucket/fusion", "an object store is only read"),
        ("build photos -o s3://bucket/memory --model ViT-B-32", "an object store is only read"),
        ("bench --what texts --images photos", "--images with --what texts"),
        ("train nowhere -o f --recipe mine", "unknown recipe 'mine': choose one of paper"),
        ("train nowhere -o f --set mis=0.3", "there is no setting 'mis'"),
        ("train nowhere -o f --set miss=often", "miss is a number, not 'often'"),
        ("train nowhere -o f --device gpu", "device_unavailable"),
        ("build photos -o m --model ViT-B-33", "architecture_unknown: 'ViT-B-33'"),
        ("build photos -o m --model ViT-B-32 --device gpu", "device_unavailable"),
        ("eval nowhere nowhere photos --model ViT-B-33", "Near it are ViT-B-32"),
        ("train nowhere -o f --learning-rate fast", "--learning-rate"),
        ("eval nowhere nowhere nowhere.npz", "task_not_found"),
        ("eval nowhere nowhere task.npz", "checkpoint_not_found"),
        ("eval nowhere nowhere photos", "encoder_needed"),
        ("eval nowhere nowhere photos --model ./nowhere", "encoder_directory_missing"),
        ("eval nowhere nowhere task.npz --kind zeroshot", "unknown kind"),
        ("eval nowhere nowhere photos --model ViT-B-32 --classes nowhere.txt", "classes_invalid"),
        ("eval --ablations nowhere", "world_unknown"),
        ("serve", "--model (RECO_MODEL) is needed; --memory (RECO_MEMORY) is needed"),
        ("demo -d task.npz", "task.npz is a file: name another folder with --directory"),
        ("demo -d /proc/demo", "/proc cannot be written to"),
        ("serve --port 99999", "--port (RECO_PORT)"),
    ],
)
def test_without_torch(arguments: str, said: str, folder: Path) -> None:
    told, stderr = reco(*arguments.split(), at=folder)
    assert said in " ".join(stderr.split())
    assert told["code"] in (1, 2)
    assert not told["torch"], "seconds for nothing"
    assert "loading" not in stderr


def test_a_demo_on_a_taken_port_says_so_before_it_draws(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told, stderr = reco("demo", "-d", "guide", "--port", taken.getsockname()[1], at=folder)
    assert told == {"code": 2, "torch": False, "faiss": False}
    assert "choose another with --port, or --no-serve" in stderr
    assert not (folder / "guide").exists()


@pytest.mark.parametrize("serve", [[], ["--no-serve"]])
def test_a_demo_beside_a_misspelt_setting_says_so_before_it_draws(folder: Path, serve: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["demo", "-d", "guide", "--port", port, *serve]
    told, stderr = reco(*words, at=folder, RECO_TREADS="2")
    assert told == {"code": 1, "torch": False, "faiss": False}
    assert "did you mean RECO_THREADS?" in stderr
    assert "RECO_K: " in reco(*words, at=folder, RECO_K="-1")[1]
    assert not (folder / "guide").exists()


def test_a_full_disk_is_a_sentence(folder: Path) -> None:
    command = [sys.executable, "-m", "reco.cli", "key", "new", "web"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("reco: No space left on device: make room")


@pytest.mark.parametrize("command", ["memory info", "memory verify", "memory compact", "train"])
def test_a_memory_that_is_not_there_is_told_before_faiss_is_loaded(command: str, folder: Path) -> None:
    words = [*command.split(), "nowhere", *(["-o", "f"] if command == "train" else [])]
    told, stderr = reco(*words, at=folder)
    assert not told["faiss"]
    with pytest.raises(MemoryNotFound) as refused:
        read_manifest(Path("nowhere"))
    assert f"memory_not_found: {refused.value}" in " ".join(stderr.split())


def test_what_loads_torch_says_so_first_and_not_when_quiet(folder: Path) -> None:
    build = ("build", "photos", "-o", "m", "--model", TINY_CLIP, "--plan", "--device", "cpu")
    told, stderr = reco(*build, at=folder)
    assert told["torch"], stderr
    lines = stderr.splitlines()
    assert lines[0] == "looking at photos"
    assert lines[1].startswith("loading torch")
    _, stderr = reco("--quiet", *build, at=folder)
    assert "loading" not in stderr
