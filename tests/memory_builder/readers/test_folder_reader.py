"""The folder reader against a slow, obvious reading of the same folder, and against what folders can hold."""

import os
from pathlib import Path

import pytest

from memory_builder import BuildConfig, ConfigError, CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.readers.folder import FolderReader
from memory_builder.readers.reader import Reader
from memory_builder.records import Record, Row

PNG = b"not decoded here"


def open_folder(root: Path) -> Reader:
    return open_reader(root, ReaderOptions(max_image_bytes=100))


def read_all(reader: Reader, unit_rows: int = 1000) -> list[Row]:
    return [row for piece in list(reader.pieces(unit_rows)) for row in reader.read(piece)]


def told(rows: list[Row]) -> dict[str, str]:
    return {row.key: row.caption if isinstance(row, Record) else f"!{row.code}" for row in rows}


def put(root: Path, **files: bytes) -> None:
    for name, data in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    put(root, a_jpg=b"A", a_txt=b"first\n", b__c_PNG=b"C", b__c_caption=b" second ", b__d__e_webp=b"E")
    put(root, b__d__e_txt="dritte, größere\n".encode(), f_v2_jpg=b"F", f_v2_txt=b"fourth")
    return root


def twin(root: Path) -> dict[str, str]:
    """The same folder, read in the plainest way."""
    pairs = {}
    for path in sorted(root.rglob("*")):
        caption = next((path.with_suffix(s) for s in (".txt", ".caption") if path.with_suffix(s).is_file()), None)
        if path.suffix.lower() in (".jpg", ".png", ".webp") and caption:
            pairs[f"{root.name}/{path.relative_to(root).with_suffix('')}"] = caption.read_text().strip()
    return pairs


def test_equals_the_slow_twin(photos: Path) -> None:
    rows = read_all(open_folder(photos))
    assert told(rows) == twin(photos)
    assert [row.image() for row in rows if isinstance(row, Record)] == [b"A", b"F", b"C", b"E"]
    assert [row.source for row in rows] == [f"photos/{n}" for n in ("a.jpg", "f.v2.jpg", "b/c.PNG", "b/d/e.webp")]


@pytest.mark.parametrize("unit_rows", [1, 2, 3, 4, 5])
def test_pieces_do_not_change_rows_or_their_order(photos: Path, unit_rows: int) -> None:
    reader = open_folder(photos)
    pieces = list(reader.pieces(unit_rows))
    assert [piece.rows for piece in pieces] == [min(unit_rows, 4 - start) for start in range(0, 4, unit_rows)]
    assert list(told(read_all(reader, unit_rows))) == list(told(read_all(reader, 1000)))


def test_fingerprint_follows_names_sizes_and_times_of_its_own_range(photos: Path) -> None:
    def prints() -> list[str]:
        return [piece.fingerprint for piece in open_folder(photos).pieces(1)]

    before = prints()
    assert prints() == before
    (photos / "b/c.caption").write_bytes(b"longer than before")
    os.utime(photos / "b/d/e.webp", ns=(1, 1))
    after = prints()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, False]


def test_B10_image_or_caption_alone(tmp_path: Path) -> None:
    put(tmp_path / "x", a_jpg=PNG, b_txt=b"text", c_jpg=PNG, c_txt=b"both")
    assert told(read_all(open_folder(tmp_path / "x"))) == {
        "x/a": "!missing_caption",
        "x/b": "!missing_image",
        "x/c": "both",
    }


def test_B11_two_images_of_one_name(tmp_path: Path) -> None:
    put(tmp_path / "x", a_jpg=b"1", a_png=b"2", a_txt=b"text", a_caption=b"second choice")
    first, second = read_all(open_folder(tmp_path / "x"))
    assert isinstance(first, Record)
    assert (first.key, first.caption, first.image()) == ("x/a", "text", b"1")
    assert told([second]) == {"x/a": "!duplicate_key"}


def test_captions_named_after_the_whole_name_of_an_image_are_told_how_they_pair(tmp_path: Path) -> None:
    put(tmp_path / "x", a_jpg=PNG, a_png=PNG)
    (tmp_path / "x" / "a.jpg.txt").write_text("a caption")
    assert "Put one beside each (a.jpg with a.txt)" in FolderReader(tmp_path / "x", "x", ReaderOptions()).advice()
    put(tmp_path / "x", a_txt=b"a caption")
    assert FolderReader(tmp_path / "x", "x", ReaderOptions()).advice() == ""


