"""The words of a memory's captions: made once a version, shared by versions that have segments in common."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from seeded_rows import encoder_record, unit_rows

import memory
from evaluation.array_memory import ArrayMemory
from evaluation.duplicates import LeavingOut
from memory import Memory
from models import caption_words
from models.caption_words import CaptionWords
from models.texts.word_index import WordIndex

D = 16


def write_version(root: Path, segments: Sequence[Sequence[str]], deletes: Sequence[int] = ()) -> Memory:
    """A version of these captions, a list for each segment, without some ids."""
    records = []
    for number, captions in enumerate(segments):
        count = len(captions)
        items = pa.table(
            {
                "key": [f"{number}/{place}" for place in range(count)],
                "caption": list(captions),
                "source": ["made up"] * count,
                "content_sha256": [f"{number:032x}{place:032x}" for place in range(count)],
                "thumbnail": pa.nulls(count, pa.binary()),
            },
            schema=memory.ITEMS_SCHEMA,
        )
        image, text = (unit_rows(count, D, 2 * number + side).astype(np.float16) for side in range(2))
        rows = [memory.Rows(image, text, items)]
        records.append(memory.write_segment(root, rows, [memory.UnitRecord(f"unit-{number}", count)]))
    contents = memory.Contents(
        encoder=encoder_record(D),
        encoded_with={"device": "cpu", "dtype": "float32"},
        segments=tuple(records),
        indexes={side: memory.build_index(root, records, side) for side in memory.MODALITIES},
        deletes=(memory.write_deletes(root, list(deletes)),) if deletes else (),
        parent=memory.latest_version(root),
    )
    memory.publish(root, contents)
    return Memory.open(root)


FIRST = ["a wren", "ax-4812, white", "a rock wren", "a duck"]
SECOND = ["wren, white", "ax-4812, black", "a swan"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many captions each index was made of, from here on."""
    counts: list[int] = []

    class Counted(WordIndex):
        def __init__(self, blocks: Sequence[Sequence[str]]) -> None:
            read = [list(block) for block in blocks]
            counts.append(sum(map(len, read)))
            super().__init__(read)

    monkeypatch.setattr(caption_words, "WordIndex", Counted)
    caption_words._latest.clear()  # of another test, with the same segments
    return counts


def test_pairs_of_all_segments_are_found_by_the_words_of_their_captions(tmp_path: Path) -> None:
    words = CaptionWords.of(write_version(tmp_path, [FIRST, SECOND], deletes=[2]))
    assert words.holding("Wren").tolist() == [0, 4]
    assert words.holding("AX-4812").tolist() == [1, 5]
    assert words.holding("wren white").tolist() == [4]
    assert words.holding("rock wren").tolist() == [] and words.holding("puffin").tolist() == []


def test_an_index_is_made_once_and_a_later_version_makes_only_what_is_new(tmp_path: Path, made: list[int]) -> None:
    before = write_version(tmp_path, [FIRST])
    assert CaptionWords.of(before) is CaptionWords.of(before)
    assert made == [4]
    before.close()
    del before  # the version before is gone when the next is asked
    after = write_version(tmp_path, [FIRST, SECOND], deletes=[0])
    assert CaptionWords.of(after).holding("wren").tolist() == [2, 4]
    assert made == [4, 3]


def test_long_segments_are_indexed_in_parts(tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_words, "_PART", 3)
    monkeypatch.setattr(caption_words, "_BLOCK", 2)
    words = CaptionWords.of(write_version(tmp_path, [FIRST, SECOND]))
    assert made == [3, 1, 3]
    assert words.holding("a duck").tolist() == [3] and words.holding("white").tolist() == [1, 4]


def test_a_memory_of_too_many_pairs_is_left_alone_and_says_so(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caption_words, "MOST_PAIRS", 6)
    with caplog.at_level(logging.INFO, "reco.caption_words"):
        words = CaptionWords.of(write_version(tmp_path, [FIRST, SECOND]))
    assert words.holding("wren").tolist() == [] and not made
    assert "more than 6 pairs" in caplog.text


def test_of_many_captions_some_are_taken_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_words, "MOST_OF_A_LABEL", 5)
    words = CaptionWords.of(write_version(tmp_path, [["a wren", "a duck"] * 21]))
    assert words.holding("wren").tolist() == [0, 10, 20, 30, 40]


def test_captions_that_have_a_labels_hyphens_go_before_those_that_hold_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_words, "MOST_OF_A_LABEL", 4)
    captions = ["size 12, ab"] * 30 + ["an AB-12", "AB_12, white", "ab-77"] + ["12 by ab"] * 30
    words = CaptionWords.of(write_version(tmp_path, [captions[:31], captions[31:]]))
    found = words.holding("AB-12").tolist()
    assert {30, 31} < set(found) and len(found) == 4 and found == sorted(found)
    assert words.holding("ab 77").tolist() == [32] == words.holding("AB-77").tolist()
    assert len(words.holding("AB")) == 4 and not {30, 31, 32} & set(words.holding("AB").tolist())


def test_what_an_evaluation_hides_is_not_found(tmp_path: Path) -> None:
    opened = write_version(tmp_path, [FIRST, SECOND], deletes=[4])
    assert CaptionWords.of(LeavingOut(opened, [0])).holding("wren").tolist() == [2]
    assert CaptionWords.of(ArrayMemory.from_memory(opened).without([2])).holding("wren").tolist() == [0]
    assert CaptionWords.of(opened).holding("wren").tolist() == [0, 2]


def test_who_asks_late_leaves_what_was_made_to_the_next(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_words, "_PART", 2)
    memory, asked = write_version(tmp_path, [FIRST, SECOND]), iter([None, None, TimeoutError])

    def before_part() -> None:
        if (error := next(asked)) is not None:
            raise error

    with pytest.raises(TimeoutError):
        CaptionWords.of(memory, before_part)
    assert made == [2, 2]
    assert CaptionWords.of(memory).holding("wren").tolist() == [0, 2, 4]
    assert made == [2, 2, 2, 1], "nothing twice"


def test_words_that_are_there_do_not_wait_for_those_of_another_memory(tmp_path: Path) -> None:
    before, after = write_version(tmp_path / "a", [FIRST]), write_version(tmp_path / "b", [SECOND])
    CaptionWords.of(before)
    begun, go_on = threading.Event(), threading.Event()

    def held() -> None:
        begun.set()
        assert go_on.wait(20)

    making = threading.Thread(target=CaptionWords.of, args=(after, held))
    making.start()
    assert begun.wait(20)
    assert CaptionWords.of(before).holding("wren").tolist() == [0, 2]
    go_on.set()
    making.join()
    assert CaptionWords.of(after).holding("wren").tolist() == [0]
