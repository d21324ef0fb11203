"""Compact: the same items in the same order, in fewer files; a function of the contents; units stay known."""

import itertools

import numpy as np
import pytest

import memory
from memory import KeyPatterns, Memory, compact, purge, remove_keys


def alive(root) -> list[tuple]:
    """Every alive item with both embeddings, in id order."""
    with Memory.open(root) as opened:
        ids = np.setdiff1d(np.arange(opened.num_rows), opened.deleted_ids())
        items = [tuple(vars(item).values())[1:] for item in opened.items(ids)]
        sides = (opened.rows(side, ids).tobytes() for side in memory.MODALITIES)
        return [*items, *sides]


def cut(rows, bounds, factory):
    return [factory.slice_rows(rows, a, b) for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize("deletes", [[], [0], [149], [0, 1, 2, 60, 149], list(range(50, 100)), list(range(0, 150, 2))])
def test_items_and_their_order_stay(root, factory, deletes):
    factory.commit(root, cut(factory.make_rows(150, seed=3), [0, 50, 100, 150], factory), deletes=deletes)
    before = alive(root)
    done = compact(root)
    assert done.created
    assert alive(root) == before
    assert (done.rows_dropped, done.segments_before, done.segments_after) == (len(deletes), 3, 1)
    assert done.after.deletes == ()
    assert done.after.num_rows == done.after.counts["items"] == 150 - len(deletes)
    assert memory.verify_memory(root, full=True).ok
    again = compact(root)
    assert (again.created, again.after) == (False, done.after)


@pytest.mark.parametrize(("most", "rows"), [(1, [48, 50, 47]), (50, [48, 50, 47]), (98, [98, 47]), (10**6, [145])])
def test_segments_are_joined_up_to_a_size_and_clean_ones_are_kept(root, factory, most, rows):
    before = factory.commit(
        root, cut(factory.make_rows(150, seed=3), [0, 50, 100, 150], factory), deletes=[0, 1, 100, 101, 149]
    )
    after = compact(root, max_segment_rows=most).after
    assert [segment.rows for segment in after.segments] == rows
    assert (before.segments[1] in after.segments) == (rows[1:2] == [50])
    assert not compact(root, max_segment_rows=most).created


def test_the_digest_depends_on_what_is_left_not_on_how_it_came_to_be(tmp_path, factory):
    digests = set()
    for name, steps in {"at once": [["1-*"]], "in steps": [["1-1*"], ["1-*"]]}.items():
        root = tmp_path / name
        factory.commit(root, [factory.make_rows(20, seed=1), factory.make_rows(20, seed=2)])
        for patterns in steps:
            remove_keys(root, KeyPatterns(patterns))
        digests.add(compact(root).after.digest)
    assert len(digests) == 1


def test_units_keep_their_names_with_the_rows_that_are_left(root, factory):
    rows = factory.make_rows(30, seed=1)
    units = [memory.UnitRecord("a", 10), memory.UnitRecord("none", 0), memory.UnitRecord("b", 20)]
    records = [memory.write_segment(root, [rows], units)]
    more = factory.make_rows(5, seed=2)
    records.append(memory.write_segment(root, [more], [memory.UnitRecord("gone", 5)]))
    deletes = (memory.write_deletes(root, [0, 9, 10, *range(30, 35)]),)
    memory.publish(
        root,
        memory.Contents(
            encoder=factory.encoder_record(),
            encoded_with={"device": "cpu", "dtype": "float32"},
            segments=tuple(records),
            indexes={side: memory.build_index(root, records, side) for side in memory.MODALITIES},
            deletes=deletes,
        ),
    )
    segment = compact(root).after.segments[0]
    assert [(unit.id, unit.rows) for unit in segment.units] == [("a", 8), ("none", 0), ("b", 19), ("gone", 0)]


def test_the_old_version_stays_until_gc(built):
    old = alive(built)
    compact(built)
    with Memory.open(built, version=1) as opened:
        assert opened.num_rows == 70
    assert alive(built) == old


def test_many_single_rows_are_folded_in_time(root, factory):
    """Every other row deleted: as many slices as rows."""
    factory.commit(root, [factory.make_rows(20_000, 8, seed=3, thumbnails=False)], deletes=list(range(0, 20_000, 2)))
    assert compact(root).after.num_rows == 10_000


@pytest.mark.parametrize(
    "options", [memory.IndexOptions(factory="IVF64,SQ8", recall=0.9), memory.IndexOptions(factory="IVF40,RaBitQ")]
)
def test_a_memory_whose_index_no_longer_suits_what_is_left_can_be_compacted_and_purged(root, factory, options):
    """A take-down was refused, with a message that named options of another command."""
    factory.commit(root, [factory.make_rows(100, seed=3)], options=options)
    with Memory.open(root) as opened:
        keys = opened.keys()
    remove_keys(root, KeyPatterns(keys=keys[:70]))
    assert compact(root).after.num_rows == 30
    with Memory.open(root) as opened:
        assert [index["kind"] for index in opened.indices()] == ["exact", "exact"]
    purge(root, KeyPatterns(keys=keys[99:]))
    assert memory.verify_memory(root, full=True).ok
    with Memory.open(root) as opened:
        assert opened.num_items == 29


@pytest.mark.parametrize(
    ("rows", "words"), [(64, "IVF64,SQ8"), (70, "IVF64,SQ8"), (2, "IVF2,RaBitQ"), (33, "IVF33,SQ8")]
)
def test_as_many_lists_as_rows_can_be_trained(root, factory, rows, words):
    factory.commit(root, [factory.make_rows(rows, seed=3)], options=memory.IndexOptions(factory=words))
    with Memory.open(root) as opened:
        assert opened.indices()[0]["factory"].endswith(words)
    assert memory.verify_memory(root, full=True).ok