def test_B12_names(tmp_path: Path) -> None:
    put(tmp_path / "x", a=b"", notes_md=b"", b_JPG=b"", b_TXT=b"upper")
    put(tmp_path / "x", **{".jpg": b"", ".hidden_jpg": b""})
    (tmp_path / "x" / ".git").mkdir()
    reader = open_folder(tmp_path / "x")
    assert told(read_all(reader)) == {"x/b": "upper"}
    assert reader.ignored == 4  # `a`, notes.md and the two hidden files; a hidden folder is not looked into


def test_a_folder_of_hidden_images_only_says_so(tmp_path: Path) -> None:
    for name in ("._a.jpg", "._a.txt"):  # what macOS keeps beside a.jpg on the disks of others
        (tmp_path / name).write_bytes(PNG)
    with pytest.raises(CorpusError, match=r"2 of hidden names, such as \._a\.(jpg|txt)"):
        read_all(open_folder(tmp_path))


def test_B13_captions_that_are_no_plain_utf8(tmp_path: Path) -> None:
    root = tmp_path / "x"
    put(root, a_jpg=PNG, a_txt="\ufeffwith mark".encode(), b_jpg=PNG, b_txt=b"\xff\xfe", c_jpg=PNG, c_txt=b"")
    put(root, d_jpg=PNG, d_txt=b"x" * 10_000_000, e_jpg=PNG, e_txt=b"nul \0 inside")
    # What is a fault of the text is left to the check of all texts: here it only has to arrive there.
    assert told(read_all(open_folder(root))) == {
        "x/a": "with mark",
        "x/b": "\udcff\udcfe",
        "x/c": "",
        "x/d": "!text_too_long",
        "x/e": "nul \0 inside",
    }


