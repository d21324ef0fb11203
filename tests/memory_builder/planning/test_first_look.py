"""What is seen of a corpus before an encoder is opened: the first row that can be stored, or that there is none."""

from pathlib import Path

import pytest
from PIL import Image

from memory_builder import BuildConfig, check_corpora
from memory_builder.errors import NothingUsable


def pairs(folder: Path, *, broken: int, good: int) -> str:
    """A folder of pairs, the broken ones first."""
    folder.mkdir()
    for number in range(broken + good):
        stem = folder / f"{number:04}"
        stem.with_suffix(".txt").write_text("a bird")
        if number < broken:
            stem.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff")
        else:
            Image.new("RGB", (8, 8)).save(stem.with_suffix(".jpg"))
    return str(folder)


def look(tmp_path: Path, *corpora: str) -> str | None:
    return check_corpora(BuildConfig(corpora, tmp_path / "memory")).warning


def test_one_good_row_is_enough_and_no_more_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    known = "memory_builder.planning.first_look.decode_image"
    monkeypatch.setattr(known, lambda data: read.append(len(data)))
    assert look(tmp_path, pairs(tmp_path / "a", broken=0, good=5)) is None
    assert len(read) == 1


def test_broken_rows_before_a_good_one_are_no_news(tmp_path: Path) -> None:
    assert look(tmp_path, pairs(tmp_path / "a", broken=63, good=1)) is None


def test_a_large_corpus_that_begins_badly_is_built_with_a_warning(tmp_path: Path) -> None:
    told = look(tmp_path, pairs(tmp_path / "a", broken=64, good=1))
    assert told is not None
    assert told.startswith("None of the first 64 rows can be stored: image_")
    assert "The first: a/0000.jpg, image_" in told


def test_a_corpus_of_broken_rows_alone_is_refused(tmp_path: Path) -> None:
    broken, good = pairs(tmp_path / "a", broken=3, good=0), pairs(tmp_path / "b", broken=0, good=1)
    with pytest.raises(NothingUsable, match="None of the 3 rows can be stored"):
        look(tmp_path, broken)
    assert look(tmp_path, broken, good) is None
    more = tmp_path / "more.txt"
    more.write_text("b\n")
    told = look(tmp_path, broken, str(more))  # a list is read by the build alone
    assert told is not None and "None of the 3 rows" in told


def test_a_caption_without_an_image_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("a bird")
    with pytest.raises(NothingUsable, match="missing_image 1"):
        look(tmp_path, str(tmp_path / "a"))
