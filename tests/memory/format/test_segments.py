"""Segments: content-addressed, streamed, strict about what goes in, and looked up in one go."""

import errno
import itertools

import numpy as np
import pyarrow as pa
import pytest

import memory
from memory import Memory, MemoryStoreError, Rows, UnitRecord, write_segment
from memory.format import rows as rows_module
from memory.format import segments


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 rows, so that 70 rows cross several."""
    for name in ("memory.format.rows", "memory.format.segments", "memory.indexing.shards", "memory.verify"):
        monkeypatch.setattr(f"{name}.BLOCK_ROWS", 16)


@pytest.mark.parametrize("cuts", [[0, 70], [0, 1, 70], [0, 16, 32, 70], [0, 13, 29, 55, 69, 70]])
def test_the_id_depends_on_the_rows_not_on_how_they_came(root, factory, small_blocks, cuts):
    rows = factory.make_rows(70, seed=3)
    units = [UnitRecord("u", 70)]
    whole = write_segment(root, [rows], units)
    parts = [factory.slice_rows(rows, a, b) for a, b in itertools.pairwise(cuts)]
    assert write_segment(root, parts, units) == whole
    chunked = Rows(rows.image, rows.text, pa.concat_tables([part.items for part in parts]))
    assert write_segment(root, [chunked], units) == whole
    assert len(list((root / "segments").iterdir())) == 1


def test_bytes_under_nulls_do_not_reach_the_hash(root, factory):
    """Arrow leaves whatever it likes under a null; equal items must still give equal bytes."""
    rows = factory.make_rows(9, seed=3)
    validity, offsets = pa.py_buffer(b"\0\0"), pa.py_buffer(np.arange(0, 40, 4, dtype=np.int32).tobytes())
    ids = set()
    for fill in (b"a", b"b"):
        buffers = [validity, offsets, pa.py_buffer(fill * 36)]
        thumbnails = pa.Array.from_buffers(pa.binary(), 9, buffers, null_count=9)
        items = rows.items.set_column(4, memory.ITEMS_SCHEMA.field("thumbnail"), thumbnails)
        ids.add(write_segment(root, [Rows(rows.image, rows.text, items)], [UnitRecord("u", 9)]).id)
    assert len(ids) == 1


def test_other_rows_or_units_give_another_id(root, factory):
    rows = factory.make_rows(9, seed=3)
    record = write_segment(root, [rows], [UnitRecord("u", 9)])
    assert write_segment(root, [rows], [UnitRecord("u", 4), UnitRecord("v", 5)]).id != record.id
    assert write_segment(root, [factory.make_rows(9, seed=4)], [UnitRecord("u", 9)]).id != record.id
    swapped = Rows(rows.text, rows.image, rows.items)
    assert write_segment(root, [swapped], [UnitRecord("u", 9)]).id != record.id


def test_writing_again_keeps_what_is_there(root, factory):
    rows, units = factory.make_rows(20, seed=3), [UnitRecord("u", 20)]
    record = write_segment(root, [rows], units)
    before = {path: path.stat().st_ino for path in (root / "segments").rglob("*")}
    assert write_segment(root, [rows], units) == record
    assert {path: path.stat().st_ino for path in (root / "segments").rglob("*")} == before


def test_a_damaged_segment_of_the_same_name_is_told(root, factory):
    rows, units = factory.make_rows(20, seed=3), [UnitRecord("u", 20)]
    record = write_segment(root, [rows], units)
    path = root / f"segments/{record.id}/items.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(memory.ShardSizeMismatch, match=r"items\.arrow"):
        write_segment(root, [rows], units)


def test_parts_may_be_memory_mapped(root, factory, tmp_path):
    rows = factory.make_rows(50, seed=3)
    sides = []
    for name, side in (("i", rows.image), ("t", rows.text)):
        np.save(tmp_path / f"{name}.npy", side)
        sides.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    units = [UnitRecord("u", 50)]
    assert write_segment(root, [Rows(*sides, rows.items)], units) == write_segment(root, [rows], units)


def refusals(factory) -> dict[str, Rows]:
    rows = factory.make_rows(8, seed=3)

    def with_image(edit) -> Rows:
        image = rows.image.copy()
        return Rows(edit(image), rows.text, rows.items)

    def put(image, value):
        image[5] = value
        return image

    key = rows.items.column("key")
    return {
        "float32": with_image(lambda image: image.astype(np.float32)),
        "other D": with_image(lambda image: image[:, :8]),
        "one row short": with_image(lambda image: image[:7]),
        "flat": with_image(lambda image: image.ravel()),
        "NaN": with_image(lambda image: put(image, np.nan)),
        "infinity": with_image(lambda image: put(image, np.inf)),
        "zero": with_image(lambda image: put(image, 0)),
        "not unit": with_image(lambda image: put(image, image[5] * np.float16(1.01))),
        "a column short": Rows(rows.image, rows.text, rows.items.drop_columns("source")),
        "a column more": Rows(rows.image, rows.text, rows.items.append_column("more", key)),
        "null key": Rows(
            rows.image,
            rows.text,
            rows.items.set_column(0, memory.ITEMS_SCHEMA.field("key"), pa.array([None] * 8, pa.string())),
        ),
    }


@pytest.mark.parametrize(
    "name",
    ["float32", "other D", "one row short", "flat", "NaN", "infinity", "zero", "not unit", "a column short",
     "a column more", "null key"],
)  # fmt: skip
def test_F06_rows_no_search_could_find_are_refused(root, factory, name):
    with pytest.raises(memory.RowsInvalid):
        write_segment(root, [refusals(factory)[name]], [UnitRecord("u", 8)])
    assert not (root / "segments").exists() or not list((root / "segments").iterdir())


def test_units_must_add_up(root, factory):
    with pytest.raises(memory.RowsInvalid, match="units hold 7"):
        write_segment(root, [factory.make_rows(8)], [UnitRecord("u", 7)])
    with pytest.raises(memory.RowsInvalid):
        write_segment(root, [], [])


def test_items_come_back_in_the_order_asked_for(root, factory, small_blocks):
    parts = [factory.make_rows(40, seed=1), factory.make_rows(35, seed=2)]
    factory.commit(root, parts)
    table = pa.concat_tables([part.items for part in parts]).to_pylist()
    ids = np.random.default_rng(0).integers(0, 75, 50)  # with repeats, across segments and batches
    with Memory.open(root) as opened:
        found = opened.items(ids)
        assert [item.id for item in found] == ids.tolist()
        for item in found:
            columns = {name: getattr(item, name) for name in memory.ITEMS_SCHEMA.names}
            assert columns == table[item.id]
        assert opened.items([]) == []
        assert opened.keys() == [line["key"] for line in table]
        assert opened.captions() == [line["caption"] for line in table]
        assert opened.captions(ids) == [table[id]["caption"] for id in ids] and opened.captions([]) == []
        with pytest.raises(memory.ItemNotFound):
            opened.captions([75])
        assert opened.content_hashes() == [line["content_sha256"] for line in table]
        image = np.concatenate([part.image for part in parts]).astype(np.float32)
        image /= np.linalg.norm(image, axis=1, keepdims=True)
        np.testing.assert_array_equal(opened.rows("image"), image)
        np.testing.assert_array_equal(opened.rows("image", ids), image[ids])


@pytest.mark.parametrize("ids", [[-1], [75], [0, 10**12], [[1, 2]], [0.5]])
def test_ids_outside_the_memory_are_refused(root, factory, ids):
    factory.commit(root, [factory.make_rows(75)])
    with Memory.open(root) as opened, pytest.raises(memory.ItemNotFound):
        opened.items(ids)


def test_block_size_is_part_of_the_format():
    """Item batches are cut at it: changing it makes every older memory unreadable."""
    assert rows_module.BLOCK_ROWS == 16_384


def test_too_many_open_files_are_not_told_as_a_broken_memory(root, factory, monkeypatch):
    factory.commit(root, [factory.make_rows(4)])

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(segments.npy, "open_memmap", refused)
    with pytest.raises(MemoryStoreError, match=r"ulimit -n.*reco memory compact") as told:
        memory.Memory.open(root)
    assert told.value.code == "too_many_open_files"
