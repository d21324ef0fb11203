"""The tar reader against the standard library's own reading, and against damaged, hostile and odd tars."""

import gzip
import io
import pickle
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from memory_builder import CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.readers.archive import scan_members
from memory_builder.records import Record, Row


def info(name: str, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for name, data in members:
            archive.addfile(info(name, size=len(data)), io.BytesIO(data))
    return path


def samples(count: int) -> list[tuple[str, bytes]]:
    """Members of `count` pairs, of sizes around the block size."""
    members = []
    for number in range(count):
        members.append((f"{number:04d}.jpg", bytes([number % 256]) * (500 + number)))
        members.append((f"{number:04d}.txt", f"caption {number}".encode()))
    return members


def read_all(path: Path, unit_rows: int = 1000, **options: Any) -> list[Row]:
    reader = open_reader(path, ReaderOptions(**options))
    return [row for piece in list(reader.pieces(unit_rows)) for row in reader.read(piece)]


def told(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.key, row.caption if isinstance(row, Record) else f"!{row.code}") for row in rows]


def twin(path: Path) -> list[tuple[str, str, bytes]]:
    """All pairs of a plain tar, everything in memory at once."""
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    return [
        (f"{path.stem}/{name[:-4]}", files[f"{name[:-4]}.txt"].decode(), data)
        for name, data in files.items()
        if name.endswith(".jpg")
    ]


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("unit_rows", [1, 7, 50])
def test_equals_the_slow_twin(tmp_path: Path, tar_format: int, unit_rows: int) -> None:
    path = write_tar(tmp_path / "00000.tar", samples(50), format=tar_format)
    rows = read_all(path, unit_rows)
    assert [(r.key, r.caption, r.image()) for r in rows if isinstance(r, Record)] == twin(path)
    assert rows[3].source == "00000.tar/0003.jpg"


def test_pieces_cover_all_rows_once(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples(50))
    pieces = list(open_reader(path, ReaderOptions()).pieces(16))
    assert [piece.rows for piece in pieces] == [16, 16, 16, 2]
    assert len({piece.fingerprint for piece in pieces}) == 4


def refused(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        read_all(path)
    assert str(path) in caught.value.message
    return caught.value.code


def test_B01_tar_cut_inside_a_member(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples(20))
    path.write_bytes(path.read_bytes()[: 512 * 30 + 100])
    assert refused(path) == "source_truncated"


def test_B02_tar_cut_between_members(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", samples(20))
    cut = [member.begin for member in scan_members(path)][20]
    path.write_bytes(path.read_bytes()[:cut])
    with tarfile.open(path) as archive:  # what makes the check necessary
        assert len(archive.getnames()) == 20
    assert refused(path) == "source_truncated"


@pytest.mark.parametrize("block", [b"\0" * 512, b"garbage!" * 64])
def test_B03_corrupt_header_in_the_middle(tmp_path: Path, block: bytes) -> None:
    path = write_tar(tmp_path / "x.tar", samples(20))
    at = [member.begin for member in scan_members(path)][20]
    data = path.read_bytes()
    path.write_bytes(data[:at] + block + data[at + 512 :])
    assert refused(path) == "source_truncated"


def test_B01_B03_no_random_cut_or_zeroed_block_is_read_in_silence(tmp_path: Path) -> None:
    dice = random.Random(1)
    whole = write_tar(tmp_path / "whole.tar", samples(12), format=tarfile.PAX_FORMAT).read_bytes()
    members = list(scan_members(tmp_path / "whole.tar"))
    end = members[-1].offset + 512
    path = tmp_path / "x.tar"
    for _ in range(150):
        path.write_bytes(whole[: dice.randrange(end + 1024)])
        assert refused(path) == "source_truncated"
    for member in members:
        path.write_bytes(whole[: member.begin] + b"\0" * 512 + whole[member.begin + 512 :])
        assert refused(path) == "source_truncated"


def test_B03_flipped_bytes_give_the_rows_or_a_refusal_never_another_error(tmp_path: Path) -> None:
    dice = random.Random(2)
    long = [("d/" * 80 + "long.jpg", b"1"), ("d/" * 80 + "long.txt", b"2")]
    formats = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
    wholes = [write_tar(tmp_path / "w.tar", samples(3) + long, format=f).read_bytes() for f in formats]
    path = tmp_path / "x.tar"
    for turn in range(300):
        data = bytearray(wholes[turn % 2])
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(9000)] = dice.randrange(256)
        path.write_bytes(data)
        try:
            rows = read_all(path)
        except CorpusError as error:
            assert error.code == "source_truncated"
        else:
            assert len(rows) <= 8


@pytest.mark.parametrize("padding", [1024, 10_240, 3 << 20])
def test_any_number_of_zero_blocks_ends_an_archive(tmp_path: Path, padding: int) -> None:
    path = write_tar(tmp_path / "x.tar", samples(3))
    end = list(scan_members(path))[-1].offset + 512
    path.write_bytes(path.read_bytes()[:end] + bytes(padding))
    assert len(read_all(path)) == 3
    path.write_bytes(path.read_bytes() + b"x" * 512)  # a second archive behind it would be lost
    assert refused(path) == "source_truncated"


def test_empty_tars(tmp_path: Path) -> None:
    assert read_all(write_tar(tmp_path / "x.tar", [])) == []
    (tmp_path / "y.tar").write_bytes(b"")
    assert refused(tmp_path / "y.tar") == "source_truncated"


def test_B04_member_names_are_never_paths(tmp_path: Path) -> None:
    pairs = [(f"{stem}.{e}", b"x") for stem in ("../../etc/x", "/abs/y", "./z") for e in ("jpg", "txt")]
    rows = read_all(write_tar(tmp_path / "t.tar", pairs))
    assert told(rows) == [("t/../../etc/x", "x"), ("t//abs/y", "x"), ("t/z", "x")]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "t.tar"]


