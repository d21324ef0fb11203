"""The bad inputs of the threat model (rows U, J, I and C), each against a running service on a real port.

For every row: the status and the code; never a 500; nothing of the input, no path and no exception text in the answer;
and a good request right after is answered.
"""

import base64
import io
import json
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from service.classes.class_embeddings import score

MARK = "zXq7Canary"  # put into inputs, looked for in answers
GIF_PIXEL = "R0lGODlhAQABAIAAAICAgP///ywAAAAAAQABAAACAkQBADs="
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


class Checked:
    """A client that looks at each answer for what must hold whatever was sent."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def post(self, path: str, **request: Any) -> httpx.Response:
        answer = self._client.post(path, **request)
        assert answer.status_code != 500, answer.text
        if answer.status_code != 200:
            form = "application/json" if path.startswith("/v1/") else "application/problem+json"
            assert answer.headers["content-type"] == form
            text = json.dumps(answer.json())
            for forbidden in (MARK, "Traceback", "/work/", "/tmp/", "0x7", "PIL", "Errno", "pydantic"):
                assert forbidden not in text
            assert len(answer.content) < 10_000
        else:
            json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} in an answer"))
        return answer

    def refuses(self, path: str, status: int, code: str, **request: Any) -> dict[str, Any]:
        answer = self.post(path, **request)
        told: dict[str, Any] = answer.json()
        assert (answer.status_code, told["code"]) == (status, code), answer.text
        return told

    def refuses_text(self, status: int, code: str, text: Any, **options: Any) -> dict[str, Any]:
        return self.refuses("/embed/text", status, code, content=dump({"texts": [text], **options}), headers=JSON)

    def refuses_body(self, status: int, code: str, body: bytes, **headers: str) -> dict[str, Any]:
        return self.refuses("/embed/text", status, code, content=body, headers=JSON | headers)

    def refuses_image(self, status: int, code: str, data: bytes, media_type: str = "image/png") -> dict[str, Any]:
        return self.refuses("/embed/image", status, code, content=data, headers={"Content-Type": media_type})

    def refuses_classes(self, status: int, code: str, **options: Any) -> dict[str, Any]:
        body = {"images": [GIF_PIXEL], "labels": ["duck", "bird"], **options}
        return self.refuses("/classify", status, code, content=dump(body), headers=JSON)

    def embeds_text(self, text: str, **options: Any) -> dict[str, Any]:
        answer = self.post("/embed/text", json={"texts": [text], "enhance": False, **options})
        assert answer.status_code == 200, answer.text
        item: dict[str, Any] = answer.json()["data"][0]
        return item

    def embeds_image(self, data: bytes, media_type: str = "image/png") -> np.ndarray[Any, Any]:
        headers = {"Content-Type": media_type}
        answer = self.post("/embed/image", content=data, headers=headers, params={"enhance": "false"})
        assert answer.status_code == 200, answer.text
        return np.array(answer.json()["data"][0]["embedding"])


@pytest.fixture
def api(client: httpx.Client) -> Iterator[Checked]:
    """The service; after each test it must still answer a good request."""
    checked = Checked(client)
    yield checked
    # An image and a text, each through every stage.
    assert client.post("/classify", json={"images": [GIF_PIXEL], "labels": ["duck", "bird"]}).status_code == 200


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def image_file(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that says it has this size; 1 bit a pixel, all one colour."""
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9) if width * height < 1e9 else b""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    end = png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + end


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


PHOTO = image_file(Image.radial_gradient("L").resize((64, 48)).convert("RGB"), "JPEG", quality=90)

# ---- U: multipart, raw, base64 -----------------------------------------------------------------------------


def test_U01_boundary(api: Checked) -> None:
    for content_type in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'b' * 300}",
    ):
        api.refuses("/embed/image", 400, "multipart_invalid", content=b"--b--", headers={"Content-Type": content_type})
    api.refuses("/embed/image", 400, "multipart_invalid", content=dump({"images": [MARK]}), headers=FORM)
    backslashes = {"Content-Type": 'multipart/form-data; boundary="' + "\\" * 40}
    api.refuses("/embed/image", 400, "multipart_invalid", content=b"--b--\r\n", headers=backslashes)


