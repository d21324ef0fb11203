"""The page at `/`: offline, small, under a strict policy; its thumbnails and samples give away nothing else."""

import json
import os
import re
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pytest

from memory import ITEMS_SCHEMA, Contents, Memory, Rows, UnitRecord, build_index, publish, write_segment
from models.encoder import Encoder
from models.images.thumbnails import make_thumbnail
from service.memory_items.items import find_item, sample_items
from service.page import pictures as picture_files
from service.page.files import page_files
from service.page.samples import MAX_SAMPLES, Samples
from service.pipeline.engine import Engine
from service.settings import SettingsError

PAGE = Path(__file__).parents[2] / "service" / "page"
FILES = sorted(path for path in PAGE.iterdir() if path.suffix in {".html", ".css", ".js", ".svg"})
LIMIT_BYTES = 150_000


def test_the_page_is_served_under_a_policy_without_inline_code(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"\son\w+\s*=|style\s*=|<style|javascript:", answer.text)
    assert re.findall(r"<script[^>]*>([^<]*)</script>", answer.text) == [""]


def test_everything_the_page_names_is_there_and_small(client: httpx.Client) -> None:
    html = client.get("/").text
    named = set(re.findall(r'(?:src|href)="(/[^"]*)"', html))
    assets = {name for name in named if name.startswith("/page/")}
    assert assets == {f"/page/{path.name}" for path in FILES if path.name != "index.html"}
    answers = [client.get(name) for name in sorted(named)]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    total = len(html.encode()) + sum(len(client.get(name).content) for name in assets)
    assert total <= LIMIT_BYTES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_of_the_page_points_elsewhere_or_makes_markup(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    urls = set(re.findall(r"(?:https?:)?//[\w.-]+\.[\w/.-]+", text)) - {"http://www.w3.org/2000/svg"}
    assert not urls
    assert "@import" not in text
    assert path.suffix != ".css" or "url(" not in text
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in text


def test_a_browser_that_has_a_file_gets_304(client: httpx.Client) -> None:
    first = client.get("/page/main.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = client.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    tag = first.headers["etag"]
    for named, status in (
        (f"W/{tag}", 304),
        (f'"x", W/{tag}', 304),
        ("*", 304),
        (f"x{tag}", 200),
        (tag.strip('"'), 200),
    ):
        assert client.get("/page/main.js", headers={"If-None-Match": named}).status_code == status, named


@pytest.mark.parametrize(
    "name", ["files.py", "nothing.js", "%2e%2e/app.py", "..%2fapp.py", "%2e%2e%2f%2e%2e%2fpyproject.toml", "a%00.js"]
)
def test_nothing_but_the_pages_files_is_served(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_the_page_is_there_before_the_model_is(serve: Any) -> None:
    with serve(engine=None, ready=False, memory="/nowhere") as service:
        assert service.client.get("/").status_code == 200
        assert service.client.get("/samples").json() == {"samples": []}
        assert service.client.get("/memory/items").json()["code"] == "not_ready"


# ---- thumbnails and items -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictured(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, photo_bytes: dict[str, bytes]) -> Path:
    """A memory of four items: a thumbnail, none, one that is no image, and a thumbnail again."""
    from models.images.decoding import ImageLimits, decode_image

    thumbnail = make_thumbnail(decode_image(photo_bytes["jpeg"], ImageLimits()), 32)
    root = tmp_path_factory.mktemp("pictured")
    texts = encoder.encode_text(encoder.tokenize(["a red bird", "a grey duck", "a swift", "a wader"]).ids)
    columns = {
        "key": ["a", "b", "c", "d"],
        "caption": ["a red bird", "a grey duck", "<b>a swift</b>", "a wader"],
        "source": ["test"] * 4,
        "content_sha256": [f"{row:064x}" for row in range(4)],
        "thumbnail": [thumbnail, None, b"<svg onload='alert(1)'>", thumbnail],
    }
    table = pa.table(columns, schema=ITEMS_SCHEMA)
    rows = Rows(texts.astype(np.float16), texts.astype(np.float16), table)
    segments = (write_segment(root, [rows], [UnitRecord("unit-0", 4)]),)
    indexes = {modality: build_index(root, segments, modality) for modality in ("image", "text")}
    publish(
        root,
        Contents(
            encoder=encoder.fingerprint.record(),
            encoded_with=encoder.fingerprint.encoded_with(),
            segments=segments,
            indexes=indexes,
        ),
    )
    return root


@pytest.fixture(scope="module")
def pictures(serve: Any, make_settings: Callable[..., Any], pictured: Path) -> Iterator[httpx.Client]:
    settings = make_settings(memory=str(pictured), fusion=None)
    with serve(engine=Engine.open(settings), memory=str(pictured), fusion=None) as service:
        yield service.client


def test_a_thumbnail_is_an_image_and_nothing_else(pictures: httpx.Client) -> None:
    answer = pictures.get("/memory/items/0/thumbnail")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.content.startswith(b"\xff\xd8\xff")
    again = pictures.get("/memory/items/0/thumbnail", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert pictures.get("/memory/items/3/thumbnail").headers["etag"] != answer.headers["etag"]


@pytest.mark.parametrize("item", [1, 2])
def test_no_thumbnail_or_no_image_is_a_404(pictures: httpx.Client, item: int) -> None:
    answer = pictures.get(f"/memory/items/{item}/thumbnail")
    assert answer.status_code == 404
    assert answer.json()["code"] == "thumbnail_not_found"


@pytest.mark.parametrize(
    "item", ["4", "-1", "x", "1.0", "+1", "%31%20", "1e3", "٣", "9" * 30, "0x0", "00000000000000000000"]
)
def test_an_id_that_is_none_is_a_404(pictures: httpx.Client, item: str) -> None:
    answer = pictures.get(f"/memory/items/{item}/thumbnail")
    assert answer.status_code == 404
    assert answer.json()["code"] == "item_not_found"


def test_a_sample_is_random_and_repeatable(client: httpx.Client, pictures: httpx.Client) -> None:
    [first, again, other] = [
        client.get("/memory/items", params={"sample": 5, "seed": seed}).json()["items"] for seed in (1, 1, 2)
    ]
    assert first == again != other
    assert len({item["id"] for item in first}) == 5
    shown = pictures.get("/memory/items").json()
    assert [item["id"] for item in shown["items"]] == [0, 1, 2, 3]
    assert [item["thumbnail"] for item in shown["items"]] == [True, False, True, True]
    assert shown["items"][2]["caption"] == "<b>a swift</b>"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("sample=0", "field_invalid"),
        ("sample=101", "field_invalid"),
        ("sample=-1", "field_invalid"),
        ("seed=x", "field_invalid"),
        ("seed=1&seed=2", "duplicate_field"),
        ("limit=3", "field_unknown"),
    ],
)
def test_a_bad_sample_is_refused(client: httpx.Client, query: str, code: str) -> None:
    answer = client.get(f"/memory/items?{query}")
    assert answer.status_code == 422
    assert answer.json()["code"] == code


def test_deleted_items_are_not_shown(pictured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Memory.open(pictured) as memory:
        monkeypatch.setattr(memory, "deleted_ids", lambda: np.array([0, 2]))
        assert find_item(memory, 0) is None
        assert find_item(memory, 2) is None
        assert find_item(memory, 3) is not None
        assert [item["id"] for item in sample_items(memory, 4, 0)] == [1, 3]


# ---- samples ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photo_bytes: dict[str, bytes]) -> Path:
    """A folder of samples beside a secret, with everything in it that must not be served."""
    base = tmp_path_factory.mktemp("samples")
    (base / "secret.png").write_bytes(photo_bytes["png"])
    root = base / "folder"
    root.mkdir()
    (root / "a bird.png").write_bytes(photo_bytes["png"])
    (root / "b.jpg").write_bytes(photo_bytes["jpeg"])
    (root / "text.png").write_text("<script>alert(1)</script>")
    (root / "notes.txt").write_text("secret")
    (root / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (root / "escape.png").symlink_to(base / "secret.png")
    (root / "folder.png").mkdir()
    (root / "up").symlink_to(base)
    return root


@pytest.fixture(scope="module")
def samples(serve: Any, folder: Path) -> Iterator[httpx.Client]:
    with serve(samples=str(folder)) as service:
        yield service.client


def test_samples_are_the_folders_pictures(samples: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    listed = samples.get("/samples").json()["samples"]
    assert [sample["name"] for sample in listed] == ["a bird.png", "b.jpg", "text.png"]
    assert listed[0]["title"] == "a bird"
    answer = samples.get("/samples/a%20bird.png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == photo_bytes["png"]
    assert samples.get("/samples/text.png").status_code == 404  # by its bytes no picture


@pytest.mark.parametrize(
    "path",
    [
        "/samples/notes.txt",
        "/samples/drawing.svg",
        "/samples/samples.json",
        "/samples/escape.png",
        "/samples/folder.png",
        "/samples/up/secret.png",
        "/samples/../secret.png",
        "/samples/..%2fsecret.png",
        "/samples/%2e%2e%2fsecret.png",
        "/samples/%2e%2e/secret.png",
        "/samples/..%5csecret.png",
        "/samples/%252e%252e%252fsecret.png",
        "/samples//etc/passwd",
        "/samples/%2fetc%2fpasswd",
        "/samples/b.jpg%00.png",
        "/samples/",
    ],
)
def test_nothing_else_is_served(samples: httpx.Client, path: str) -> None:
    host, port = urlsplit(str(samples.base_url)).hostname, urlsplit(str(samples.base_url)).port
    with socket.create_connection((host, port), timeout=10) as raw:  # httpx would tidy the path up
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split(b" ", 2)[1] == b"404"
    assert b"not_found" in answer


def test_a_picture_that_becomes_a_link_is_gone(tmp_path: Path, photo_bytes: dict[str, bytes]) -> None:
    (tmp_path / "a.png").write_bytes(photo_bytes["png"])
    opened = Samples.open(str(tmp_path), max_bytes=10**6)
    picture = opened.open_picture("a.png")
    assert picture is not None
    picture.file.close()
    (tmp_path / "b").write_bytes(photo_bytes["png"])
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to(tmp_path / "b")
    assert opened.open_picture("a.png") is None
    (tmp_path / "a.png").unlink()
    assert opened.open_picture("a.png") is None


def test_a_picture_is_read_once_and_again_when_it_has_changed(
    serve: Any, tmp_path: Path, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read, reads = tmp_path / "a.png", picture_files._read, list[str]()
    monkeypatch.setattr(picture_files, "_read", lambda file, look: reads.append("read") or read(file, look))
    path.write_bytes(photo_bytes["png"])
    with serve(samples=str(tmp_path)) as service:
        first = service.client.get("/samples/a.png")
        for _ in range(3):
            same = service.client.get("/samples/a.png", headers={"If-None-Match": first.headers["etag"]})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
        assert len(reads) == 1
        state = path.stat()
        path.write_bytes(photo_bytes["png"][:-1] + b"y")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # of the same size and time; not of the same change
        other = service.client.get("/samples/a.png", headers={"If-None-Match": first.headers["etag"]})
        assert (other.status_code, other.content[-1:]) == (200, b"y")
        assert other.headers["etag"] != first.headers["etag"]
        assert len(reads) == 2


@pytest.fixture(scope="module")
def large_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(16_000_000))
    return path


def test_clients_that_do_not_read_hold_no_copies(serve: Any, large_picture: Path) -> None:
    with serve(samples=str(large_picture.parent), send_timeout_s=2.0) as service, ExitStack() as connections:
        assert service.client.get("/samples/a.png").content == large_picture.read_bytes()
        host, port = urlsplit(service.url).hostname, urlsplit(service.url).port
        tracemalloc.start()
        for _ in range(10):
            idle = connections.enter_context(socket.socket())
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.connect((host, port))
            idle.sendall(b"GET /samples/a.png HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.0)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 10_000_000
        end = time.monotonic() + 20
        while "reco_answers_unread_total 10.0" not in service.client.get("/metrics").text:
            assert time.monotonic() < end, "they are held on"
            time.sleep(0.1)
        assert service.client.get("/samples/a.png").content == large_picture.read_bytes()


def test_samples_json_orders_and_labels(tmp_path: Path, photo_bytes: dict[str, bytes]) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(photo_bytes["png"])
    listed = [{"file": "b.png", "title": "B", "labels": ["x", "y"]}, {"file": "../a.png"}, {"file": "a.png"}]
    (tmp_path / "samples.json").write_text(json.dumps({"samples": listed}))
    described = Samples.open(str(tmp_path), max_bytes=10**6).describe()
    assert [(one["name"], list(one["labels"])) for one in described] == [("b.png", ["x", "y"]), ("a.png", [])]


def test_a_large_picture_or_folder_is_cut(tmp_path: Path, photo_bytes: dict[str, bytes]) -> None:
    for number in range(MAX_SAMPLES + 5):
        (tmp_path / f"{number:03d}.png").write_bytes(photo_bytes["png"])
    opened = Samples.open(str(tmp_path), max_bytes=100)
    assert len(opened.describe()) == MAX_SAMPLES
    assert opened.open_picture("000.png") is None


@pytest.mark.parametrize("content", ["{", '{"samples": 3}', '{"samples": [{"name": "a.png"}]}', "[]"])
def test_a_bad_samples_json_stops_the_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "samples.json").write_text(content)
    with pytest.raises(SettingsError, match="RECO_SAMPLES"):
        Samples.open(str(tmp_path), max_bytes=100)
    with pytest.raises(SettingsError, match="is no folder"):
        Samples.open(str(tmp_path / "nowhere"), max_bytes=100)


def test_every_file_of_the_page_is_known() -> None:
    assert set(page_files()) == {path.name for path in FILES}
