"""The pictures that the page offers to try: there, labelled, and taken by the service as they are."""

import json
import shlex
from pathlib import Path

import pytest

from demo.corpus import QUIZ
from demo.quiz import quiz_question
from demo.samples import write_samples
from demo.species import species_of
from memory.errors import WriteFailed
from reco.demo import _invitation
from service.page.samples import Samples


@pytest.fixture
def quiz(tmp_path: Path, photo_bytes: dict[str, bytes]) -> Path:
    """A demo's folder with as much of the quiz as the samples need."""
    for group in ("known", "unseen", "unseen_genera"):
        (tmp_path / QUIZ / group).mkdir(parents=True)
        for species in species_of(group):
            (tmp_path / QUIZ / group / f"{species.slug}-000.png").write_bytes(photo_bytes["png"])
    quiz_question(tmp_path)[0].write_bytes(photo_bytes["png"])
    return tmp_path


def test_samples_that_cannot_be_written_leave_the_older_ones_whole(quiz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = write_samples(quiz)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for picture in (quiz / QUIZ).rglob("*.png"):
        picture.write_bytes(b"another")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteFailed, match="No space left"):
        write_samples(quiz)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_samples_are_of_the_quiz_and_the_service_lists_them(quiz: Path) -> None:
    tmp_path, (_, name, choices) = quiz, quiz_question(quiz)
    folder = write_samples(tmp_path)
    assert write_samples(tmp_path) == folder  # as often as the demo is run
    listed = json.loads((folder / "samples.json").read_text())["samples"]
    assert len(listed) == len({one["file"] for one in listed}) == 12
    assert listed[0]["answer"] == name
    assert listed[0]["labels"] == choices
    assert all(one["answer"] in one["labels"] and len(set(one["labels"])) == len(one["labels"]) for one in listed)
    samples = Samples.open(str(folder), max_bytes=10**6)
    assert [one["name"] for one in samples.describe()] == [one["file"] for one in listed]
    for one in listed:
        picture = samples.open_picture(one["file"])
        assert picture is not None
        picture.file.close()


@pytest.mark.parametrize("serves", [True, False])
def test_the_invitation_is_a_command_wherever_the_demo_lies(tmp_path: Path, serves: bool) -> None:
    told = _invitation(tmp_path / "my demo's", 8000, serves=serves)
    commands = told.replace("\\\n", " ").split("\n\n")
    picture = str(quiz_question(tmp_path / "my demo's")[0])
    assert f"files=@{picture}" in shlex.split(commands[1])
    assert f"@{picture}" in shlex.split(commands[2])