def test_U02_closing_boundary_missing(api: Checked) -> None:
    for body in (part("files", PHOTO), part("files", PHOTO) + b"--b"):
        api.refuses("/embed/image", 400, "multipart_truncated", content=body, headers=FORM)


def test_U03_too_many_parts(api: Checked) -> None:
    files = b"".join(part("files", b"x") for _ in range(1001)) + b"--b--\r\n"
    api.refuses("/embed/image", 422, "batch_too_large", content=files, headers=FORM)
    fields = b"".join(part(f"{MARK}{number}", b"x") for number in range(1001)) + b"--b--\r\n"
    api.refuses("/embed/image", 400, "multipart_invalid", content=fields, headers=FORM)


def test_U04_large_field(api: Checked) -> None:
    body = part("k", bytes(4 * 2**20)) + b"--b--\r\n"
    api.refuses("/embed/image", 413, "field_too_large", content=body, headers=FORM)


def test_U05_large_file(api: Checked) -> None:
    body = part("files", bytes(21 * 2**20)) + b"--b--\r\n"
    told = api.refuses("/embed/image", 413, "image_too_large", content=body, headers=FORM)
    assert told["limit"] == 20 * 2**20


def test_U06_around_the_parts(api: Checked) -> None:
    noise = b"x" * 10**7
    for body in (
        noise,
        noise + b"\r\n--b--\r\n",
        b"--b\r\n" + noise,
        b"--b\r\n" + b"a: b\r\n" * 10**5 + b"\r\n--b--\r\n",
    ):
        spent = time.process_time()  # the service is a thread of this process; a busy machine takes longer by the clock
        api.refuses("/embed/image", 400, "multipart_invalid", content=body, headers=FORM)
        assert time.process_time() - spent < 2
    epilogue = part("files", PHOTO) + b"--b--\r\n" + noise
    assert api.post("/embed/image", content=epilogue, headers=FORM).status_code == 200


def test_U07_file_names_are_ignored(api: Checked) -> None:
    for name in (b"../../../etc/passwd", b"a\x00b.png", b"\xff\xfe.png", b"x" * 2000):
        body = (
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="'
            + name
            + b'"\r\n\r\n'
            + PHOTO
            + b"\r\n--b--\r\n"
        )
        assert api.post("/embed/image", content=body, headers=FORM).status_code == 200


def test_U08_field_twice(api: Checked) -> None:
    body = part("files", PHOTO) + part("k", b"3") + part("k", b"4") + b"--b--\r\n"
    api.refuses("/embed/image", 422, "duplicate_field", content=body, headers=FORM)
    api.refuses("/embed/image?k=3&k=4", 422, "duplicate_field", content=PHOTO, headers={"Content-Type": "image/png"})


def test_U09_other_types(api: Checked) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/octet-stream"}, {}):
        api.refuses("/embed/image", 415, "media_type_unsupported", content=PHOTO, headers=headers)


def test_U10_magic_decides(api: Checked) -> None:
    np.testing.assert_allclose(api.embeds_image(PHOTO, "image/png"), api.embeds_image(PHOTO, "image/jpeg"), atol=1e-6)


@pytest.mark.parametrize("text", ["!!!!", MARK + "=", "QUJ", "QUJD\n", " QUJD", "QUJD====", "-_-_", "QQ=="[::-1]])
def test_U11_U12_base64(api: Checked, text: str) -> None:
    told = api.refuses("/embed/image", 422, "base64_invalid", json={"images": [GIF_PIXEL, text]})
    assert [error["pointer"] for error in told["errors"]] == ["/images/1"]


def test_U13_data_uris_and_no_other_scheme(api: Checked) -> None:
    uri = f"data:image/gif;base64,{GIF_PIXEL}"
    assert api.post("/embed/image", json={"images": [uri]}).status_code == 200
    for text in (f"data:image/png,{MARK}", f"data:text/html;base64,{GIF_PIXEL}", "data:", f"data:;base64,{GIF_PIXEL}"):
        api.refuses("/embed/image", 422, "data_uri_invalid", json={"images": [text]})
    for text in (f"http://{MARK}", "https://169.254.169.254/", "file:///etc/passwd", "ftp://x/y"):
        api.refuses("/embed/image", 422, "url_not_supported", json={"images": [text]})


