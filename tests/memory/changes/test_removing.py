"""Remove: by key, pattern, file and likeness; gone from every search, told when it is gone already."""

import numpy as np
import pytest

import memory
from memory import KeyPatterns, Memory, NearDuplicates, remove_keys, remove_near


def keys_found(root, factory) -> set[str]:
    """Every key that any search can return, of either side."""
    with Memory.open(root) as opened:
        queries = factory.unit_rows(3, factory.D, 0)
        found = [opened.search(queries, opened.num_rows, modality=side) for side in memory.MODALITIES]
        ids = np.unique(np.concatenate([neighbours.ids[neighbours.mask] for neighbours in found]))
        return {item.key for item in opened.items(ids)}


@pytest.fixture
def pair(root, factory):
    """Two segments, nothing deleted: keys 1-0 … 1-39 and 2-0 … 2-29."""
    factory.commit(root, [factory.make_rows(40, seed=1), factory.make_rows(30, seed=2)])
    return root


def test_a_removed_item_is_never_returned_before_and_after_compaction(pair, factory):
    gone = {"1-3", "2-0", *(f"2-{number}" for number in range(10, 20))}
    removal = remove_keys(pair, KeyPatterns(["1-3", "2-0", "2-1?"]))
    assert (removal.version, removal.created, set(removal.keys), removal.num_items) == (2, True, gone, 58)
    everything = {f"1-{n}" for n in range(40)} | {f"2-{n}" for n in range(30)}
    assert keys_found(pair, factory) == everything - gone
    memory.compact(pair)
    assert keys_found(pair, factory) == everything - gone
    memory.collect(pair, keep=1)
    assert keys_found(pair, factory) == everything - gone
    assert memory.verify_memory(pair, full=True).ok


def test_it_is_one_commit_of_one_delete_list(pair):
    before = memory.read_manifest(pair)
    remove_keys(pair, KeyPatterns(["1-*"]))
    after = memory.read_manifest(pair)
    assert (after.version, after.parent) == (2, 1)
    assert (after.segments, after.indexes) == (before.segments, before.indexes)
    assert [record.rows for record in after.deletes] == [40]
    with Memory.open(pair) as opened:
        assert opened.deleted_ids().tolist() == list(range(40))


def test_removing_again_says_so_and_makes_no_version(pair):
    remove_keys(pair, KeyPatterns(["1-3", "1-4"]))
    for _ in ("before compaction", "after"):
        latest = memory.latest_version(pair)
        again = remove_keys(pair, KeyPatterns(["1-3"], ["1-4"]))
        assert (again.created, again.keys, set(again.already)) == (False, (), {"1-3", "1-4"})
        assert memory.latest_version(pair) == latest
        memory.compact(pair)
    partly = remove_keys(pair, KeyPatterns(["1-3", "1-5"]))
    assert (partly.keys, partly.already) == (("1-5",), ("1-3",))


@pytest.mark.parametrize(
    "names", [KeyPatterns(["1-3", "nowhere"]), KeyPatterns([], ["1-3", "nowhere"]), KeyPatterns(["x*"])]
)
def test_an_unknown_key_is_named_and_nothing_is_removed(pair, names):
    with pytest.raises(memory.KeyNotFound, match=r"'(nowhere|x\*)'") as refusal:
        remove_keys(pair, names)
    assert refusal.value.code == "key_not_found"
    assert memory.list_versions(pair) == [1]


def test_many_unknown_keys_are_counted_not_listed(pair):
    with pytest.raises(memory.KeyNotFound, match=r"'no-4' and 95 more"):
        remove_keys(pair, KeyPatterns([], [f"no-{number}" for number in range(100)]))


@pytest.mark.parametrize(
    ("patterns", "keys", "expected"),
    [
        (["a[1].jpg"], [], {"a[1].jpg"}),  # a key that looks like a pattern is that key
        (["a[12].jpg"], [], {"a1.jpg", "a2.jpg"}),
        ([], ["a*"], None),  # keys from a file are literal
        ([], ["*"], {"*"}),
        (["b/*"], [], {"b/c/d"}),  # a star crosses slashes
        (["A1.jpg"], [], None),  # case counts
        (["?1.jpg", "b*"], ["*"], {"a1.jpg", "b/c/d", "*"}),
    ],
)
def test_patterns(patterns, keys, expected):
    stored = ["a[1].jpg", "a1.jpg", "a2.jpg", "b/c/d", "*"]
    matched, unmatched = KeyPatterns(patterns, keys).match(stored)
    assert matched == (expected or set())
    assert bool(unmatched) == (expected is None)


@pytest.mark.parametrize("arguments", [([], []), ([""], []), (["a"], [""])])
def test_no_key_is_no_selection(arguments):
    with pytest.raises(memory.SelectionInvalid):
        KeyPatterns(*arguments)


