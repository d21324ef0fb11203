"""Candidates: who may retrieve whom (METHOD, trap 1), and a search that is done once, block by block."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from memory import Memory
from models.training.dataset import candidates as search
from models.training.dataset.candidates import find_candidates
from models.training.dataset.embedding_rows import MappedRows, ResidentRows, check_finite, open_rows
from models.training.dataset.exclusion import SearchSettings
from models.training.dataset.groups import container, folder, number_equal

NAMES = ["asked", "same bytes", "nearly same image", "its caption on a copy", "its caption on another image", "other"]
QUERY, BYTES, NEAR, CAPTION_OF_COPY, CAPTION, OTHER = range(6)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory, make_memory: Callable[..., Memory]) -> Memory:
    """Everything that trap 1 speaks of, asked by item 0, and ten pairs of no matter."""
    dice = np.random.default_rng(0)
    image, text = unit(dice.standard_normal((16, 64))), unit(dice.standard_normal((16, 64)))
    image[BYTES] = image[QUERY]
    for row, noise in ((NEAR, 0.01), (CAPTION_OF_COPY, 0.01)):
        image[row] = image[QUERY] + noise * dice.standard_normal(64)  # cosine 0.997
    text[[CAPTION_OF_COPY, CAPTION]] = text[QUERY]
    keys = [f"{'album' if row in (QUERY, OTHER) else 'loose'}/{row}" for row in range(16)]
    captions = [f"caption {row}" for row in range(16)]
    captions[CAPTION_OF_COPY] = captions[CAPTION] = captions[QUERY]
    contents = keys.copy()
    contents[BYTES] = contents[QUERY]
    sources = [f"{'one' if row in (QUERY, CAPTION) else 'two'}.tar/{row}.jpg" for row in range(16)]
    columns = {"keys": keys, "captions": captions, "contents": contents, "sources": sources}
    return make_memory(tmp_path_factory.mktemp("trap") / "memory", unit(image), text, **columns)


def found_by_query(memory: Memory, **settings: object) -> dict[str, set[int]]:
    """Which rows item 0 may retrieve, by modality."""
    found = find_candidates(memory, torch.tensor([QUERY]), SearchSettings(num_candidates=16, **settings))  # type: ignore[arg-type]
    return {side: set(one.rows[0].tolist()) - {-1} for side, one in found.items()}


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_pair_retrieves_neither_itself_nor_copies_of_its_image(trap: Memory, side: str) -> None:
    """On the text side too: a near-duplicate's caption would bring back the image that was asked about."""
    assert found_by_query(trap)[side] == set(range(16)) - {QUERY, BYTES, NEAR, CAPTION_OF_COPY}


@pytest.mark.parametrize("side", ["image", "text"])
def test_what_a_copy_is_is_a_setting(trap: Memory, side: str) -> None:
    assert found_by_query(trap, near_duplicate=1.0)[side] == set(range(16)) - {QUERY, BYTES}


def test_an_identical_caption_beside_another_image_is_knowledge(trap: Memory) -> None:
    found = find_candidates(trap, torch.tensor([QUERY]), SearchSettings(num_candidates=3))
    assert found["text"].rows[0, 0] == CAPTION
    assert found["text"].similarities[0, 0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("same", "left_out"), [("source", CAPTION), ("folder", OTHER)])
@pytest.mark.parametrize("side", ["image", "text"])
def test_items_of_the_same_source_are_left_out_where_asked(trap: Memory, side: str, same: str, left_out: int) -> None:
    kept = set(range(16)) - {QUERY, BYTES, NEAR, CAPTION_OF_COPY}
    assert found_by_query(trap, exclude_same=same)[side] == kept - {left_out}


def test_deleted_items_are_not_found(trap: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "deleted_ids", lambda self: np.array([7, 9]))
    assert all(not found & {7, 9} for found in found_by_query(trap).values())


