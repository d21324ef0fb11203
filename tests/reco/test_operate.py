"""`reco operator` against a running service: what it changes, and what it says where the service refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reco.cli import app
from service.door.keys import key_line, new_key

OPERATOR = new_key()


@pytest.fixture
def run(
    serve: Any, own_memory: Path, tmp_path: Path, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Run a command against a service of its own, as its operator, beside two pictures."""
    (tmp_path / "keys").write_text(key_line("admin", ["operator"], OPERATOR))
    for name in ("jpeg", "png"):
        (tmp_path / f"one.{name}").write_bytes(photo_bytes[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECO_API_KEY", OPERATOR)
    with serve(engine=None, memory=str(own_memory), api_keys_file=str(tmp_path / "keys")) as service:
        monkeypatch.setenv("RECO_URL", service.url)
        yield lambda *arguments: CliRunner().invoke(app, ["operator", *arguments])


def test_pairs_are_added_listed_and_taken_out(run: Any) -> None:
    added = run("add", "one.jpeg", "one.png", "--name", "tirrik", "--key", "mine")
    assert (added.exit_code, added.stdout.split()) == (0, ["mine/0", "mine/1"]), added.output
    assert 'added 2 as "a photo of a tirrik.": memory version 2, 26 items' in added.stderr
    again = json.loads(run("add", "one.jpeg", "one.png", "--name", "tirrik", "--key", "mine", "--json").stdout)
    assert (again["added"], again["present"]) == ([], ["mine/0", "mine/1"])
    assert run("list").stdout.splitlines() == ["mine/1\ta photo of a tirrik.", "mine/0\ta photo of a tirrik."]
    assert "removed 1: memory version 3, 25 items" in run("remove", "mine/1").stderr
    assert [pair["key"] for pair in json.loads(run("list", "--json").stdout)["pairs"]] == ["mine/0"]


def test_the_image_that_cannot_be_added_is_named(run: Any) -> None:
    Path("cut.jpg").write_bytes(Path("one.jpeg").read_bytes()[:200])
    refused = run("add", "one.png", "cut.jpg", "--name", "tirrik")
    assert (refused.exit_code, "cut.jpg: image_truncated" in refused.stderr) == (1, True), refused.output
    assert "Nothing was added." in refused.stderr


def test_a_reload_tells_what_is_new_and_whether_the_keys_were_read(run: Any, tmp_path: Path) -> None:
    told = run("reload")
    assert (told.exit_code, "nothing is new: memory version 1, 24 items" in told.stderr) == (0, True)
    (tmp_path / "keys").write_text("")
    told = run("reload")
    assert (told.exit_code, "the keys could not be read" in told.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("add", "one.jpeg"), 2, "--name or --caption"),
        (("add", "nowhere.jpeg", "--name", "a"), 2, "is not there"),
        (("remove", "nowhere"), 1, "pair_not_found"),
    ],
)
def test_what_is_refused_is_one_sentence(run: Any, arguments: tuple[str, ...], code: int, told: str) -> None:
    refused = run(*arguments)
    assert (refused.exit_code, told in refused.stderr) == (code, True), refused.output
