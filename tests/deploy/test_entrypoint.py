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


@pytest.mark.parametrize(
    ("options", "is_the_demo"),
    [(["--port", "9000"], True), (["--memory", "/data/x", "--model", "m"], False), (["--fusion=/data/f"], False),
     (["--help"], False)],
)  # fmt: skip
def test_options_of_serve_leave_the_demo_what_it_is(
    entrypoint: ModuleType, options: list[str], is_the_demo: bool
) -> None:
    """The demo's settings beside a memory of one's own would be a mixture of both."""
    finish_demo(entrypoint)
    with pytest.raises(Became) as became:
        entrypoint.main(["serve", *options], {})
    assert became.value.arguments == ("serve", *options)
    assert ("RECO_MEMORY" in became.value.environ) == is_the_demo


@pytest.mark.parametrize("cut", ["", "# the demo\nRECO_MODEL=/app/clip\n", "RECO_MODEL=/app/clip\nRECO_MEMORY=/da"])
def test_a_demo_whose_settings_were_cut_is_made_again(entrypoint: ModuleType, cut: str) -> None:
    finish_demo(entrypoint)
    (entrypoint.demo_directory() / "serve.env").write_text(cut)
    with pytest.raises(Became) as became:
        entrypoint.main(["prepare"], {})
    assert became.value.arguments[0] == "demo"
    with pytest.raises(SystemExit, match="no demo at"):
        entrypoint.main(["serve"], {})


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


@pytest.mark.parametrize("shut", ["RECO_MEMORY", "RECO_FUSION"])
def test_prepare_says_who_may_not_read(
    entrypoint: ModuleType, tmp_path: Path, shut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OWN | {"RECO_MEMORY": write_memory(tmp_path / "own"), "RECO_FUSION": str(tmp_path / "fusion")}
    listed, looked = Path.iterdir, Path.is_dir

    def may(path: Path) -> Path:
        if path.is_relative_to(own[shut]):
            raise PermissionError(13, "Permission denied")
        return path

    monkeypatch.setattr(Path, "iterdir", lambda path: listed(may(path)))
    monkeypatch.setattr(Path, "is_dir", lambda path: looked(may(path)))
    with pytest.raises(SystemExit, match=rf"{shut}=.* Permission denied\. The container is uid 10001 .* {own[shut]}$"):
        entrypoint.main(["prepare"], own)


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
