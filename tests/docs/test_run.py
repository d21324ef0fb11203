"""The pages that a newcomer follows, followed: every block that is not marked otherwise, in order. `make follow`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Reader
from pages import ROOT, blocks

pytestmark = [pytest.mark.docs, pytest.mark.timeout(600)]
RUNNABLE = ("bash", "python")


@pytest.mark.parametrize("page", ["quickstart.md"])
def test_a_page_does_what_it_says(page: str, reader: Reader) -> None:
    follow(page, reader)
    assert (reader.folder / "my-fusion" / "evaluation" / "results.json").is_file()


@pytest.mark.parametrize("page", ["integrations.md"])
def test_what_calls_a_service(page: str, reader: Reader) -> None:
    follow(page, reader)  # the service of the quickstart


def test_from_clip_retrieval(tmp_path: Path) -> None:
    someone = Reader(tmp_path)
    follow("from-clip-retrieval.md", someone)
    assert (tmp_path / "my-memory" / "HEAD").exists()


def follow(page: str, reader: Reader) -> None:
    """Run a page's blocks."""
    for block in blocks(ROOT / "docs" / page):
        if block.language not in RUNNABLE or block.note.startswith("not run"):
            continue
        if block.note == "serves":
            reader.serve(block.code)
        else:
            reader.run(block.language, block.code)


def test_what_is_not_run_says_why() -> None:
    silent = [
        str(block)
        for page in (ROOT / "docs").glob("*.md")
        for block in blocks(page)
        if block.note.startswith("not run") and ":" not in block.note
    ]
    assert not silent