def test_a_dry_run_changes_nothing(pair):
    before = sorted(path for path in pair.rglob("*") if path.name != "lock")
    removal = remove_keys(pair, KeyPatterns(["2-1*"]), dry_run=True)
    assert (removal.created, len(removal.keys), removal.version) == (False, 11, 1)
    assert sorted(path for path in pair.rglob("*") if path.name not in ("lock", "work")) == before


def near(rows: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """Unit vectors at just that cosine to each row."""
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    other = np.random.default_rng(seed).standard_normal(wide.shape)
    other -= (other * wide).sum(axis=1, keepdims=True) * wide
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return (cosine * wide + np.sqrt(1 - cosine**2) * other).astype(np.float32)


def test_near_duplicates_of_an_evaluation_set(pair, factory, tmp_path):
    image = factory.make_rows(40, seed=1).image
    images = np.concatenate([near(image[5:8], 0.99, 1), near(image[20:22], 0.95, 2), image[30:31].astype(np.float32)])
    np.savez(tmp_path / "test.npz", image=images * 3, label=np.arange(6))
    given = memory.read_evaluation_images(tmp_path / "test.npz")
    dry = remove_near(pair, NearDuplicates(given), dry_run=True)
    assert (dry.keys, dry.created) == (("1-5", "1-6", "1-7", "1-30"), False)
    assert dry.similarities["1-30"] > 0.9999
    assert dry.similarities["1-6"] == pytest.approx(0.99, abs=1e-3)
    assert remove_near(pair, NearDuplicates(given, 0.94), dry_run=True).keys == (*dry.keys[:3], "1-20", "1-21", "1-30")
    assert remove_near(pair, NearDuplicates(given, 1.0), dry_run=True).keys == ("1-30",)
    assert remove_near(pair, NearDuplicates(given)).created
    again = remove_near(pair, NearDuplicates(given))
    assert (again.created, again.keys) == (False, ())
    assert keys_found(pair, factory).isdisjoint(dry.keys)


@pytest.mark.parametrize("cosine", [0.0, -1.0, 1.5, float("nan")])
def test_a_cosine_out_of_range(cosine, factory):
    with pytest.raises(memory.SelectionInvalid):
        NearDuplicates(factory.unit_rows(1, factory.D, 0), cosine)


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"text": np.eye(24)}, memory.SelectionInvalid),
        ({"image": np.zeros((2, 24))}, memory.QueryValueError),
        ({"image": np.full((2, 24), np.nan)}, memory.QueryValueError),
        ({"image": np.arange(24)}, memory.SelectionInvalid),
        ({"image": np.array([object()])}, memory.SelectionInvalid),
        ({"image": np.eye(5)}, memory.QueryShapeError),
    ],
)
def test_an_evaluation_set_that_cannot_be_used(pair, tmp_path, arrays, error):
    np.savez(tmp_path / "test.npz", **arrays)
    with pytest.raises(error):
        remove_near(pair, NearDuplicates(memory.read_evaluation_images(tmp_path / "test.npz")))


@pytest.mark.parametrize("data", [None, b"", b"garbage", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_npz(tmp_path, data):
    if data is not None:
        (tmp_path / "test.npz").write_bytes(data)
    with pytest.raises(memory.SelectionInvalid):
        memory.read_evaluation_images(tmp_path / "test.npz")


def test_an_npz_that_cannot_be_unpacked(tmp_path, factory):
    np.savez_compressed(tmp_path / "test.npz", image=factory.unit_rows(50, factory.D, 0))
    whole = (tmp_path / "test.npz").read_bytes()
    flipped = bytes(255 - byte for byte in whole[60:260])
    (tmp_path / "test.npz").write_bytes(whole[:60] + flipped + whole[260:])
    with pytest.raises(memory.SelectionInvalid):
        memory.read_evaluation_images(tmp_path / "test.npz")


def test_every_item_may_be_removed_and_no_version_is_empty(pair, factory):
    remove_keys(pair, KeyPatterns(["*"]))
    assert keys_found(pair, factory) == set()
    with pytest.raises(memory.NothingLeft):
        memory.compact(pair)
    assert memory.list_versions(pair) == [1, 2]


@pytest.mark.parametrize("work", [
    lambda root: remove_keys(root, KeyPatterns(["1-1"])),
    lambda root: remove_near(root, NearDuplicates(np.eye(24, dtype=np.float32))),
    memory.compact,
    lambda root: memory.purge(root, KeyPatterns(["1-1"])),
    memory.collect,
    lambda root: memory.roll_back(root, 1),
])  # fmt: skip
def test_X06_every_change_needs_the_lock_and_makes_no_directory(pair, tmp_path, work):
    remove_keys(pair, KeyPatterns(["1-2"]))
    with memory.BuildLock(pair), pytest.raises(memory.Locked):
        work(pair)
    assert memory.list_versions(pair) == [1, 2]
    with pytest.raises(memory.MemoryNotFound):
        work(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
