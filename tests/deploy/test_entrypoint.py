"""What the image does first: serve the demo, serve what the settings name, or say what is missing."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "deploy" / "entrypoint.py"
OWN = {"RECO_MODEL": "/data/model", "RECO_MEMORY": "/data/nowhere"}


class Became(BaseException):
    """The process would have become this command, in this environment."""

    def __init__(self, *arguments: str, environ: Mapping[str, str]) -> None:
        self.arguments, self.environ = arguments, environ


@pytest.fixture
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("entrypoint", ENTRYPOINT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def become(*arguments: str, environ: Mapping[str, str]) -> None:
        raise Became(*arguments, environ=environ)

    monkeypatch.setattr(module, "become", become)
    monkeypatch.setattr(module, "DEMOS", tmp_path / "demo")
    return module


def finish_demo(entrypoint: ModuleType) -> None:
    entrypoint.demo_directory().mkdir(parents=True)
    (entrypoint.demo_directory() / "serve.env").write_text("# the demo\nRECO_MODEL=/app/clip\nRECO_MEMORY=/data/a=b\n")


def write_memory(root: Path) -> str:
    (root / "manifests").mkdir(parents=True)
    (root / "manifests" / "00000001.json").write_text("{}")
    return str(root)


def test_serves_the_finished_demo_when_no_memory_is_named(entrypoint: ModuleType) -> None:
    finish_demo(entrypoint)
    with pytest.raises(Became) as became:
        entrypoint.main(["serve"], {"RECO_MEMORY": "", "RECO_K": "3"})
    assert became.value.arguments == ("serve",)
    assert became.value.environ == {"RECO_MODEL": "/app/clip", "RECO_MEMORY": "/data/a=b", "RECO_K": "3"}


def test_serves_what_the_settings_name_untouched(entrypoint: ModuleType) -> None:
    finish_demo(entrypoint)
    with pytest.raises(Became) as became:
        entrypoint.main(["serve"], OWN)
    assert became.value.environ == OWN


def test_other_commands_are_recos_own(entrypoint: ModuleType) -> None:
    with pytest.raises(Became) as became:
        entrypoint.main(["memory", "info", "/data/x"], {"RECO_MODEL": "m"})
    assert became.value.arguments == ("memory", "info", "/data/x")


def test_prepare_makes_the_demo_once(entrypoint: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Became) as became:
        entrypoint.main(["prepare"], {})
    assert became.value.arguments == (
        "demo",
        "--directory",
        str(entrypoint.demo_directory()),
        "--no-serve",
        "--no-table",
    )
    finish_demo(entrypoint)
    entrypoint.main(["prepare"], {})
    assert capsys.readouterr().out == f"reco: found the demo {entrypoint.demo_directory()}\n"


def test_prepare_finds_a_memory(entrypoint: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fusion = tmp_path / "fusion"
    fusion.mkdir()
    own = OWN | {"RECO_MEMORY": write_memory(tmp_path / "own"), "RECO_FUSION": str(fusion)}
    entrypoint.main(["prepare"], own)
    assert capsys.readouterr().out == f"reco: found the memory {own['RECO_MEMORY']}\n"


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"RECO_MEMORY": "birds", "RECO_BACKEND": "milvus"},
        {"RECO_MEMORY": "s3://bucket/birds", "RECO_ALLOW_REMOTE": "s3"},
    ],
)
def test_prepare_leaves_a_memory_that_is_elsewhere_to_serve(
    entrypoint: ModuleType, elsewhere: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    entrypoint.main(["prepare"], OWN | elsewhere)
    assert f"the memory {elsewhere['RECO_MEMORY']} is not on this disk" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="needs RECO_MODEL"):
        entrypoint.main(["prepare"], elsewhere)


@pytest.mark.parametrize(
    ("command", "changed", "sentence"),
    [
        ("serve", {"RECO_MEMORY": ""}, "RECO_MODEL is set but RECO_MEMORY is not"),
        ("prepare", {"RECO_MEMORY": ""}, "RECO_MODEL is set but RECO_MEMORY is not"),
        ("prepare", {}, "no memory at RECO_MEMORY=/data/nowhere"),
        ("serve", {"RECO_MEMORY": "", "RECO_MODEL": ""}, "no demo at"),
    ],
)
def test_half_a_configuration_ends_in_a_sentence(
    entrypoint: ModuleType, command: str, changed: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SystemExit, match=sentence):
        entrypoint.main([command], OWN | changed)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"RECO_FUSION": "/data/no-fusion"}, "no fusion checkpoint at RECO_FUSION=/data/no-fusion"),
        ({"RECO_MODEL": ""}, "needs RECO_MODEL"),
    ],
)
def test_prepare_names_what_a_memory_lacks(
    entrypoint: ModuleType, tmp_path: Path, changed: dict[str, str], sentence: str
) -> None:
    own = OWN | {"RECO_MEMORY": write_memory(tmp_path / "own")} | changed
    with pytest.raises(SystemExit, match=sentence):
        entrypoint.main(["prepare"], own)
