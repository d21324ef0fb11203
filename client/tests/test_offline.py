"""Requests and answers without a connection: how streams are cut, images read, and batches joined."""

import ast
import inspect
import io
import os
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin, get_overloads, get_type_hints

import numpy as np
import pytest

import reco_client
from reco_client import (
    AsyncClient,
    Classification,
    Classifications,
    Client,
    Degraded,
    Embeddings,
    ItemError,
    LabelScore,
    Scores,
    SpaceChanged,
)
from reco_client.answers import join_classifications, join_embeddings
from reco_client.batches import Cutter, cut
from reco_client.images import image_size, read_image
from reco_client.settings import http_arguments
from reco_client.streams import listed

PACKAGE = Path(reco_client.__file__).parent
both_kinds = pytest.mark.parametrize("kind", [Client, AsyncClient])


def test_batches_keep_the_order_and_count_from_the_first() -> None:
    batches = list(cut(map(str, range(7)), Cutter(3)))
    assert [(batch.first, list(batch.inputs)) for batch in batches] == [
        (0, ["0", "1", "2"]),
        (3, ["3", "4", "5"]),
        (6, ["6"]),
    ]
    assert list(cut([], Cutter(3))) == []
    with pytest.raises(ValueError, match="at least one"):
        Cutter(0)


def test_a_whole_batch_does_not_wait_for_the_next_input() -> None:
    taken = []
    batches = cut((taken.append(number) or number for number in range(9)), Cutter(3))  # type: ignore[func-returns-value]
    assert (next(batches).inputs, taken) == ([0, 1, 2], [0, 1, 2])


def test_batches_of_images_are_cut_by_bytes_too(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(80))
    images: list[Any] = [bytes(40), bytes(40), path, bytes(300), bytes(1), tmp_path / "missing"]
    batches = list(cut(images, Cutter(10, 100)))
    assert [(batch.first, len(batch.inputs)) for batch in batches] == [(0, 2), (2, 1), (3, 1), (4, 2)]


def test_open_files_are_weighed_by_what_is_left_of_them(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(80))
    part = io.BytesIO(bytes(300))
    part.seek(280)
    reading, writing = map(os.fdopen, os.pipe(), ("rb", "wb"))
    with reading, writing, path.open("rb") as file:
        batches = list(cut([file, part, part, reading], Cutter(10, 100)))
        assert [(batch.first, len(batch.inputs)) for batch in batches] == [(0, 2), (2, 2)]
        assert (file.tell(), part.tell()) == (0, 280)


def test_an_image_is_a_path_bytes_or_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"image")
    for source in (path, str(path), b"image", bytearray(b"image"), memoryview(b"image"), io.BytesIO(b"image")):
        assert read_image(source) == b"image"
    with pytest.raises(FileNotFoundError):
        read_image("nowhere.png")
    for wrong in (np.zeros(3), 5, None, io.StringIO("text")):
        with pytest.raises(TypeError, match="save an array or a PIL image"):
            read_image(wrong)  # type: ignore[arg-type]


def test_an_entry_of_a_folder_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "größe 鳥.png").write_bytes(b"image")
    with os.scandir(tmp_path) as entries:
        one = next(entries)
    assert (read_image(one), image_size(one)) == (b"image", 5)


@pytest.mark.parametrize("wrong", [None, 5, object()])
def test_what_is_neither_an_image_nor_many_is_told_what_an_image_is(wrong: Any) -> None:
    with Client("http://127.0.0.1:9", api_key="") as client:  # a PIL image is such an object
        with pytest.raises(TypeError, match=f"not {type(wrong).__name__}; save an array or a PIL image"):
            client.embed_images(wrong)
        with pytest.raises(TypeError, match="save an array or a PIL image"):
            client.classify(wrong, labels=["wren"])


def test_what_has_places_is_taken_for_many() -> None:
    class Photos:  # as a data set of torch's has it
        def __getitem__(self, place: int) -> bytes:
            return [b"one", b"two"][place]

    assert list(listed(Photos())) == [b"one", b"two"]


@pytest.mark.parametrize("wrong", [b"a wren", float("nan"), None])
def test_a_text_that_is_no_string_is_told_by_its_place(wrong: Any) -> None:
    with (
        Client("http://127.0.0.1:9", api_key="", texts_per_request=2, in_flight=1) as client,
        pytest.raises(TypeError, match=f"a text is a string, not {type(wrong).__name__}: input 1"),
    ):
        client.embed_texts(["a wren", wrong])


def test_an_image_tells_its_best_label_and_how_likely_that_is() -> None:
    assert Classification(0, Scores("wren", 1, top=[LabelScore("wren", 1, 0.75, 0.3)])).probability == 0.75
    assert Classification(0, error=ItemError(0, "c", "d")).probability is None


@both_kinds
def test_a_type_checker_knows_that_a_stream_can_be_closed(kind: Any) -> None:
    wanted = Generator if kind is Client else AsyncGenerator
    for name in ("stream_texts", "stream_images", "stream_classify"):
        hint = inspect.signature(getattr(kind, name)).return_annotation
        assert get_origin(hint) is wanted, name


def test_a_type_checker_knows_what_is_at_a_place_of_classifications() -> None:
    hints = [get_type_hints(one)["return"] for one in get_overloads(Classifications.__getitem__)]
    assert hints == [Classification, Sequence[Classification]]


