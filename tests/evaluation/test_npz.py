"""Files of arrays: what is read, and every way in which one is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from evaluation.errors import EvaluationError
from evaluation.npz import read_arrays


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small whole file."""
    np.savez_compressed(tmp_path / "a.npz", image=np.random.default_rng(0).standard_normal((40, 8)), label=np.arange(3))
    return tmp_path / "a.npz"


def flagged(data: bytes, mark: bytes, offset: int, value: int) -> bytes:
    """An archive with a byte of every header of one kind changed."""
    changed, place = bytearray(data), data.find(mark)
    while place >= 0:
        changed[place + offset] = value
        place = data.find(mark, place + 1)
    return bytes(changed)


def test_the_arrays_that_are_asked_for_and_the_names_of_all(file: Path) -> None:
    arrays, every = read_arrays(file, ("label", "text"), "task_invalid")
    assert list(arrays) == ["label"]
    assert arrays["label"].tolist() == [0, 1, 2]
    assert every == ["image", "label"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"no archive", "not a whole .npz"),
        (lambda data: b"", "not a whole .npz"),
        (lambda data: data[:300], "not a whole .npz"),
        (lambda data: data[:100] + bytes(200) + data[300:], "not a whole .npz"),
        (lambda data: flagged(flagged(data, b"PK\x01\x02", 8, 1), b"PK\x03\x04", 6, 1), "not a whole .npz"),
        (lambda data: flagged(data, b"PK\x01\x02", 10, 9), "not a whole .npz"),
    ],
    ids=["text", "empty", "cut", "damaged", "encrypted", "unknown compression"],
)
def test_a_damaged_file_is_refused(file: Path, damage, words: str) -> None:
    file.write_bytes(damage(file.read_bytes()))
    refused(file, words)


def test_what_only_looks_like_arrays_is_refused(file: Path) -> None:
    refused(file.with_name("absent.npz"), "no such file")
    with file.open("wb") as stream:
        np.save(stream, np.eye(3))
    refused(file, "not a whole .npz")
    np.savez(file, image=np.array([{}], dtype=object))
    refused(file, "pickles are never loaded")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image", b"no array")
    refused(file, "`image` is no array")
    with zipfile.ZipFile(file, "w") as archive, archive.open("image.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)}
        )
    refused(file, "larger than this machine's memory")


def refused(file: Path, words: str) -> None:
    with pytest.raises(EvaluationError) as told:
        read_arrays(file, ("image",), "task_invalid")
    assert told.value.code == "task_invalid"
    assert words in told.value.message
