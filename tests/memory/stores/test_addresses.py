"""Which addresses are read: none by itself, and none that carries a secret. Nothing here asks a store."""

from pathlib import Path

import pytest

from memory import RemoteMemories, StoreRefused, is_address, local_copy
from memory.stores import check_address, named_schemes


@pytest.mark.parametrize("text", ["s3://bucket/key", "gs://b/k", "http://host/x", "file:///etc"])
def test_an_address_is_told_from_a_path(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", ["memory", "/data/memory", "./s3", "C:/memory", "s3:/bucket"])
def test_a_path_is_no_address(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    ("address", "allowed", "told"),
    [
        ("s3://bucket/key", (), "--allow-remote s3"),
        ("s3://bucket/key", ("gs",), "--allow-remote s3"),
        ("http://169.254.169.254/latest/meta-data", ("http", "s3"), "no address of an object store"),
        ("file:///etc/passwd", ("file",), "no address of an object store"),
        ("s3://user:secret@bucket/key", ("s3",), "environment"),
        ("s3://bucket", ("s3",), "names no object"),
        ("s3:///key", ("s3",), "names no object"),
        ("s3://bucket/a/../../other", ("s3",), "names no object"),
    ],
)  # fmt: skip
def test_B07_what_is_not_allowed_is_refused(address: str, allowed: tuple[str, ...], told: str) -> None:
    with pytest.raises(StoreRefused, match=told) as caught:
        check_address(address, allowed)
    assert "secret" not in str(caught.value)


def test_an_address_is_taken_without_slashes_at_its_end() -> None:
    azure = "abfs://container@account.dfs.core.windows.net/birds"
    assert check_address("s3://bucket/birds//", ("s3",)) == "s3://bucket/birds"
    assert check_address(azure, ("abfs",)) == azure


def test_schemes_are_named_each_or_together() -> None:
    assert named_schemes("s3, gs", "hf,az abfs") == ("s3", "gs", "hf", "az", "abfs")
    assert named_schemes() == named_schemes("") == ()


def test_an_unknown_scheme_cannot_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="'http' cannot be allowed"):
        RemoteMemories(("http",), tmp_path).fetch("http://host/memory")


def test_without_the_option_no_memory_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="--allow-remote s3"):
        local_copy("s3://bucket/memory")
    assert local_copy(tmp_path) == tmp_path
