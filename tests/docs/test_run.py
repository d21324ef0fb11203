"""The pages that a newcomer follows, followed: every block that is not marked otherwise, in order. `make follow`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import Reader
from pages import ROOT, blocks

from models.encoder import Encoder

pytestmark = [pytest.mark.docs, pytest.mark.timeout(600)]
RUNNABLE = ("bash", "python")


@pytest.mark.parametrize("page", ["quickstart.md"])
def test_a_page_does_what_it_says(page: str, reader: Reader) -> None:
    follow(page, reader)
    assert (reader.folder / "my-fusion" / "evaluation" / "results.json").is_file()


@pytest.mark.parametrize("page", ["integrations.md"])
def test_what_calls_a_service(page: str, reader: Reader) -> None:
    assert follow(page, reader), "no block of the page was run"  # with the service of the quickstart


def test_from_clip_retrieval(tmp_path: Path) -> None:
    someone = Reader(tmp_path)
    follow("from-clip-retrieval.md", someone)
    assert (tmp_path / "my-memory" / "HEAD").exists()


def test_a_model_directory_of_your_own(tmp_path: Path) -> None:
    follow("choosing.md", Reader(tmp_path))
    encoder = Encoder.open(str(tmp_path / "my-clip"), device="cpu")
    assert (encoder.name, encoder.embed_dim) == ("my-clip", 512)


def follow(page: str, reader: Reader) -> int:
    """Run a page's blocks, each of which fails the test if it fails; how many were run."""
    done = 0
    for block in blocks(ROOT / "docs" / page):
        if block.language not in RUNNABLE or block.note.startswith("not run"):
            continue
        if block.note == "serves":
            reader.serve(block.code)
        else:
            reader.run(block.language, block.code)
        done += 1
    return done


def test_what_is_not_run_says_why() -> None:
    silent = [
        str(block)
        for page in (ROOT / "docs").glob("*.md")
        for block in blocks(page)
        if block.note.startswith("not run") and ":" not in block.note
    ]
    assert not silent