def test_B18_links_loops_and_fifos(photos: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    (photos / "loop").symlink_to(photos)
    (photos / "out").symlink_to(tmp_path)
    (photos / "ring").symlink_to("ring")  # leads to itself
    (photos / "link.jpg").symlink_to(secret)
    (photos / "link.txt").write_text("out of the folder")
    os.mkfifo(photos / "fifo.jpg")
    (photos / "folder.jpg").mkdir()
    irregular = {f"photos/{name}": "!member_type" for name in ("link", "fifo")}
    irregular |= {f"photos/{name}": "!linked_folder" for name in ("loop", "out")}
    rows = read_all(open_folder(photos))
    assert told(rows) == twin(photos) | irregular, "what lies behind a link to a folder is left out, and told"
    assert len(rows) == 4 + 4


def test_B18_a_link_to_a_folder_moves_no_pair_into_another_unit(photos: Path, tmp_path: Path) -> None:
    before = [piece.fingerprint for piece in open_folder(photos).pieces(2)]
    (photos / "a_link").symlink_to(tmp_path)
    assert [piece.fingerprint for piece in open_folder(photos).pieces(2)][:-1] == before


def test_B18_names_that_are_not_utf8_and_case_twins(tmp_path: Path) -> None:
    root = tmp_path / "x"
    put(root, A_jpg=b"1", A_txt=b"upper", a_jpg=b"2", a_txt=b"lower")
    for extension, data in ((b".jpg", b"3"), (b".txt", b"odd")):
        Path(os.fsdecode(os.fsencode(root) + b"/\xff" + extension)).write_bytes(data)
    rows = read_all(open_folder(root))
    assert told(rows) == {"x/A": "upper", "x/a": "lower", "x/\\xff": "odd"}
    assert [row.image() for row in rows if isinstance(row, Record)] == [b"1", b"2", b"3"]
    for row in rows:
        (row.key + row.source).encode()


@pytest.mark.parametrize("replace", ["gone", "link", "fifo", "folder"])
def test_B18_a_file_that_is_another_by_the_time_it_is_read(photos: Path, replace: str) -> None:
    reader = open_folder(photos)
    pieces = list(reader.pieces(10))
    (photos / "a.txt").unlink()
    match replace:
        case "link":
            (photos / "a.txt").symlink_to("f.v2.txt")
        case "fifo":
            os.mkfifo(photos / "a.txt")
        case "folder":
            (photos / "a.txt").mkdir()
    rows = told([row for piece in pieces for row in reader.read(piece)])
    assert len(rows) == pieces[0].rows == 4
    assert rows["photos/a"] == ("!source_changed" if replace == "gone" else "!member_type")


def test_B09_no_more_than_one_byte_beyond_the_limit_is_read(tmp_path: Path) -> None:
    put(tmp_path / "x", a_txt=b"huge")
    with (tmp_path / "x" / "a.jpg").open("wb") as file:
        file.truncate(10 << 30)
    (row,) = read_all(open_folder(tmp_path / "x"))
    assert isinstance(row, Record)
    assert len(row.image()) == 101


def test_deep_folders_need_no_deep_stack(tmp_path: Path) -> None:
    # Made step by step: the whole path is longer than the system takes in one call only far beyond this depth.
    folder = tmp_path / "x"
    for _ in range(400):
        folder /= "d"
    put(folder, a_jpg=b"1", a_txt=b"deep")
    assert list(told(read_all(open_folder(tmp_path / "x"))).values()) == ["deep"]


def test_a_folder_of_tars_is_told_how_to_be_given(tmp_path: Path) -> None:
    put(tmp_path / "shards", **{"000_tar": b""})
    with pytest.raises(CorpusError, match=r"reco build \S+/shards/000\.tar -o") as caught:
        read_all(open_folder(tmp_path / "shards"))
    assert caught.value.code == "source_empty"


def test_captions_from_the_folders_names(photos: Path) -> None:
    put(photos, g_jpg=b"G", b__h_jpg=b"H", b__d__i_jpg=b"I")
    reader = open_reader(photos, ReaderOptions(folder_templates=("a {} of ours",)))
    made = {"photos/g": "a photos of ours", "photos/b/h": "a b of ours", "photos/b/d/i": "a d of ours"}
    assert told(read_all(reader)) == {**twin(photos), **made}, "a caption that is there is kept"
    assert reader.options() == {"caption_from_folder": "a {} of ours"}


def test_templates_take_turns_by_the_pairs_keys(photos: Path) -> None:
    put(photos, **{f"mug__{number}_jpg": b"M" for number in range(0, 90, 3)}, mug__own_jpg=b"O", mug__own_txt=b"mine")
    reader = open_reader(photos, ReaderOptions(folder_templates=("a {}", "the {}", "our {}")))
    made = {key: caption for key, caption in told(read_all(reader)).items() if key.startswith("photos/mug/")}
    assert made.pop("photos/mug/own") == "mine"
    assert set(made.values()) == {"a mug", "the mug", "our mug"}
    assert reader.options() == {"caption_from_folders": '["a {}", "the {}", "our {}"]'}
    (photos / "mug/0.jpg").unlink()
    put(photos, mug__100_jpg=b"N")
    again = told(read_all(reader))
    assert made.pop("photos/mug/0") and again.pop("photos/mug/100")
    assert {key: again[key] for key in made} == made, "a pair keeps its caption, whatever else is in the folder"


@pytest.mark.parametrize("template", ["a photo", "a {} of a {}", "a {name}"])
def test_a_template_has_one_place_for_the_name(tmp_path: Path, template: str) -> None:
    with pytest.raises(ConfigError, match=r"write \{\} once, where the folder's name goes, like 'a photo of a \{\}\.'"):
        BuildConfig((str(tmp_path),), tmp_path / "memory", folder_templates=(template,))


def test_files_that_are_named_themselves_are_told_where_they_lie(tmp_path: Path) -> None:
    put(tmp_path / "hf", README_md=b"", **{"data__train-0_parquet": b"", "data__train-1_parquet": b""})
    with pytest.raises(CorpusError) as told:
        read_all(open_folder(tmp_path / "hf"))
    assert f"reco build '{tmp_path}/hf/data/*.parquet' -o MEMORY." in told.value.message
    put(tmp_path / "one", README_md=b"", a__b_csv=b"")
    with pytest.raises(CorpusError, match=f"reco build {tmp_path}/one/a/b.csv -o MEMORY"):
        read_all(open_folder(tmp_path / "one"))