def test_B05_links_devices_and_sparse_members(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    with tarfile.open(path, "w") as archive:
        archive.addfile(info("folder.jpg", type=tarfile.DIRTYPE))
        for number, kind in enumerate(kinds):
            archive.addfile(info(f"{number}.jpg", type=kind, linkname="/etc/passwd"))
            archive.addfile(info(f"{number}.txt", size=1), io.BytesIO(b"x"))
        archive.addfile(info("9.jpg", size=1), io.BytesIO(b"x"))
        archive.addfile(info("9.txt", type=tarfile.SYMTYPE, linkname="9.jpg"))
        sparse = info("s.jpg", size=1, pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": "0,1"})
        archive.addfile(sparse, io.BytesIO(b"x"))
        archive.addfile(info("s.txt", size=1), io.BytesIO(b"x"))
    assert told(read_all(path)) == [(f"t/{stem}", "!member_type") for stem in "012349s"]


class Touch:
    """Pickled, it touches a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_B06_pickles_are_not_looked_at(tmp_path: Path) -> None:
    payload = pickle.dumps(Touch(tmp_path / "touched"))
    extensions = ("pkl", "pyd", "pth", "pickle", "pt", "npy")
    pairs = [(f"a.{extension}", payload) for extension in extensions] + [("a.jpg", b"1"), ("a.txt", b"2")]
    path = write_tar(tmp_path / "t.tar", pairs)
    reader = open_reader(path, ReaderOptions())
    rows = [row for piece in list(reader.pieces(10)) for row in reader.read(piece)]
    assert told(rows) == [("t/a", "2")]
    assert (reader.ignored, reader.example_ignored) == (6, "a.pkl")
    assert not (tmp_path / "touched").exists()


def test_B08_compressed_tars_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(gzip.compress(bytes(50 << 20)))
    assert refused(path) == "archive_compressed"


def test_B09_sizes_and_names_beyond_reason(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with path.open("wb") as file:
        file.write(info("a.jpg", size=10 << 30).tobuf(tarfile.GNU_FORMAT))
        file.seek(10 << 30, io.SEEK_CUR)
        for header in (info("a.txt", size=0), info("b.txt", size=30 << 20)):
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            file.seek(header.size, io.SEEK_CUR)
        file.write(info("b.jpg", size=0).tobuf(tarfile.GNU_FORMAT))
        file.truncate(file.tell() + 1024)
    first, second = read_all(path, max_image_bytes=1000)
    assert isinstance(first, Record)
    assert len(first.image()) == 1001
    assert told([second]) == [("t/b", "!text_too_long")]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [-512, -1024, -1536, -(1 << 40), 1 << 40])
def test_B09_sizes_that_lead_backwards_or_beyond(tmp_path: Path, kind: bytes, size: int) -> None:
    path = write_tar(tmp_path / "t.tar", samples(1))
    header = info("a.jpg", size=size, type=kind).tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(path.read_bytes()[:1024] + header + path.read_bytes())
    assert refused(path) == "source_truncated"


def test_B09_long_names(tmp_path: Path) -> None:
    name = "n" * 100_000
    path = write_tar(tmp_path / "t.tar", [(f"{name}.jpg", b"1"), (f"{name}.txt", b"2"), *samples(1)])
    assert [row for _, row in told(read_all(path))] == ["!key_invalid", "caption 0"]
    path = write_tar(tmp_path / "u.tar", [("n" * (2 << 20) + ".jpg", b"1")])
    assert refused(path) == "source_truncated"


def test_B10_image_or_caption_alone(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [("a.jpg", b"1"), ("b.txt", b"2"), ("c.jpg", b"3"), ("c.txt", b"4")])
    assert told(read_all(path)) == [("t/a", "!missing_caption"), ("t/b", "!missing_image"), ("t/c", "4")]


def test_B11_a_key_that_comes_twice_is_two_rows(tmp_path: Path) -> None:
    pairs = [("a.jpg", b"1"), ("a.txt", b"first"), ("a.jpg", b"2"), ("a.txt", b"second"), ("b.jpg", b"3")]
    pairs += [("b.png", b"4"), ("b.txt", b"b"), ("a.jpg", b"5"), ("a.txt", b"third")]
    rows = read_all(write_tar(tmp_path / "t.tar", pairs))
    assert told(rows) == [("t/a", "first"), ("t/a", "second"), ("t/b", "b"), ("t/a", "third")]
    assert [row.image() for row in rows if isinstance(row, Record)] == [b"1", b"2", b"3", b"5"]


def test_B12_names(tmp_path: Path) -> None:
    names = ["a.b/c.d.jpg", "a.b/c.jpg", "a.b/c.txt", "noext", ".jpg", "x/._e.jpg", "f.JPG", "f.TXT"]
    reader = open_reader(write_tar(tmp_path / "t.tar", [(n, b"x") for n in names]), ReaderOptions())
    rows = [row for piece in list(reader.pieces(10)) for row in reader.read(piece)]
    assert told(rows) == [("t/a.b/c", "x"), ("t/f", "x")]
    assert reader.ignored == 4


def test_B12_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, errors="surrogateescape") as archive:
        for extension in ("jpg", "txt"):
            archive.addfile(info(f"\udcff\udc80.{extension}", size=1), io.BytesIO(b"x"))
    assert told(read_all(path)) == [("t/\\xff\\x80", "x")]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"txt": b"plain", "caption": b"no", "json": b"no"}, "plain"),
        ({"caption": b"second", "json": b"{}"}, "second"),
        ({"json": b'{"caption": " from json "}'}, "from json"),
        ({"json": b'{"caption": 5}'}, "!caption_invalid"),
        ({"json": b'{"text": "x"}'}, "!missing_caption"),
        ({"json": b"[1]"}, "!missing_caption"),
        ({"json": b"{"}, "!caption_invalid"),
        ({"json": b'{"a":' * 50_000}, "!caption_invalid"),
        ({"json": b" " * (2 << 20)}, "!text_too_long"),
        ({"json": b'{"caption": "\\ud800"}'}, "\ud800"),
    ],
)
def test_B13_where_captions_come_from(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    members = [("a.jpg", b"x"), *((f"a.{extension}", data) for extension, data in files.items())]
    assert told(read_all(write_tar(tmp_path / "t.tar", members))) == [("t/a", expected)]


def test_X10_a_tar_that_changes_after_the_plan(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", samples(5))
    reader = open_reader(path, ReaderOptions())
    pieces = list(reader.pieces(2))
    rows = list(reader.read(pieces[0]))
    write_tar(path, samples(6))
    with pytest.raises(CorpusError, match="changed"):
        list(reader.read(pieces[1]))
    with pytest.raises(CorpusError, match="changed"):
        rows[0].image()  # type: ignore[union-attr]
    path.unlink()
    with pytest.raises(CorpusError, match="changed"):
        rows[1].image()  # type: ignore[union-attr]
