"""Whole builds: totals that add up, growth without re-encoding, and refusals that leave nothing behind."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memory import BuildLock, EncoderMismatch, IndexOptions, IndexOptionsInvalid, Locked, Memory, list_versions
from memory_builder import (
    BuildConfig,
    BuildResult,
    CorpusError,
    NothingUsable,
    OutputError,
    TooManyRejected,
    build,
)
from models.encoder import Encoder

Run = Callable[..., BuildResult]
WriteFolder = Callable[..., Path]


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "memory"


def adds_up(result: BuildResult) -> bool:
    return result.rows == result.added + result.present + result.repeated + sum(result.rejected.values())


def ledger(memory: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (memory / "work/rejected.jsonl").read_text().splitlines()]


def segments(memory: Path) -> list[str]:
    with Memory.open(memory) as opened:
        return [segment.id for segment in opened.manifest.segments]


def test_a_memory_finds_each_of_its_own_pairs(
    run: Run, tmp_path: Path, memory: Path, encoder: Encoder, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(40))
    result = run(photos)
    assert adds_up(result)
    assert (result.version, result.created, result.rows, result.added) == (1, True, 40, 40)
    assert (result.units, result.units_encoded, result.units_resumed) == (3, 3, 0)
    with Memory.open(memory, encoder=encoder.fingerprint.record()) as opened:
        assert opened.digest == result.digest
        assert opened.keys() == [f"photos/{n // 10:03d}/{n:05d}" for n in range(40)]
        queries = np.stack(
            [
                encoder.encode_image(encoder.preprocess((photos / f"{n // 10:03d}/{n:05d}.jpg").read_bytes())[None])[0]
                for n in range(40)
            ]
        )
        found = opened.search(queries, 1, modality="image")
        assert found.ids[:, 0].tolist() == list(range(40))
        assert found.similarities.min() > 0.999
        assert opened.manifest.sources == {"corpora": ["photos"]}
    assert list((memory / "work/units").iterdir()) == []


def test_totals_add_up_and_every_rejected_row_is_in_the_ledger(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(40))
    (photos / "000/00003.jpg").write_bytes(b"<html>")
    (photos / "001/00011.txt").unlink()
    (photos / "002/alone.txt").write_text("no image")
    (photos / "002/00025.txt").write_bytes(b"\xff")
    (photos / "notes.md").write_text("no row")
    result = run(photos, max_error_rate=0.2)
    assert adds_up(result)
    assert (result.rows, result.added, result.ignored, result.num_items) == (41, 37, 1, 37)
    assert result.rejected == {
        "image_format_unsupported": 1,
        "missing_caption": 1,
        "missing_image": 1,
        "text_invalid_unicode": 1,
    }
    rows = ledger(memory)
    assert [row["key"] for row in rows] == [
        "photos/000/00003",
        "photos/001/00011",
        "photos/002/00025",
        "photos/002/alone",
    ]
    assert all(row["detail"] and row["source"].startswith("photos/") for row in rows)


@pytest.mark.parametrize("unit_rows", [1, 7, 64])
def test_unit_size_does_not_change_rows_or_their_order(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder, unit_rows: int
) -> None:
    photos = write_folder(tmp_path / "photos", range(20))
    shutil.copy(photos / "000/00000.jpg", photos / "000/00001.png")  # a duplicate key
    run(photos, max_error_rate=1)
    with Memory.open(memory) as opened:
        expected = (
            opened.keys(),
            opened.captions(),
            opened.content_hashes(),
            opened.rows("image"),
            opened.rows("text"),
        )
    shutil.rmtree(memory)
    run(photos, unit_rows=unit_rows, max_error_rate=1)
    with Memory.open(memory) as opened:
        assert (opened.keys(), opened.captions(), opened.content_hashes()) == expected[:3]
        assert np.allclose(opened.rows("image"), expected[3], atol=1e-3)
        assert np.allclose(opened.rows("text"), expected[4], atol=1e-3)


def test_two_builds_of_one_corpus_are_equal_byte_for_byte(
    tmp_path: Path, encoder: Encoder, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(20))
    digests = set()
    for name, threads in (("a", 1), ("b", 5)):
        config = BuildConfig((str(photos),), tmp_path / name, unit_rows=8, batch_size=4, workers=threads)
        digests.add(build(config, encoder).digest)
    assert len(digests) == 1
    manifests = [(tmp_path / name / "manifests/00000001.json").read_bytes() for name in "ab"]
    assert manifests[0] == manifests[1]


def test_nothing_new_makes_no_version(run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder) -> None:
    photos = write_folder(tmp_path / "photos", range(20))
    first, again = run(photos), run(photos)
    assert (again.version, again.digest, again.created) == (1, first.digest, False)
    assert (again.added, again.present, again.units_encoded) == (0, 20, 0)
    assert list_versions(memory) == [1]


def test_a_second_build_adds_only_what_is_new(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(32))
    run(photos)
    before = segments(memory)
    more = write_folder(tmp_path / "more", range(100, 110))
    write_folder(photos, range(32, 40))
    result = run(photos, more)
    assert adds_up(result)
    assert (result.version, result.added, result.present, result.num_items) == (2, 18, 32, 50)
    assert result.units_encoded == 2  # the two full units of the folder are published and were not read
    assert segments(memory)[:1] == before
    with Memory.open(memory) as opened:
        assert opened.keys()[32:40] == [f"photos/003/{n:05d}" for n in range(32, 40)]
        assert opened.manifest.sources == {"corpora": ["photos", "more"]}
        assert len(opened.manifest.segments) == 2


def test_a_corpus_whose_files_were_only_touched_is_recognised(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(20))
    run(photos)
    write_folder(photos, range(20))  # new times of change
    (photos / "000/00003.txt").write_text("another caption")
    result = run(photos, max_error_rate=1)
    assert (result.created, result.added, result.present) == (False, 0, 19)
    assert result.rejected == {"duplicate_key": 1}


def test_another_corpus_of_the_same_name_is_not_taken_for_this_one(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    run(write_folder(tmp_path / "a/photos", range(20)))
    other = write_folder(tmp_path / "b/photos", range(20))
    for path in other.rglob("*.txt"):
        path.write_text("something else")
    with pytest.raises(TooManyRejected) as caught:
        run(other)
    assert caught.value.rejected == {"duplicate_key": 20}
    assert list_versions(memory) == [1]


def test_segments_are_closed_in_time(run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder) -> None:
    run(write_folder(tmp_path / "photos", range(40)), unit_rows=8, max_segment_rows=20)
    with Memory.open(memory) as opened:
        assert [segment.rows for segment in opened.manifest.segments] == [16, 16, 8]


def test_tars_tables_and_folders_in_one_build(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder, write_shard: Callable[..., Path]
) -> None:
    photos = write_folder(tmp_path / "photos", range(5))
    for number in range(3):
        write_shard(tmp_path / f"{number:03d}.tar", range(10 * number, 10 * number + 4))
    lines = [json.dumps({"path": f"photos/000/{n:05d}.jpg", "caption": "from a table"}) for n in range(5)]
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    result = run(tmp_path / "{000..002}.tar", photos, tmp_path / "table.jsonl")
    assert (result.rows, result.added) == (22, 22)
    with Memory.open(memory) as opened:
        assert opened.manifest.sources == {"corpora": ["000", "001", "002", "photos", "table"]}
        assert opened.keys()[4] == "001/00010"
        assert opened.items([21])[0].source == "table.jsonl row 5"


def test_B02_a_damaged_tar_stops_the_build_before_anything_is_encoded(
    run: Run, tmp_path: Path, memory: Path, write_shard: Callable[..., Path]
) -> None:
    write_shard(tmp_path / "0.tar", range(4))
    bad = write_shard(tmp_path / "1.tar", range(4, 8))
    bad.write_bytes(bad.read_bytes()[:2048])
    with pytest.raises(CorpusError, match=r"1\.tar") as caught:
        run(tmp_path / "*.tar")
    assert caught.value.code == "source_truncated"
    assert list_versions(memory) == []
    assert list((memory / "work/units").iterdir()) == []


def test_B11_duplicates_across_units_keep_the_first(run: Run, tmp_path: Path, memory: Path) -> None:
    from_table = [{"path": "a.png", "caption": f"caption {n}"} for n in range(40)]
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, from_table)))
    with pytest.raises(TooManyRejected, match="key column"):
        run(tmp_path / "t.jsonl")
    result = run(tmp_path / "t.jsonl", max_error_rate=1)
    assert (result.added, result.rejected, result.units_resumed) == (1, {"duplicate_key": 39}, 3)
    with Memory.open(memory) as opened:
        assert opened.captions() == ["caption 0"]


@pytest.mark.parametrize("unit_rows", [2, 64])
def test_a_line_that_was_copied_is_told_and_is_no_error(run: Run, tmp_path: Path, memory: Path, unit_rows: int) -> None:
    for name in "abc":
        Image.new("RGB", (20, 20), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    lines = ["path,caption,price", "a.png,a mug,1", "b.png,a cup,2", "a.png,a mug,3", "c.png,a bowl,4", "a.png,a jug,5"]
    (tmp_path / "shop.csv").write_text("\n".join([*lines, "b.png,a cup,2", "b.png,a cup,2"]))
    result = run(tmp_path / "shop.csv", unit_rows=unit_rows, max_error_rate=0.2)
    assert (result.added, result.repeated, result.rejected) == (3, 3, {"duplicate_key": 1})
    assert adds_up(result)
    assert [row["code"] for row in ledger(memory)].count("repeated") == 3
    again = run(tmp_path / "shop.csv", unit_rows=unit_rows)
    assert (again.present, again.repeated, again.rejected_earlier) == (3, 3, 1)


def test_nights_that_bring_nothing_leave_one_nights_units(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    killed = write_folder(tmp_path / "killed", range(20))
    (killed / "000/00001.jpg").write_bytes(b"")
    shop, units = tmp_path / "shop.csv", memory / "work/units"

    def night(price: int) -> BuildResult:
        shop.write_text(f"path,caption,price\na.png,a mug,{price}\n")
        return run(shop)

    assert night(1).created
    with pytest.raises(TooManyRejected):
        run(killed, max_error_rate=0.0)
    encoded = {unit.name for unit in units.iterdir()}
    assert encoded, "work of another corpus, to be gone on from"
    for price in (2, 3, 4):
        assert not night(price).created
        assert len({unit.name for unit in units.iterdir()} - encoded) == 1
        assert encoded < {unit.name for unit in units.iterdir()}
    assert night(4).units_resumed == 1, "a second look is spared"
    assert run(killed, max_error_rate=1.0).units_encoded == 0


@pytest.mark.parametrize(
    ("file", "data"), [("image.f16.npy", b""), ("rejected.jsonl", b"[1]\n"), ("rejected.jsonl", b'{"key": 3}\n')]
)
def test_a_damaged_unit_that_a_build_left_ends_no_other(
    file: str, data: bytes, run: Run, tmp_path: Path, memory: Path
) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    shop = tmp_path / "shop.csv"
    for price in (1, 2, 3):
        shop.write_text(f"path,caption,price\na.png,a mug,{price}\n")
        assert run(shop).created == (price == 1)
        if price == 2:
            (left,) = (memory / "work/units").iterdir()
            (left / file).write_bytes(data)
    assert left.exists(), "nobody can tell whose it is"


def test_too_many_rejected_rows_stop_the_build_and_cost_no_work(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(40))
    for number in (1, 2, 30):
        (photos / f"{number // 10:03d}/{number:05d}.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(TooManyRejected, match=r"3 of 40 rows \(7.5%\).*3 image_truncated.*--max-error-rate") as caught:
        run(photos)
    assert caught.value.rejected == {"image_truncated": 3}
    assert len(ledger(memory)) == 3
    assert list_versions(memory) == []
    result = run(photos, max_error_rate=0.1)
    assert (result.units_resumed, result.units_encoded, result.added) == (3, 0, 37)


def test_a_link_to_a_folder_is_told_and_stops_no_build(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(5))
    (photos / "latest").symlink_to(tmp_path)
    result = run(photos)
    assert (result.added, result.rejected) == (5, {"linked_folder": 1})
    assert [row["key"] for row in ledger(memory)] == ["photos/latest"]


def test_each_corpus_keeps_its_own_rejected_rows(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    """Another corpus leaves them, the same one replaces them, and units that are not looked at again keep theirs."""
    first, second = (write_folder(tmp_path / name, range(40)) for name in ("first", "second"))
    for broken in (first / "000/00003.jpg", first / "003/00035.jpg", second / "001/00012.jpg"):
        broken.write_bytes(b"<html>")
    run(first, max_error_rate=1)
    run(second, max_error_rate=1)
    assert [row["key"] for row in ledger(memory)] == ["first/000/00003", "first/003/00035", "second/001/00012"]
    assert [row["corpus"] for row in ledger(memory)] == ["first", "first", "second"]
    again = run(first, second)
    assert (again.present, again.rejected, again.rejected_earlier) == (77, {"image_format_unsupported": 3}, 3)
    assert adds_up(again)
    assert run(first, second, retry_failed=True).rejected_earlier == 0
    assert run(first, second).rejected_earlier == 3
    shutil.copy(first / "000/00001.jpg", first / "000/00003.jpg")  # the first unit is another now
    mended = run(first)
    assert (mended.added, mended.present, mended.rejected_earlier) == (1, 38, 1)
    assert [row["key"] for row in ledger(memory)] == ["first/003/00035", "second/001/00012"]


def test_to_try_again_is_no_leave_for_a_new_memory_to_reject_what_it_likes(
    run: Run, tmp_path: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(20))
    for number in range(5):
        (photos / f"000/0000{number}.jpg").write_bytes(b"<html>")
    with pytest.raises(TooManyRejected, match=r"At most 5\.0%"):
        run(photos, retry_failed=True, max_error_rate=0.05)


def test_a_refused_build_leaves_what_is_told_of_the_memory(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(60))
    (photos / "000/00003.jpg").write_bytes(b"<html>")
    assert run(photos, max_error_rate=0.1).added == 59
    with pytest.raises(TooManyRejected):
        run(photos, max_characters=3, max_error_rate=0.1)
    assert len([row for row in ledger(memory) if row["code"] == "text_too_long"]) == 60
    again = run(photos)
    assert (again.present, again.rejected, again.rejected_earlier) == (59, {"image_format_unsupported": 1}, 1)
    assert [row["key"] for row in ledger(memory) if not row.get("refused")] == ["photos/000/00003"]


def test_rejected_rows_of_an_earlier_release_stay_with_their_corpus(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(5))
    run(photos)
    old = {"code": "image_empty", "detail": "Empty.", "source": "shop.csv row 1"}
    rows = [{**old, "key": "shop/a"}, {**old, "key": "photos/b"}]
    (memory / "work/rejected.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "no line of ours\n")
    write_folder(photos, range(5, 6))
    run(photos)
    assert ledger(memory) == rows[:1]


@pytest.mark.parametrize("kind", ["folder", "file", "inside a file", "/proc"])
def test_B22_a_place_that_is_no_memory(tmp_path: Path, encoder: Encoder, write_folder: WriteFolder, kind: str) -> None:
    photos = write_folder(tmp_path / "photos", range(2))
    place = {
        "folder": photos,
        "file": tmp_path / "x",
        "inside a file": tmp_path / "x/y",
        "/proc": Path("/proc/memory"),
    }[kind]
    (tmp_path / "x").write_text("a file")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError) as caught:
        build(BuildConfig((str(photos),), place), encoder)
    assert caught.value.code == "output_refused"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_wrong_corpus_leaves_no_directory(run: Run, tmp_path: Path, memory: Path) -> None:
    with pytest.raises(CorpusError):
        run(tmp_path / "nowhere")
    assert not memory.exists()


def test_B23_a_disk_that_cannot_hold_it(
    run: Run, tmp_path: Path, write_folder: WriteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="free"):
        run(write_folder(tmp_path / "photos", range(5)))


def test_B24_no_usable_row_is_an_error_and_no_version(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(5))
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(NothingUsable, match="5 image_empty") as caught:
        run(photos, max_error_rate=1)
    assert caught.value.rejected == {"image_empty": 5}
    assert len(ledger(memory)) == 5
    assert list_versions(memory) == []


def test_tars_without_a_single_row_are_told_as_an_empty_source(
    run: Run, tmp_path: Path, memory: Path, write_shard: Callable[..., Path]
) -> None:
    empty = write_shard(tmp_path / "empty.tar", [])
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("notes.md"))
    with pytest.raises(CorpusError, match=r"no image .* other kinds \(1, such as notes\.md\)") as caught:
        run(empty, tmp_path / "other.tar")
    assert caught.value.code == "source_empty"
    assert run(write_shard(tmp_path / "full.tar", range(4)), empty).added == 4
    assert not run(empty).created, "a memory that grows by nothing stays as it is"


def test_X06_a_second_builder_is_refused_at_once(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(5))
    memory.mkdir()
    with BuildLock(memory), pytest.raises(Locked):
        run(photos)
    assert run(photos).added == 5


def test_B21_a_memory_of_another_encoder_is_refused(
    run: Run, tmp_path: Path, memory: Path, encoder: Encoder, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(5))
    run(photos)

    class Other:
        fingerprint = encoder.fingerprint.__class__(**{**vars(encoder.fingerprint), "weights_sha256": "0" * 64})

        def __getattr__(self, name: str) -> object:
            return getattr(encoder, name)

    with pytest.raises(EncoderMismatch, match="weights_sha256"):
        build(BuildConfig((str(photos),), memory), Other())  # type: ignore[arg-type]


def test_units_of_an_unfinished_build_serve_another_plan(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(16))
    bad = write_folder(tmp_path / "bad", range(5))
    for path in bad.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(TooManyRejected):
        run(photos, bad)
    result = run(photos)
    assert (result.units_resumed, result.units_encoded, result.added) == (1, 0, 16)


@dataclass
class Recorder:
    """A Progress that remembers."""

    calls: list[tuple[object, ...]] = field(default_factory=list)

    def stage(self, name: str) -> None:
        self.calls.append(("stage", name))

    def start(self, total_rows: int) -> None:
        self.calls.append(("start", total_rows))

    def kept(self, units: int, rows: int, images: int) -> None:
        self.calls.append(("kept", units, rows, images))

    def advance(self, rows: int, rejected: int) -> None:
        self.calls.append(("advance", rows, rejected))

    def lanes(self, seconds: Mapping[str, float]) -> None:
        self.calls.append(("lanes", dict(seconds)))

    def done(self) -> None:
        self.calls.append(("done",))


def test_progress(tmp_path: Path, encoder: Encoder, write_folder: WriteFolder) -> None:
    photos = write_folder(tmp_path / "photos", range(40))
    (photos / "000/00000.jpg").write_bytes(b"")
    recorder = Recorder()
    build(BuildConfig((str(photos),), tmp_path / "memory", unit_rows=16, batch_size=8), encoder, recorder)
    stages = [call[1] for call in recorder.calls if call[0] == "stage"]
    assert stages == ["plan", "encode", "segments", "duplicates", "index", "publish"]
    assert recorder.calls.count(("start", 40)) == 1
    advances = [call[1:] for call in recorder.calls if call[0] == "advance"]
    assert [sum(column) for column in zip(*advances, strict=True)] == [40, 1]  # type: ignore[arg-type]
    assert recorder.calls[-1] == ("done",)
    log = (tmp_path / "memory/work/build-log.jsonl").read_text().splitlines()
    assert [json.loads(line)["rows"] for line in log] == [16, 16, 8]


def test_the_room_is_imported_without_torch() -> None:
    program = "import sys, memory_builder.readers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("options", [IndexOptions(max_bytes_per_pair=10), IndexOptions(factory="IVF4096,SQ8")])
def test_an_index_that_cannot_be_is_refused_before_anything_is_encoded(
    run: Run, tmp_path: Path, memory: Path, write_folder: WriteFolder, options: IndexOptions
) -> None:
    with pytest.raises(IndexOptionsInvalid):
        run(write_folder(tmp_path / "photos", range(6)), index=options)
    assert not list((memory / "work/units").iterdir())
