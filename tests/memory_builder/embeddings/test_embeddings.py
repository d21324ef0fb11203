"""Cached embeddings to a memory: every form that is read, rows that are not usable, kills, and refusals."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memory import Memory, Modality, list_versions, verify_memory
from memory_builder import BuildConfig, BuildResult, CorpusError, Origin, build_from_embeddings, open_embeddings
from memory_builder.embeddings.metadata import MetadataFile
from memory_builder.embeddings.reader import BLOCK_ROWS
from memory_builder.readers import ReaderOptions, regular_file

D = 16


def vectors(rows: int, seed: int, embed_dim: int = D) -> np.ndarray:
    """(rows, D) float32, of any length."""
    return np.random.default_rng(seed).standard_normal((rows, embed_dim), dtype=np.float32) * 3


def unit(rows: np.ndarray) -> np.ndarray:
    exact = np.asarray(rows, dtype=np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def write_shard(root: Path, number: int, rows: int = 20, **columns: Any) -> tuple[np.ndarray, np.ndarray]:
    """One shard as clip-retrieval writes it; odd ones in float16. `columns` replace those of the metadata."""
    image, text = (vectors(rows, 2 * number + side).astype((np.float32, np.float16)[number % 2]) for side in (0, 1))
    for folder, array in (("img_emb", image), ("text_emb", text)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        np.save(root / folder / f"{folder}_{number}.npy", array)
    table = {
        "image_path": [f"{number:03d}{row:05d}" for row in range(rows)],
        "caption": [f"bird {row} of {number}\n" for row in range(rows)],
        "url": [f"https://example.org/{number}/{row}.jpg" for row in range(rows)],
    } | columns
    (root / "metadata").mkdir(exist_ok=True)
    shown = {name: values for name, values in table.items() if values is not None}
    pq.write_table(pa.table(shown), root / f"metadata/metadata_{number}.parquet", row_group_size=7)
    return image, text


def origin(name: str = "some-clip", embed_dim: int = D) -> Origin:
    return Origin.undeclared(name, embed_dim)


Build = Callable[..., BuildResult]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "memory"


@pytest.fixture
def take_over(memory: Path) -> Build:
    """Build from what is named into tmp_path/memory; settings by name."""

    def run(*sources: Path, **settings: Any) -> BuildResult:
        config = BuildConfig(tuple(map(str, sources)), memory, **settings)
        readers = open_embeddings(config)
        return build_from_embeddings(config, readers, origin(embed_dim=readers[0].embed_dim))

    return run


def ledger(memory: Path) -> dict[str, str]:
    lines = (memory / "work/rejected.jsonl").read_text().splitlines()
    return {row["key"]: row["code"] for row in map(json.loads, lines)}


def assert_finds(opened: Memory, sides: dict[Modality, np.ndarray], queries: int, k: int) -> None:
    """The memory's answers are those of comparing everything with everything, pairs included."""
    for modality, other in (("image", "text"), ("text", "image")):
        rows, paired = unit(sides[modality]), unit(sides[other])
        chosen = np.linspace(0, len(rows) - 1, queries, dtype=int)
        asked = unit(rows[chosen] + 0.05 * vectors(queries, 9, rows.shape[1])).astype(np.float32)
        found = opened.search(asked, k, modality=modality)
        similarities = asked.astype(np.float64) @ rows.T
        best = -np.sort(-similarities, axis=1)[:, :k]
        assert np.allclose(found.similarities, best, atol=1e-3)
        assert np.allclose(np.take_along_axis(similarities, found.ids, axis=1), best, atol=1e-3)
        assert np.allclose(found.values, paired[found.ids], atol=2e-3)


# What is read