def test_U14_base64_length_before_decoding(api: Checked) -> None:
    api.refuses("/embed/image", 413, "image_too_large", json={"images": ["A" * (28 * 2**20)]})


# ---- J: JSON and text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b'{"texts":', b"\x00", f'{{"texts": {MARK}}}'.encode(), b"{'texts': 'a'}"])
def test_J01_not_json(api: Checked, body: bytes) -> None:
    api.refuses_body(400, "json_invalid", body)


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("body", ['{"texts": %s}', '{"texts": "a", "k": %s}', '{"texts": ["a", %s]}', "%s"])
def test_J02_not_a_number(api: Checked, name: str, body: str) -> None:
    api.refuses_body(400, "json_invalid", (body % name).encode())


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9e99999"])
def test_J03_overflow(api: Checked, number: str) -> None:
    api.refuses_body(400, "json_invalid", f'{{"texts": "a", "k": {number}}}'.encode())


@pytest.mark.parametrize("escape", ["\\ud800", "\\udfff", "\\ude00\\ud83d"])
def test_J04_lone_surrogate(api: Checked, escape: str) -> None:
    told = api.refuses_body(422, "text_invalid_unicode", f'{{"texts": ["a", "{MARK}{escape}"]}}'.encode())
    assert told["errors"][0]["pointer"] == "/texts/1"


def test_J05_lone_surrogate_in_a_key(api: Checked) -> None:
    api.refuses_body(422, "text_invalid_unicode", f'{{"texts": "a", "{MARK}\\ud800": 1}}'.encode())


def test_J06_only_utf_8(api: Checked) -> None:
    text = '{"texts": "a"}'
    for body in (b'{"texts": "\xff"}', text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + text.encode()):
        api.refuses_body(400, "json_invalid", body)
    api.refuses_body(400, "json_invalid", text.encode(), **{"Content-Type": "application/json; charset=utf-16"})
    answer = api.post("/embed/text", content=text.encode(), headers={"Content-Type": "application/json; charset=UTF-8"})
    assert answer.status_code == 200


def test_J07_duplicate_keys(api: Checked) -> None:
    api.refuses_body(400, "json_duplicate_key", b'{"texts": "a", "texts": "b"}')
    api.refuses_body(400, "json_duplicate_key", b'{"texts": [{"a": 1, "a": 2}]}')


def test_J08_unknown_keys(api: Checked) -> None:
    told = api.refuses("/embed/text", 422, "field_unknown", json={"texts": "a", MARK: 1, "return_neighbors": True})
    assert "return_neighbours" in told["known_fields"]


@pytest.mark.parametrize("depth", [17, 1000, 100_000, 10_000_000])
def test_J09_depth(api: Checked, depth: int) -> None:
    started = time.monotonic()
    api.refuses_body(400, "json_too_deep", b'{"texts":' + b"[" * depth)
    assert time.monotonic() - started < 2


def test_J10_long_integers(api: Checked) -> None:
    api.refuses_body(422, "k_out_of_range", b'{"texts": "a", "k": ' + b"9" * 4300 + b"}")
    for digits in (4301, 5000, 4_000_000):
        api.refuses_body(400, "json_invalid", b'{"texts": "a", "k": ' + b"9" * digits + b"}")


def test_J11_a_body_over_the_limit(api: Checked) -> None:
    chunks = (b"a" * 10**6 for _ in range(200))
    headers = JSON | {"Content-Length": str(200 * 10**6)}
    told = api.refuses("/embed/text", 413, "body_too_large", content=chunks, headers=headers)
    assert told["limit"] == 64 * 2**20


def test_J11_a_body_over_the_limit_without_a_length(api: Checked) -> None:
    chunks = (bytes(2**20) for _ in range(80))
    api.refuses("/embed/text", 413, "body_too_large", content=chunks, headers=JSON)


