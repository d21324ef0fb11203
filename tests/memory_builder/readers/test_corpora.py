"""What the user may write as CORPUS: existing names, globs, braces, lists, and nothing that is not a local path."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_builder import CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.readers.corpora import check_there, corpus_name, expand


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in (0, 1, 2, 10):
        (tmp_path / f"{number:03d}.tar").touch()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.tar", ["000.tar", "001.tar", "002.tar", "010.tar"]),
        ("00?.tar", ["000.tar", "001.tar", "002.tar"]),
        ("{000..002}.tar", ["000.tar", "001.tar", "002.tar"]),
        ("{010,000}.tar", ["010.tar", "000.tar"]),
        ("0{0,1}{0..0}.tar", ["000.tar", "010.tar"]),
        ("001.tar", ["001.tar"]),
        ("**/01*.tar", ["010.tar"]),
    ],
)
def test_patterns(shards: Path, pattern: str, expected: list[str]) -> None:
    assert names(expand([str(shards / pattern)])) == expected


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    odd = tmp_path / "a{1..3}[x]*"
    odd.mkdir()
    assert expand([str(odd)]) == [odd]


def test_a_look_ahead_refuses_names_of_nothing_and_stops_at_the_first_match(shards: Path, monkeypatch) -> None:
    looked: list[str] = []

    def names(pattern: str, **_: object) -> Iterator[str]:
        for number in range(3):
            looked.append(pattern)
            yield f"{number}.tar"

    check_there([str(shards / "0*.tar"), str(shards / "00{1,2}.tar"), "not-read.txt", "s3://bucket/not-asked"])
    for argument in (f"{shards}/4*.tar", f"{shards}/00{{1..3}}.tar", "pipe:cat x.tar", ""):
        with pytest.raises(CorpusError) as ahead:
            check_there([argument])
        with pytest.raises(CorpusError) as later:
            expand([argument])
        assert (ahead.value.code, str(ahead.value)) == (later.value.code, str(later.value))
    monkeypatch.setattr(glob, "iglob", names)
    check_there(["*.tar"])
    assert looked == ["*.tar"]


def test_a_list_names_corpora_beside_itself(shards: Path) -> None:
    (shards / "list.txt").write_text("# first\n{001..002}.tar\n\n000.tar\n")
    assert names(expand([str(shards / "list.txt")])) == ["001.tar", "002.tar", "000.tar"]
    (shards / "list.txt").write_bytes(b"\xef\xbb\xbf000.tar\r\n001.tar\r\n")  # as Notepad writes it
    assert names(expand([str(shards / "list.txt")])) == ["000.tar", "001.tar"]


def test_one_corpus_named_twice_is_read_once(shards: Path) -> None:
    (shards / "link.tar").symlink_to("000.tar")
    arguments = [str(shards / name) for name in ("000.tar", "0*.tar", "link.tar")]
    assert names(expand(arguments)) == ["000.tar", "001.tar", "002.tar", "010.tar"]


@pytest.mark.parametrize("name", ["pipe:cat x.tar", "http://host/x.tar", "https://host/x", "s3://b/x", "file:/x"])
def test_B07_only_local_paths(name: str) -> None:
    with pytest.raises(CorpusError) as caught:
        expand([name])
    assert caught.value.code == "corpus_scheme_refused"


def test_B07_pipe_runs_no_shell(tmp_path: Path) -> None:
    list_file = tmp_path / "list.txt"
    list_file.write_text(f"pipe:touch {tmp_path}/touched\n")
    with pytest.raises(CorpusError):
        expand([str(list_file)])
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nowhere", "corpus_not_found"),
        ("no*.tar", "corpus_not_found"),
        ("{000..003}.tar", "corpus_not_found"),  # 003 is missing: a hole in a range is no detail
        ("x" * 5000, "corpus_not_found"),
        ("{5..1}.tar", "corpus_pattern_invalid"),
        ("{0..99999999999}.tar", "corpus_pattern_invalid"),
        ("{0..999}{0..999}{0..999}.tar", "corpus_pattern_invalid"),
        ("a\0b", "corpus_pattern_invalid"),
        ("", "corpus_pattern_invalid"),
    ],
)
def test_names_that_lead_nowhere(shards: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    monkeypatch.chdir(shards)
    with pytest.raises(CorpusError) as caught:
        expand([name])
    assert caught.value.code == code


def test_corpus_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos.v2").mkdir()
    (tmp_path / "00000.tar").touch()
    assert corpus_name(tmp_path / "photos.v2") == "photos.v2"
    assert corpus_name(tmp_path / "photos.v2" / ".." / "00000.tar") == "00000"
    monkeypatch.chdir(tmp_path / "photos.v2")
    assert corpus_name(Path()) == "photos.v2"


def test_a_name_that_is_no_utf8_is_told_as_names_inside_a_corpus_are(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    assert corpus_name(folder) == r"caf\xe9" and corpus_name(folder.with_name(folder.name + ".tar")) == r"caf\xe9"


def test_a_file_whose_name_looks_like_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run:2.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert expand(["run:2.csv"]) == [Path("run:2.csv")]
    with pytest.raises(CorpusError, match="not a path"):
        expand(["run:3.csv"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x.npz", "--embeddings"),
        ("x.tar.gz", "Decompress"),
        ("x.zip", "Unpack"),
        ("x.json", ".jsonl"),
        ("x.jpg", ".jpg"),
        ("x", "without extension"),
    ],
)
def test_other_formats_are_refused_with_what_is_read(tmp_path: Path, name: str, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"something")
    with pytest.raises(CorpusError, match=told) as caught:
        open_reader(path, ReaderOptions())
    assert caught.value.code == "corpus_format_unknown"
    assert "a folder of images" in caught.value.message
    assert ".tar files" in caught.value.message