def test_a_source_is_the_file_that_items_were_read_from() -> None:
    sources = ["birds.tar/0001.jpg", "pets.parquet row 7", "shop/mugs/blue.jpg", "alone", "a, b.csv row 3, front row 1"]
    assert [container(one) for one in sources] == ["birds.tar", "pets.parquet", "shop/mugs", "alone", "a, b.csv"]
    assert [folder(one) for one in ["shop/mug/1", "loose"]] == ["shop/mug", "."]
    assert number_equal(iter([["b", "a"], ["b"], []])).tolist() in ([0, 1, 0], [1, 0, 1])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "QUERY_BLOCK", 37)
    monkeypatch.setattr(search, "MEMORY_BLOCK", 53)


def test_blocks_change_nothing(named_memory: Memory, small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, settings = torch.arange(240), SearchSettings(20)
    cut = find_candidates(named_memory, ids, settings)
    monkeypatch.undo()
    whole = find_candidates(named_memory, ids, settings)
    for side in ("image", "text"):
        torch.testing.assert_close(cut[side].similarities, whole[side].similarities)  # type: ignore[index]
        assert (cut[side].rows == whole[side].rows).float().mean() > 0.999  # type: ignore[index]


def test_a_search_that_was_broken_off_goes_on_and_a_finished_one_is_not_done_again(
    named_memory: Memory, small_blocks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, settings = torch.arange(240), SearchSettings(20)
    done: list[int] = []

    def interrupt(count: int, _: int) -> None:
        done.append(count)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_candidates(named_memory, ids, settings, tmp_path, report=interrupt)
    (folder_,) = tmp_path.iterdir()
    assert json.loads((folder_ / "search.json").read_text())["done"] == 111
    resumed: list[int] = []
    found = find_candidates(named_memory, ids, settings, tmp_path, report=lambda count, _: resumed.append(count))
    assert (done, resumed) == ([37, 74, 111], [148, 185, 222, 240])
    expected = find_candidates(named_memory, ids, settings)
    for side in expected:
        assert torch.equal(found[side].rows, expected[side].rows)
        assert torch.equal(found[side].similarities, expected[side].similarities)

    monkeypatch.setattr(MappedRows, "take", None)  # whoever reads an embedding now searches again
    again = find_candidates(named_memory, ids, settings, tmp_path)
    assert torch.equal(again["text"].rows, expected["text"].rows)
    with pytest.raises(TypeError):
        find_candidates(named_memory, ids, SearchSettings(20, near_duplicate=0.9), tmp_path)  # another search
    with pytest.raises(TypeError):
        find_candidates(named_memory, ids[1:], settings, tmp_path)


def test_a_damaged_store_is_searched_anew(named_memory: Memory, tmp_path: Path) -> None:
    ids, settings = torch.arange(30), SearchSettings(8)
    expected = find_candidates(named_memory, ids, settings, tmp_path)["image"].rows.clone()
    (folder_,) = tmp_path.iterdir()
    (folder_ / "image-rows.npy").write_bytes(b"cut short")
    assert torch.equal(find_candidates(named_memory, ids, settings, tmp_path)["image"].rows, expected)


def test_rows_are_the_same_held_or_mapped(named_memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    some = torch.tensor([3, 239, 3])
    held = open_rows(named_memory, "text")
    assert isinstance(held, ResidentRows)
    half = ResidentRows(held.tensor.half())
    monkeypatch.setattr("models.training.dataset.embedding_rows.RESIDENT_BYTES", 0)
    mapped = open_rows(named_memory, "text")
    assert isinstance(mapped, MappedRows)
    assert torch.equal(held.take(some), mapped.take(some))
    torch.testing.assert_close(half.take(some), mapped.take(some), atol=1e-3, rtol=0)
    assert len(held) == len(mapped) == 240


def test_an_embedding_that_is_not_finite_is_refused_by_its_row() -> None:
    rows = torch.ones(4, 3)
    rows[2, 1] = torch.nan
    with pytest.raises(ValueError, match="row 12 of the memory: its text embedding is not finite"):
        check_finite(rows, torch.arange(10, 14), "text")


@pytest.mark.parametrize(
    "wrong", [{"num_candidates": 0}, {"near_duplicate": 0.0}, {"near_duplicate": float("nan")}, {"exclude_same": "x"}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at least|above|choose"):
        SearchSettings(**wrong)  # type: ignore[arg-type]