def test_a_clip_retrieval_folder_becomes_a_memory(tmp_path: Path, memory: Path, take_over: Build) -> None:
    shards = [write_shard(tmp_path / "laion", number) for number in range(12)]  # 10 comes after 9, not after 1
    result = take_over(tmp_path / "laion")
    assert (result.rows, result.added, result.rejected, result.units) == (240, 240, {}, 12)
    image, text = (np.concatenate([shard[side] for shard in shards]) for side in (0, 1))
    with Memory.open(memory) as opened:
        assert opened.keys() == [f"laion/{n:03d}{row:05d}" for n in range(12) for row in range(20)]
        assert opened.captions()[:2] == ["bird 0 of 0", "bird 1 of 0"]
        assert opened.items([21])[0].source == "https://example.org/1/1.jpg"
        assert opened.items([21])[0].thumbnail is None
        assert np.allclose(opened.rows("image"), unit(image), atol=1e-3)
        assert np.allclose(opened.rows("text"), unit(text), atol=1e-3)
        assert_finds(opened, {"image": image, "text": text}, queries=20, k=7)
        assert opened.manifest.sources == {"corpora": ["laion"]}
    assert verify_memory(memory, full=True).ok
    assert list((memory / "work/units").iterdir()) == []


@pytest.mark.parametrize("unit_rows", [999, 1024, 65_536])
def test_rows_do_not_depend_on_units_blocks_and_row_groups(
    tmp_path: Path, memory: Path, take_over: Build, unit_rows: int
) -> None:
    rows = 2 * BLOCK_ROWS + 77
    image, _ = write_shard(tmp_path / "laion", 0, rows)
    result = take_over(tmp_path / "laion", unit_rows=unit_rows)
    assert result.units == -(-rows // unit_rows)
    with Memory.open(memory) as opened:
        assert opened.captions() == [f"bird {row} of 0" for row in range(rows)]
        assert np.allclose(opened.rows("image"), unit(image), atol=1e-3)


def test_metadata_may_be_absent_and_keys_are_rows_then(tmp_path: Path, memory: Path, take_over: Build) -> None:
    _, text = write_shard(tmp_path / "laion", 3, rows=4)
    text[2] = text[0]
    np.save(tmp_path / "laion/text_emb/text_emb_3.npy", text)
    (tmp_path / "laion/metadata/metadata_3.parquet").unlink()
    (tmp_path / "laion/metadata").rmdir()
    assert take_over(tmp_path / "laion").added == 4
    with Memory.open(memory) as opened:
        assert opened.keys() == [f"laion/img_emb_3/{row}" for row in range(4)]
        assert opened.items([1])[0].source == "img_emb_3.npy row 1"
        captions = opened.captions()
        # Training takes equal captions for equal texts: what stands in for them must be neither more nor less equal.
        assert captions[2] == captions[0]
        assert len(set(captions)) == 3


def test_columns_of_other_names_and_forms(tmp_path: Path, memory: Path, take_over: Build) -> None:
    words = pa.array([f"word {row % 3}" for row in range(20)]).dictionary_encode()
    write_shard(tmp_path / "laion", 0, caption=None, image_path=None, TEXT=words, id=list(range(100, 120)))
    with pytest.raises(CorpusError, match=r"no column 'caption'.*--caption-column.*Its columns: url, TEXT, id"):
        take_over(tmp_path / "laion")
    take_over(tmp_path / "laion", caption_column="TEXT", key_column="id")
    with Memory.open(memory) as opened:
        assert opened.keys()[19] == "laion/119"
        assert opened.captions()[4] == "word 1"


@pytest.mark.parametrize("group_rows", [7, 5000, 20_000])
def test_metadata_is_the_same_from_any_place_in_any_order(tmp_path: Path, group_rows: int) -> None:
    """A build that goes on in the middle of a file begins to read there."""
    captions = [f"caption {row}" for row in range(12_000)]
    pq.write_table(pa.table({"caption": captions}), tmp_path / "x.parquet", row_group_size=group_rows)
    metadata = MetadataFile(tmp_path / "x.parquet", ReaderOptions())
    for start, stop in [(9000, 9500), (9500, 12_000), (4096, 4097), (4097, 9001), (0, 1), (11_999, 12_000)]:
        assert [row.caption for row in metadata.read(start, stop)] == captions[start:stop]


def test_an_npz_of_pairs(tmp_path: Path, memory: Path, take_over: Build) -> None:
    image, text = vectors(30, 1), vectors(30, 2).astype(np.float16)
    hashes = [hashlib.sha256(bytes([row])).hexdigest() for row in range(30)]
    np.savez_compressed(
        tmp_path / "shop.npz",
        image=image,
        text=text,
        caption=[f"shirt {row}" for row in range(30)],
        key=np.array([f"/s/{row}" for row in range(30)], dtype="S"),
        image_sha256=[*hashes[:28], "", "not a hash"],
        unused=np.array([{}], dtype=object),  # nobody looks at it
    )
    result = take_over(tmp_path / "shop.npz", max_error_rate=0.1)
    assert (result.rows, result.added, result.rejected) == (30, 29, {"row_invalid": 1})
    with Memory.open(memory) as opened:
        assert opened.keys()[:2] == ["shop/s/0", "shop/s/1"]
        assert opened.captions()[5] == "shirt 5"
        assert opened.content_hashes()[:28] == hashes[:28]
        assert opened.content_hashes()[28] == hashlib.sha256(unit(image)[28].astype(np.float16).tobytes()).hexdigest()
        assert_finds(opened, {"image": image[:29], "text": text[:29]}, queries=9, k=5)


def test_an_npz_with_a_text_for_each_class(tmp_path: Path, memory: Path, take_over: Build) -> None:
    image, text = vectors(40, 1), np.asfortranarray(vectors(7, 2))
    label = np.arange(40, dtype=np.uint8) % 7
    np.savez(tmp_path / "shots.npz", image=image, text=text, label=label, class_name=[f"bird {n}" for n in range(7)])
    assert take_over(tmp_path / "shots.npz").added == 40
    with Memory.open(memory) as opened:
        assert opened.keys()[39] == "shots/39"
        assert opened.captions() == [f"bird {n % 7}" for n in range(40)]
        assert_finds(opened, {"image": image, "text": text[label]}, queries=40, k=3)


def test_an_npz_with_one_image_for_each_class_in_another_order(tmp_path: Path, memory: Path, take_over: Build) -> None:
    """As many images as texts: that they are pairs by row is what an .npz without such labels says."""
    image, text, label = vectors(7, 1), vectors(7, 2), np.array([3, 1, 0, 2, 6, 5, 4])
    np.savez(tmp_path / "shots.npz", image=image, text=text, label=label, class_name=[f"bird {n}" for n in range(7)])
    take_over(tmp_path / "shots.npz")
    with Memory.open(memory) as opened:
        assert opened.captions() == [f"bird {n}" for n in label]
        assert_finds(opened, {"image": image, "text": text[label]}, queries=7, k=3)


@pytest.mark.parametrize("label", [[0, 1, 1, 2, 0, 1, 2], list("abcdefg"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
def test_pairs_that_tell_a_class_of_each_row_stay_pairs(
    tmp_path: Path, memory: Path, take_over: Build, label: list[object]
) -> None:
    image, text = vectors(7, 1), vectors(7, 2)
    captions = [f"a photo of bird {n}" for n in range(7)]
    np.savez(tmp_path / "pairs.npz", image=image, text=text, label=label, caption=captions, class_name=["x", "y", "z"])
    take_over(tmp_path / "pairs.npz")
    with Memory.open(memory) as opened:
        assert opened.captions() == captions
        assert_finds(opened, {"image": image, "text": text}, queries=7, k=3)


def test_copies_of_an_image_have_one_content_hash(tmp_path: Path, memory: Path, take_over: Build) -> None:
    image = vectors(4, 1)
    image[3] = image[1]
    np.savez(tmp_path / "x.npz", image=image, text=vectors(4, 2))
    take_over(tmp_path / "x.npz")
    with Memory.open(memory) as opened:
        hashes = opened.content_hashes()
    assert hashes[3] == hashes[1]
    assert len(set(hashes)) == 3


def test_real_few_shot_embeddings(few_shot: Path, memory: Path, take_over: Build) -> None:
    result = take_over(few_shot, unit_rows=2048)
    assert (result.rows, result.added, result.rejected, result.units) == (7000, 7000, {}, 4)
    with np.load(few_shot, allow_pickle=False) as arrays, Memory.open(memory) as opened:
        label, names = arrays["label"], arrays["class_name"]
        assert opened.captions() == names[label].tolist()
        assert_finds(opened, {"image": arrays["image"], "text": arrays["text"][label]}, queries=200, k=10)
        # Zero-shot over 1,000 classes from what the memory stores: the published 65.5 %.
        texts = unit(arrays["text"])
        correct = (opened.rows("image") @ texts.T).argmax(axis=1) == label
        assert 0.60 < correct.mean() < 0.75


# Rows that cannot be used


def test_rows_that_are_zero_or_not_finite_are_in_the_ledger(tmp_path: Path, memory: Path, take_over: Build) -> None:
    image, text = vectors(40, 1), vectors(40, 2)
    image[3], image[5, 2], text[7, 0], text[9] = 0, np.nan, np.inf, 0
    image[11], image[12] = 3e38, 1e-30  # their squares leave float32, they do not
    np.savez(tmp_path / "x.npz", image=image, text=text)
    result = take_over(tmp_path / "x.npz", max_error_rate=0.2)
    assert (result.rows, result.added, result.rejected) == (40, 36, {"nonfinite_embedding": 4})
    assert ledger(memory) == {f"x/{row}": "nonfinite_embedding" for row in (3, 5, 7, 9)}
    with Memory.open(memory) as opened:
        assert opened.keys() == [f"x/{row}" for row in range(40) if row not in (3, 5, 7, 9)]
        assert np.allclose(np.linalg.norm(opened.rows("image"), axis=1), 1)


def test_captions_and_keys_are_checked_as_in_every_build(tmp_path: Path, memory: Path, take_over: Build) -> None:
    binary = pa.array([b"fine", b"", b"a\0b", b"\xff", b"x" * 3000, None, b"twice", b"fine too"])
    captions = pa.Array.from_buffers(pa.string(), 8, binary.buffers())  # Parquet does not check that it is UTF-8
    write_shard(tmp_path / "x", 0, 8, caption=captions, image_path=["a", "b", "c", "d", "e", "f", "a", None])
    result = take_over(tmp_path / "x", max_error_rate=1)
    assert (result.rows, result.added) == (8, 1)
    assert result.rejected == {
        "text_empty": 1,
        "text_control_character": 1,
        "text_invalid_unicode": 1,
        "text_too_long": 1,
        "missing_caption": 1,
        "duplicate_key": 1,
        "key_invalid": 1,
    }
    assert ledger(memory)["x/img_emb_0/7"] == "key_invalid"


# Growing, stopping, resuming


def test_the_same_again_is_nothing_new_and_another_shard_is_all_that_is_added(
    tmp_path: Path, memory: Path, take_over: Build
) -> None:
    write_shard(tmp_path / "laion", 0)
    first = take_over(tmp_path / "laion")
    again = take_over(tmp_path / "laion")
    assert (again.created, again.digest, again.present, again.units_encoded) == (False, first.digest, 20, 0)
    write_shard(tmp_path / "laion", 0)  # new times of change: read again, and known by key, caption and hash
    write_shard(tmp_path / "laion", 1)
    grown = take_over(tmp_path / "laion")
    assert (grown.version, grown.added, grown.present, grown.rejected) == (2, 20, 20, {})
    write_shard(tmp_path / "laion", 0, caption=[f"another {row}" for row in range(20)])
    assert take_over(tmp_path / "laion", max_error_rate=1).rejected == {"duplicate_key": 20}
    assert list_versions(memory) == [1, 2]


KILLED = """
import os, signal, sys
from pathlib import Path
from memory_builder import BuildConfig, Origin, build_from_embeddings, open_embeddings
from memory_builder.reporting.progress import Silent

class Killing(Silent):
    rows = 0
    def stage(self, name):
        self.reached(name)
    def advance(self, rows, rejected):
        self.rows += rows
        self.reached(str(self.rows))
    def reached(self, what):
        if what == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)

config = BuildConfig((sys.argv[1],), Path(sys.argv[2]), unit_rows=50, max_segment_rows=120)
readers = open_embeddings(config)
build_from_embeddings(config, readers, Origin.undeclared("some-clip", readers[0].embed_dim), Killing())
assert "torch" not in sys.modules
"""


def test_killed_at_any_stage_it_ends_in_the_same_memory(tmp_path: Path, memory: Path, take_over: Build) -> None:
    image, _ = write_shard(tmp_path / "laion", 0, 260)
    write_shard(tmp_path / "laion", 1, 100)
    image[7] = 0
    np.save(tmp_path / "laion/img_emb/img_emb_0.npy", image)
    whole = take_over(tmp_path / "laion", unit_rows=50, max_segment_rows=120)
    assert (whole.rows, whole.added) == (360, 359)

    killed = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "laion"), str(killed)]
    # 100 rows more than the last time: each run goes on where the one before it was killed, and not before.
    for moment in ("100", "100", "read", "segments", "index", "publish"):
        assert subprocess.run([*command, moment], check=False).returncode == -signal.SIGKILL, moment
        assert list_versions(killed) == []
    assert len(list((killed / "work/units").iterdir())) == whole.units == 8
    done = subprocess.run([*command, "never"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Memory.open(killed) as opened:
        assert opened.digest == whole.digest
        assert len(opened.manifest.segments) > 1
    log = [json.loads(line) for line in (killed / "work/build-log.jsonl").read_text().splitlines()]
    assert sum(unit["rows"] for unit in log) == 360, "a finished unit was read again"


def test_a_file_that_changes_meanwhile_stops_the_build(tmp_path: Path, take_over: Build) -> None:
    image, _ = write_shard(tmp_path / "laion", 0)
    readers = open_embeddings(BuildConfig((str(tmp_path / "laion"),), tmp_path / "m"))
    path = tmp_path / "laion/img_emb/img_emb_0.npy"
    np.save(path, image[:10])
    with pytest.raises(CorpusError) as caught:
        list(readers[0].read(next(readers[0].pieces(20))))
    assert caught.value.code == "source_changed"


# What is refused, before anything is written


def layout(**arrays: Any) -> Callable[[Path], Path]:
    """A folder with these arrays, each under the name of its folder; 20 rows where none are given."""

    def write(root: Path) -> Path:
        write_shard(root, 0)
        for folder, array in arrays.items():
            np.save(root / folder / f"{folder}_0.npy", array, allow_pickle=True)
        return root

    return write


def archive(**arrays: Any) -> Callable[[Path], Path]:
    """An .npz with these arrays."""

    def write(root: Path) -> Path:
        root.mkdir()
        np.savez(root / "x.npz", **arrays)
        return root / "x.npz"

    return write


def without(*names: str) -> Callable[[Path], Path]:
    """A folder of two shards with some files or whole folders taken away."""

    def write(root: Path) -> Path:
        write_shard(root, 0)
        write_shard(root, 1)
        for path in [path for name in names for path in sorted(root.glob(name), reverse=True)]:
            path.rmdir() if path.is_dir() else path.unlink()
        return root

    return write


def renamed(old: str, new: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        write_shard(root, 0)
        write_shard(root, 1)
        (root / old).rename(root / new)
        return root

    return write


def file(name: str, data: bytes = b"") -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        root.mkdir()
        (root / name).write_bytes(data)
        return root / name

    return write


def folder_with(name: str) -> Callable[[Path], Path]:
    return lambda root: file(name)(root).parent


def cut(name: str, size: int) -> Callable[[Path], Path]:
    """A folder with one file cut short."""

    def write(root: Path) -> Path:
        write_shard(root, 0)
        os.truncate(root / name, size)
        return root

    return write


OBJECTS = np.array([{}] * 20, dtype=object)
WRONG: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "empty folder": (folder_with("x.txt"), "embeddings_layout", "neither img_emb nor text_emb.*clip-retrieval"),
    "npz in a folder": (folder_with("x.npz"), "embeddings_layout", "It holds x.npz: name the file itself"),
    "no text side": (without("text_emb/*", "text_emb"), "embeddings_layout", "no folder text_emb.*--enable_text"),
    "no image side": (without("img_emb/*", "img_emb"), "embeddings_layout", "no folder img_emb.*--enable_image"),
    "empty sides": (without("img_emb/*", "text_emb/*"), "source_empty", "hold no .npy"),
    "missing shard": (without("text_emb/*_1.npy"), "embeddings_layout", "text_emb has no file of number 1"),
    "missing image": (without("img_emb/*_0.npy"), "embeddings_layout", "img_emb has no file of number 0"),
    "missing metadata": (without("metadata/*_1.parquet"), "embeddings_layout", "metadata has no file of number 1"),
    "no number": (renamed("img_emb/img_emb_1.npy", "img_emb/all.npy"), "embeddings_layout", "has no number"),
    "same number": (renamed("img_emb/img_emb_1.npy", "img_emb/x_00.npy"), "embeddings_layout", "the same number"),
    "fewer texts": (layout(text_emb=vectors(19, 1)), "embeddings_mismatch", "has 20 rows and .* has 19"),
    "fewer images": (layout(img_emb=vectors(3, 1), text_emb=vectors(3, 1)), "embeddings_mismatch", "3 rows.*20"),
    "other D": (layout(text_emb=vectors(20, 1, 8)), "embeddings_mismatch", "D = 16 and .* of D = 8"),
    "no rows": (lambda root: write_shard(root, 0, 0) and root, "source_empty", "hold no row"),
    "float64": (layout(img_emb=np.ones((20, D))), "embeddings_invalid", "is float64: .* float16 or float32"),
    "one axis": (layout(img_emb=np.ones(20, np.float32)), "embeddings_invalid", r"shape \(20,\)"),
    "Fortran": (layout(img_emb=np.asfortranarray(vectors(20, 1))), "embeddings_invalid", "ascontiguousarray"),
    "objects": (layout(img_emb=OBJECTS), "embeddings_invalid", "only pickle can read"),
    "cut .npy": (cut("img_emb/img_emb_0.npy", 500), "source_truncated", "promises 1,280 bytes of values and has 372"),
    "empty .npy": (cut("text_emb/text_emb_0.npy", 0), "embeddings_invalid", "is not an .npy"),
    "cut .parquet": (cut("metadata/metadata_0.parquet", 100), "table_invalid", "cannot be read as Parquet"),
    "npz without text": (archive(image=vectors(3, 1)), "embeddings_layout", "has no array text.*It has: image"),
    "npz of nothing": (archive(), "embeddings_layout", "no array image and no array text.*It has: nothing"),
    "npz other D": (archive(image=vectors(3, 1), text=vectors(3, 1, 8)), "embeddings_mismatch", "D = 8"),
    "npz rows": (archive(image=vectors(3, 1), text=vectors(2, 1)), "embeddings_mismatch", "no label"),
    "npz captions": (
        archive(image=vectors(3, 1), text=vectors(3, 1), caption=["a", "b"]),
        "embeddings_mismatch",
        r"caption .* shape \(2,\), expected \(3,\)",
    ),
    "npz objects": (
        archive(image=vectors(3, 1), text=vectors(3, 1), caption=np.array(["a", "b", "c"], dtype=object)),
        "embeddings_invalid",
        r"objects, which only pickle can read.*dtype=str",
    ),
    "npz label range": (
        archive(image=vectors(3, 1), text=vectors(2, 1), label=[0, 1, 2]),
        "embeddings_mismatch",
        "label .* runs from 0 to 2, and text has rows 0 to 1",
    ),
    "npz label kind": (
        archive(image=vectors(3, 1), text=vectors(2, 1), label=[0.0, 1.0, 1.0]),
        "embeddings_invalid",
        "label .* is float64, not whole numbers",
    ),
    "no zip": (file("x.npz", b"PK no zip"), "embeddings_invalid", "no .npz that can be read"),
    "single .npy": (file("x.npy"), "corpus_format_unknown", "one array.*clip-retrieval"),
    "a pickle": (file("x.pt"), "corpus_format_unknown", "pickle, which is never read.*numpy.savez"),
    "a tar": (file("x.tar"), "corpus_format_unknown", "images, not embeddings.*without --embeddings"),
    "unknown": (file("x.bin"), "corpus_format_unknown", "not read as embeddings.*single .npz"),
    "not there": (lambda root: root, "corpus_not_found", "No file or folder"),
    "a URL": (lambda root: Path("s3:/bucket"), "corpus_scheme_refused", "local files"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path, memory: Path, take_over: Build, name: str
) -> None:
    write, code, message = WRONG[name]
    with pytest.raises(CorpusError, match=message) as caught:
        take_over(write(tmp_path / "given"))
    assert caught.value.code == code
    assert not memory.exists()


def test_sources_of_different_dimensions_are_refused(tmp_path: Path, take_over: Build) -> None:
    write_shard(tmp_path / "laion", 0)
    np.savez(tmp_path / "x.npz", image=vectors(3, 1, 8), text=vectors(3, 2, 8))
    with pytest.raises(CorpusError, match="laion holds embeddings of D = 16 and x of D = 8"):
        take_over(tmp_path / "laion", tmp_path / "x.npz")


def test_an_npz_too_large_to_hold_is_refused_by_its_headers(
    tmp_path: Path, take_over: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", image=np.zeros((100, D), np.float32), text=np.zeros((100, D), np.float32))
    monkeypatch.setattr("memory_builder.embeddings.npz.MAX_BYTES", 10_000)
    with pytest.raises(CorpusError, match=r"loaded whole.*img_emb/0\.npy"):
        take_over(tmp_path / "x.npz")


def test_embeddings_are_read_by_ranges_never_whole(
    tmp_path: Path, take_over: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "laion", 0, 3000)
    sizes: list[int] = []
    read = regular_file.read_range

    def counted(path: Path, stamp: Any, offset: int, size: int) -> bytes:
        sizes.append(size)
        return read(path, stamp, offset, size)

    monkeypatch.setattr("memory_builder.embeddings.arrays.read_range", counted)
    take_over(tmp_path / "laion")
    assert max(sizes) == BLOCK_ROWS * D * 4
    assert sum(sizes) == 2 * 3000 * D * 4


def test_a_row_that_repeats_a_pair_is_no_duplicate(take_over: Callable[..., Any], tmp_path: Path) -> None:
    sides = {side: np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32) for side in ("image", "text")}
    for side in sides.values():
        side[3] = side[5] = side[0]
    captions = ["a mug", "a cup", "a bowl", "a mug", "a jug", "another mug"]
    np.savez(tmp_path / "x.npz", **sides, caption=np.array(captions), key=np.array([*"abcada"]))
    result = take_over(tmp_path / "x.npz", max_error_rate=1)
    assert (result.added, result.repeated, result.rejected) == (4, 1, {"duplicate_key": 1})