def test_embeddings_are_shown_by_what_they_are_and_not_by_their_numbers() -> None:
    assert repr(part("s", 2)) == "<Embeddings 2 x 4, model='m', space='s', memory_version=1>"
    bad = replace(part("s", 2), neighbours=[[]], errors={0: ItemError(0, "c", "d")})
    assert repr(bad).endswith("memory_version=1, neighbours, errors=1>")


def test_a_string_is_no_list_of_labels() -> None:
    with Client("http://127.0.0.1:9", api_key="") as client:
        for wrong in ({"labels": "wren"}, {"label_set": "birds", "templates": "a photo of a {}."}):
            with pytest.raises(TypeError, match="list of strings, not one string"):
                client.classify(b"x", **wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="labels are a list of strings"):
            client.put_label_set("birds", "wren")


def test_a_misspelt_option_is_named() -> None:
    with Client("http://127.0.0.1:9", api_key="") as client:
        with pytest.raises(TypeError, match="no option 'neighbours' here; there are enhance, k, "):
            client.embed_texts("a", neighbours=True)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="no option 'label'"):
            client.classify(b"x", label=["a"])  # type: ignore[call-arg]


def test_no_image_is_no_pair() -> None:
    with Client("http://127.0.0.1:9", api_key="") as client, pytest.raises(ValueError, match="no image to add"):
        client.add_pairs([], name="puffin")


@pytest.mark.parametrize("url", ["127.0.0.1:8611", "localhost:8611", "reco.example"])
def test_an_address_without_a_scheme_is_one_of_http(url: str) -> None:
    assert str(http_arguments(url, "", 1.0, 1)["base_url"]) == f"http://{url}"


def test_a_folder_is_no_image_and_the_error_says_so(tmp_path: Path) -> None:
    with (
        Client("http://127.0.0.1:9", api_key="") as client,
        pytest.raises(IsADirectoryError, match="a folder is no image: give its files"),
    ):
        client.embed_images(tmp_path)


@pytest.mark.parametrize("url", ["localhost:x", "ftp://host", "http://", "http://host:port", "//host"])
def test_what_is_no_address_is_told_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of a service: one is like http://127\.0\.0\.1:8000"):
        Client(url)


@pytest.mark.parametrize("key", ["reco_se\ncret", "reco_se cret", "reco_sécret"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="the API key holds") as refused:
        Client("http://127.0.0.1:9", api_key=key)
    assert "cret" not in str(refused.value)


@both_kinds
@pytest.mark.parametrize("seconds", [0, 0.0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["timeout_s", "deadline_s"])
def test_no_time_to_wait_is_refused_and_not_told_as_a_service_that_is_away(
    kind: Any, name: str, seconds: float
) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number of seconds above 0, not "):
        kind("http://127.0.0.1:9", **{name: seconds})


@both_kinds
def test_a_time_that_is_no_number_is_told(kind: Any) -> None:
    for wrong in (None, "5"):
        with pytest.raises(TypeError, match="timeout_s is a number of seconds, not "):
            kind("http://127.0.0.1:9", timeout_s=wrong)


@both_kinds
@pytest.mark.parametrize("name", ["texts_per_request", "images_per_request", "bytes_per_request"])
def test_a_request_of_nothing_is_refused_before_the_first_call(kind: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* at least 1"):
        kind("http://127.0.0.1:9", **{name: 0})


def part(space: str, rows: int, width: int = 4, *, degraded: bool = False) -> Embeddings:
    return Embeddings(np.ones((rows, width), dtype=np.float32), space, 1, "m", degraded=degraded)


def test_batches_are_joined_in_order_and_only_within_one_space() -> None:
    # Of a batch with another width nothing could be embedded.
    joined = join_embeddings([part("s", 2), part("", 1, 0), part("s", 3), part("s", 1, 0)])
    assert (joined.vectors.shape, joined.space) == ((7, 4), "s")
    assert np.isnan(joined.vectors).any(axis=1).tolist() == [False, False, True, False, False, False, True]
    with pytest.raises(SpaceChanged, match="call again"):
        join_embeddings([part("s", 2), part("t", 2)])


def test_a_memory_that_was_away_is_told_from_a_fusion_that_changed() -> None:
    with pytest.raises(SpaceChanged) as changed:
        join_embeddings([part("s", 2), part("t", 2)])
    assert not isinstance(changed.value, Degraded)
    with pytest.raises(Degraded, match="without its memory"):
        join_embeddings([part("s", 2), part("plain", 2, degraded=True)])
    assert join_embeddings([part("plain", 2, degraded=True), part("", 1, 0)]).degraded
    assert not join_embeddings([part("s", 2)]).degraded


def test_nothing_asked_is_nothing_answered() -> None:
    assert len(join_embeddings([])) == 0
    assert len(join_classifications([])) == 0


def test_embeddings_are_an_array_to_numpy() -> None:
    found = part("s", 3)
    assert np.asarray(found) is found.vectors
    assert np.asarray(found, dtype=np.float64).dtype == np.float64
    assert (found.vectors @ np.asarray(found).T).shape == (len(found), 3)


def test_the_version_is_said_once_more_in_the_project() -> None:
    project = PACKAGE.parent / "pyproject.toml"
    assert f'version = "{reco_client.__version__}"' in project.read_text()
    assert (PACKAGE / "py.typed").exists()


def test_it_needs_httpx_and_numpy_and_nothing_else() -> None:
    needed = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                needed |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                needed.add((node.module or "").split(".")[0])
    assert needed - sys.stdlib_module_names == {"httpx", "numpy", "reco_client"}