@pytest.mark.parametrize(
    "body",
    [b'{"texts": [' + b'"a",' * 3_000_000 + b'"a"]}', b"{" + b",".join(b'"%d":1' % n for n in range(10**6)) + b"}"],
    ids=["items", "keys"],
)
def test_J12_many_values(api: Checked, body: bytes) -> None:
    started = time.monotonic()
    api.refuses_body(422, "json_too_complex", body)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("k", ["5", True, 1.0, None, [5], {}])
def test_J13_strict_types(api: Checked, k: Any) -> None:
    told = api.refuses_text(422, "field_invalid", "a", k=k)
    assert [error["pointer"] for error in told["errors"]] == ["/k"]
    api.refuses_text(422, "field_invalid", "a", enhance=1)
    api.refuses_text(422, "field_invalid", 5)


def test_J14_number_of_texts(api: Checked) -> None:
    api.refuses("/embed/text", 422, "batch_empty", json={"texts": []})
    told = api.refuses("/embed/text", 422, "batch_too_large", json={"texts": ["a"] * 257})
    assert told["limit"] == 256
    api.refuses("/embed/text", 422, "json_too_complex", json={"texts": ["a"] * 10**6})
    assert api.post("/embed/text", json={"texts": ["a"] * 256}).status_code == 200


@pytest.mark.parametrize("text", ["", " ", "\t\n\r", "\u200b\u200d", "\ufeff", "\u3000", "\u2800"])
def test_J15_nothing_to_see(api: Checked, text: str) -> None:
    api.refuses_text(422, "text_empty", text)


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\x9f"])
def test_J16_control_characters(api: Checked, character: str) -> None:
    api.refuses_text(422, "text_control_character", f"{MARK}{character}")


def test_J16_white_space_is_a_space(api: Checked) -> None:
    rows = [api.embeds_text(text)["embedding"] for text in ("a red bird", "a\tred\nbird", "a red\r bird")]
    np.testing.assert_allclose(rows[1:], [rows[0]] * 2, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["\n" * 10**6, "qwrtzp" * 1400, "7" * 10**6, "\u00e2\u20ac\u2122" * 10**5, "e" + "\u0301" * 10**5, "&amp;" * 10**5],
    ids=["J17-newlines", "J18-one-word", "J19-digits", "J19-mojibake", "J19-marks", "J19-entities"],
)
def test_J17_J18_J19_length_before_the_tokenizer(api: Checked, text: str) -> None:
    started = time.monotonic()
    told = api.refuses_text(422, "text_too_long", text)
    assert time.monotonic() - started < 1
    assert told["errors"][0]["pointer"] == "/texts/0"


def test_J18_the_longest_allowed_word_is_answered(api: Checked) -> None:
    started = time.monotonic()
    assert api.embeds_text("qwrtzpsdfg" * 200)["truncated"] is True
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "a <end_of_text> b",
        "<start_of_text>",
        "<END_OF_TEXT>",
        "<|endoftext|>",
        "&lt;end_of_text&gt;",
        "<end_of_text\uff1e",
    ],
)
def test_J21_special_tokens(api: Checked, text: str) -> None:
    api.refuses_text(422, "text_special_token", f"{MARK} {text}")


def test_J22_over_the_context_is_cut_and_said(api: Checked) -> None:
    assert api.embeds_text("bird " * 200)["truncated"] is True
    assert api.embeds_text("bird " * 5)["truncated"] is False


def test_J23_unicode_forms_are_stable(api: Checked) -> None:
    word = "caf\u00e9"
    forms = [api.embeds_text(unicodedata.normalize(form, word))["embedding"] for form in ("NFC", "NFD")]
    np.testing.assert_allclose(forms[0], forms[1], atol=1e-5)
    for text in ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u202eabc", "\u0131I", "\uff21\uff22"):
        first, second = (api.embeds_text(text)["embedding"] for _ in range(2))
        np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_J24_other_types(api: Checked, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    api.refuses("/embed/text", 415, "media_type_unsupported", content=b'{"texts": "a"}', headers=headers)


def test_T17_compressed_bodies(api: Checked) -> None:
    bomb = zlib.compress(bytes(10**7))
    api.refuses_body(415, "content_encoding_unsupported", bomb, **{"Content-Encoding": "deflate"})


# ---- I: images ---------------------------------------------------------------------------------------------


def test_I01_no_image(api: Checked) -> None:
    api.refuses_image(422, "image_empty", b"")
    api.refuses("/embed/image", 422, "image_empty", json={"images": [""]})
    for data in (bytes(10**6), MARK.encode() * 100, b"<!doctype html>", b"%PDF-1.7", b'{"a": 1}', b"\xff"):
        api.refuses_image(415, "image_format_unsupported", data)


def test_I02_svg(api: Checked) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    api.refuses_image(415, "image_format_unsupported", svg, "image/svg+xml")


def test_I03_postscript(api: Checked) -> None:
    api.refuses_image(415, "image_format_unsupported", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" + PHOTO)


@pytest.mark.parametrize("file_format", ["TIFF", "ICO", "BMP", "PPM", "TGA", "PCX", "SGI", "DDS", "JPEG2000", "ICNS"])
def test_I04_other_formats(api: Checked, file_format: str) -> None:
    data = image_file(Image.new("RGB", (32, 32), "red"), file_format)
    api.refuses_image(415, "image_format_unsupported", data)


def test_I05_truncated(api: Checked, photo_bytes: dict[str, bytes]) -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    api.refuses_image(422, "image_truncated", PHOTO[:10])
    for name in ("jpeg", "webp", "png"):
        data = photo_bytes[name]
        api.refuses_image(422, "image_truncated", data[: len(data) // 2])
    api.refuses_image(422, "image_truncated", photo_bytes["jpeg"][:-2])


def test_I06_I07_png_bombs(api: Checked) -> None:
    for side in (9_449, 13_370, 60_000):
        started = time.monotonic()
        told = api.refuses_image(413, "image_too_many_pixels", png_of(side, side))
        assert time.monotonic() - started < 1
        assert told["errors"][0]["pointer"] == "/images/0"


def test_I08_webp_bomb(api: Checked) -> None:
    bits = (16_383 - 1) | (10_900 - 1) << 14
    stream = b"\x2f" + struct.pack("<I", bits) + bytes(8)
    chunk = b"VP8L" + struct.pack("<I", len(stream)) + stream + b"\x00"
    data = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    assert len(data) == 34
    started = time.monotonic()
    api.refuses_image(413, "image_too_many_pixels", data, "image/webp")
    assert time.monotonic() - started < 1


def test_I09_avif_bomb(api: Checked, photo_bytes: dict[str, bytes]) -> None:
    data = bytearray(photo_bytes["avif"])
    size = data.index(b"ispe") + 8
    data[size : size + 8] = struct.pack(">II", 8_000, 8_000)
    api.refuses_image(413, "image_too_many_pixels", bytes(data), "image/avif")


def test_I10_jpeg_bomb(api: Checked) -> None:
    data = bytearray(PHOTO)
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 16_000, 11_000)
    api.refuses_image(413, "image_too_many_pixels", bytes(data))


def test_I11_I17_gif_bomb(api: Checked) -> None:
    screen = b"GIF89a" + struct.pack("<HH", 13_000, 13_000) + b"\x80\x00\x00" + bytes(6)
    frame = b"," + struct.pack("<HHHH", 0, 0, 13_000, 13_000) + b"\x00\x02\x02\x44\x01\x00;"
    api.refuses_image(413, "image_too_many_pixels", screen + frame, "image/gif")


def test_I12_decompression_bomb_in_a_chunk(api: Checked) -> None:
    bomb = zlib.compress(bytes(100 * 10**6), 9)
    started = time.monotonic()
    for chunk in (png_chunk(b"zTXt", b"a\x00\x00" + bomb), png_chunk(b"iCCP", b"a\x00\x00" + bomb)):
        answer = api.post("/embed/image", content=png_of(32, 32, chunk), headers={"Content-Type": "image/png"})
        assert answer.status_code == 200 or answer.json()["code"] == "image_undecodable"
    assert time.monotonic() - started < 5


def test_I13_many_chunks(api: Checked) -> None:
    data = png_of(32, 32, *[png_chunk(b"tEXt", b"a\x00b")] * 100_000)
    started = time.monotonic()
    answer = api.post("/embed/image", content=data, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200 or answer.json()["code"] == "image_undecodable"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("size", [(65_535, 1), (1, 65_535), (101, 1), (1, 101)])
def test_I14_aspect(api: Checked, size: tuple[int, int]) -> None:
    api.refuses_image(422, "image_aspect_ratio", image_file(Image.new("RGB", size)))


def test_I15_small(api: Checked) -> None:
    for size in ((1, 1), (2, 3), (3, 224), (224, 3)):
        api.embeds_image(image_file(Image.new("RGB", size, "red")))
    for width, height in ((0, 0), (0, 5), (5, 0)):
        answer = api.post("/embed/image", content=png_of(width, height), headers={"Content-Type": "image/png"})
        assert answer.status_code == 422


def test_I16_animated(api: Checked) -> None:
    frames = [Image.new("RGB", (32, 32), (n * 5, 0, 0)) for n in range(40)]
    still = api.embeds_image(image_file(frames[0]))
    for file_format in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = image_file(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        assert still @ api.embeds_image(data) > 0.9999, file_format


def test_I18_cmyk(api: Checked, photo_bytes: dict[str, bytes]) -> None:
    assert api.embeds_image(photo_bytes["cmyk_jpeg"]) @ api.embeds_image(photo_bytes["jpeg"]) > 0.98


def test_I19_sixteen_bit_grey(api: Checked) -> None:
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    deep = image_file(Image.fromarray(grey.astype(np.uint16) * 257))
    assert api.embeds_image(deep) @ api.embeds_image(image_file(Image.fromarray(grey))) > 0.9999


def test_I20_transparent_is_on_white(api: Checked) -> None:
    clear = image_file(Image.new("RGBA", (32, 32), (255, 0, 0, 0)))
    white = api.embeds_image(image_file(Image.new("RGB", (32, 32), "white")))
    assert white @ api.embeds_image(clear) > 0.9999


def test_I22_orientation(api: Checked) -> None:
    photo = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image_file(photo, "PNG", exif=exif)
    upright = image_file(photo.transpose(Image.Transpose.ROTATE_270))
    assert api.embeds_image(turned) @ api.embeds_image(upright) > 0.9999
    for orientation in (0, 99):
        exif[0x0112] = orientation
        assert api.embeds_image(image_file(photo, "PNG", exif=exif)) @ api.embeds_image(image_file(photo)) > 0.9999


def test_I23_broken_profile(api: Checked) -> None:
    photo = Image.new("RGB", (32, 32), "red")
    broken = image_file(photo, "JPEG", icc_profile=b"\x00" * 5000, quality=95)
    assert api.embeds_image(broken) @ api.embeds_image(image_file(photo, "JPEG", quality=95)) > 0.9999


def test_I24_polyglot(api: Checked) -> None:
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w") as archive:
        archive.writestr("a.html", f"<script>{MARK}</script>")
    np.testing.assert_allclose(api.embeds_image(PHOTO + tail.getvalue()), api.embeds_image(PHOTO), atol=1e-6)


def test_I26_I27_mutated_files(api: Checked, photo_bytes: dict[str, bytes]) -> None:
    random = np.random.default_rng(7)
    images = []
    for data in photo_bytes.values():
        for _ in range(20):
            mutated = bytearray(data)
            for position in random.integers(0, len(data), size=4):
                mutated[position] ^= 1 << int(random.integers(8))
            images.append(bytes(mutated))
        images.append(data[:12] + random.bytes(500))
    for start in range(0, len(images), 64):
        sent = [base64.b64encode(data).decode() for data in images[start : start + 64]]
        answer = api.post("/embed/image", json={"images": sent, "on_error": "partial", "enhance": False})
        assert answer.status_code == 200
        codes = {item["error"]["code"] for item in answer.json()["data"] if "error" in item}
        assert all(code.startswith("image_") for code in codes), codes


def test_I28_number_of_images(api: Checked) -> None:
    told = api.refuses("/embed/image", 422, "batch_too_large", json={"images": [GIF_PIXEL] * 65})
    assert told["limit"] == 64
    assert api.post("/embed/image", json={"images": [GIF_PIXEL] * 64}).status_code == 200


def test_I29_the_same_pixels_in_another_shape_are_another_image(api: Checked) -> None:
    """Whatever is kept of an image must not be found by its pixels or its size alone."""
    pixels = np.random.default_rng(3).integers(0, 256, (3000, 3), dtype=np.uint8)
    wide, tall = (image_file(Image.fromarray(pixels.reshape(*shape, 3))) for shape in ((30, 100), (100, 30)))
    for _ in range(2):
        first, second = api.embeds_image(wide), api.embeds_image(tall)
        assert first @ second < 0.999
    np.testing.assert_allclose(api.embeds_image(wide), first, atol=1e-6)


# ---- the same behind /v1 -----------------------------------------------------------------------------------

OPENAI: list[tuple[str, int, str]] = [
    ("J01", 400, "json_invalid"),
    ("J02", 400, "json_invalid"),
    ("J04", 400, "text_invalid_unicode"),
    ("J07", 400, "json_duplicate_key"),
    ("J08", 400, "field_unknown"),
    ("J09", 400, "json_too_deep"),
    ("J13", 400, "field_invalid"),
    ("J15", 400, "text_empty"),
    ("J16", 400, "text_control_character"),
    ("J17", 400, "text_too_long"),
    ("J21", 400, "text_special_token"),
    ("U11", 400, "base64_invalid"),
    ("U13", 400, "data_uri_invalid"),
    ("U14", 413, "image_too_large"),
    ("I01", 415, "image_format_unsupported"),
    ("I05", 400, "image_truncated"),
    ("I06", 413, "image_too_many_pixels"),
]
_CUT, _BOMB = (base64.b64encode(data).decode() for data in (PHOTO[:200], png_of(13_370, 13_370)))
OPENAI_BODIES: dict[str, str] = {
    "J01": '{"model": "tiny-clip", "input":',
    "J02": '{"model": "tiny-clip", "input": NaN}',
    "J04": '{"model": "tiny-clip", "input": ["\\ud800"]}',
    "J07": '{"model": "tiny-clip", "input": "a", "input": "b"}',
    "J08": f'{{"model": "tiny-clip", "input": "a", "{MARK}": 1}}',
    "J09": '{"model": "tiny-clip", "input": ' + "[" * 1000,
    "J13": '{"model": "tiny-clip", "input": "a", "dimensions": "128"}',
    "J15": '{"model": "tiny-clip", "input": ["a", " "]}',
    "J16": f'{{"model": "tiny-clip", "input": ["{MARK}\\u0000"]}}',
    "J17": '{"model": "tiny-clip", "input": "' + "\\n" * 10**6 + '"}',
    "J21": f'{{"model": "tiny-clip", "input": "{MARK} <end_of_text>"}}',
    "U11": '{"model": "tiny-clip", "input": "data:image/png;base64,!!!!"}',
    "U13": f'{{"model": "tiny-clip", "input": "data:image/png,{MARK}"}}',
    "U14": '{"model": "tiny-clip", "input": [{"image": "' + "A" * (28 * 2**20) + '"}]}',
    "I01": f'{{"model": "tiny-clip", "input": "data:image/png;base64,{base64.b64encode(MARK.encode()).decode()}"}}',
    "I05": f'{{"model": "tiny-clip", "input": ["a", {{"image": "{_CUT}"}}]}}',
    "I06": f'{{"model": "tiny-clip", "input": {{"image": "{_BOMB}"}}}}',
}


@pytest.mark.parametrize(("row", "status", "code"), OPENAI, ids=[row for row, *_ in OPENAI])
def test_openais_route_refuses_them_too(api: Checked, row: str, status: int, code: str) -> None:
    answer = api.post("/v1/embeddings", content=OPENAI_BODIES[row].encode(), headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


# ---- C: classification -------------------------------------------------------------------------------------


def test_C01_number_of_labels(api: Checked) -> None:
    api.refuses_classes(422, "labels_empty", labels=[])
    told = api.refuses_classes(422, "labels_too_many", labels=[f"bird {n}" for n in range(1001)])
    assert told["limit"] == 1000
    answer = api.post("/classify", json={"images": [GIF_PIXEL], "labels": ["duck"]})
    assert answer.json()["data"][0]["probabilities"] == [1.0]


def test_C02_equal_labels(api: Checked) -> None:
    told = api.refuses_classes(422, "labels_duplicate", labels=["duck", MARK, "Duck ", MARK.upper()])
    assert [error["pointer"] for error in told["errors"]] == ["/labels/2", "/labels/3"]


@pytest.mark.parametrize(
    ("label", "code"),
    [("", "text_empty"), ("  ", "text_empty"), (MARK * 1000, "text_too_long"), ("a\x00", "text_control_character"),
     (5, "field_invalid"), (None, "field_invalid"), (["duck"], "field_invalid")],
)  # fmt: skip
def test_C03_bad_label(api: Checked, label: Any, code: str) -> None:
    told = api.refuses_classes(422, code, labels=["duck", label])
    assert [error["pointer"] for error in told["errors"]] == ["/labels/1"]


@pytest.mark.parametrize(
    "template",
    ["a photo", "{} and {}", "{x}", "{", "}", "{{}}", "%s", "{0}", "{!r}", "{} {0}",
     "{0.__class__.__mro__}", "{:2000000000}"],
)  # fmt: skip
def test_C04_C05_C06_bad_template(api: Checked, template: str) -> None:
    started = time.monotonic()
    told = api.refuses_classes(422, "template_invalid", templates=["a {}", template])
    assert [error["pointer"] for error in told["errors"]] == ["/templates/1"]
    assert "class" not in json.dumps(told)
    assert time.monotonic() - started < 1


def test_C07_braces_in_a_label_are_literal(api: Checked) -> None:
    answer = api.post("/classify", json={"images": [GIF_PIXEL], "labels": ["{}", "{0}", "{x}"], "templates": ["a {}"]})
    assert answer.status_code == 200
    assert len(set(answer.json()["data"][0]["similarities"])) == 3


def test_C08_too_much_work(api: Checked) -> None:
    labels, templates = [f"bird {n}" for n in range(1000)], [f"{n} {{}}" for n in range(20)]
    started = time.monotonic()
    told = api.refuses_classes(422, "work_too_large", labels=labels, templates=templates)
    assert told["limit"] == 5000
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("k", [0, -1, 101, 1001, 2**31, 10**30, 1.5, None])
@pytest.mark.parametrize("path", ["/embed/text", "/classify"])
def test_C09_k(api: Checked, path: str, k: Any) -> None:
    code = "k_out_of_range" if isinstance(k, int) else "field_invalid"
    body = {"texts": "a"} if path == "/embed/text" else {"images": [GIF_PIXEL], "labels": ["a"]}
    api.refuses(path, 422, code, json={**body, "k": k})


def test_C10_k_beyond_the_memory(api: Checked) -> None:
    neighbours = api.embeds_text("a duck", k=100, return_neighbours=True)["neighbours"]
    assert len(neighbours) == 24
    assert all(neighbour["id"] >= 0 and -1.01 < neighbour["similarity"] < 1.01 for neighbour in neighbours)


@pytest.mark.parametrize("value", [0, -1, 1e308, 1.0])
def test_C13_there_is_no_temperature_to_set(api: Checked, value: float) -> None:
    for name in ("temperature", "logit_scale", "alpha", "weight"):
        api.refuses_classes(422, "field_unknown", **{name: value})


@settings(max_examples=200, deadline=None)
@given(data=st.data(), scale=st.floats(0, 1e308))
def test_C15_no_vectors_and_no_scale_give_a_score_that_is_no_number(data: st.DataObject, scale: float) -> None:
    numbers = st.floats(-1, 1, width=32)
    image = np.array(data.draw(st.lists(numbers, min_size=4, max_size=4)), dtype=np.float32)
    classes = np.array(data.draw(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=9)))
    probabilities, similarities = score(image, classes.astype(np.float32), scale)
    assert np.isfinite(probabilities).all()
    assert np.isfinite(similarities).all()
    assert probabilities.sum() == pytest.approx(1)


def test_C14_unknown_mode(api: Checked) -> None:
    api.refuses_classes(422, "field_invalid", enhance=MARK)
    api.refuses_classes(422, "field_invalid", enhance=True)
