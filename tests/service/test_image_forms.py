"""The three input forms give the same images and the same options, or the same refusals."""

import base64
import json
from typing import Any

import httpx
import pytest

from service.forms.images import ImageRequest, read_images
from service.forms.multipart_body import parse_form
from service.problems import ItemError, Problem
from service.schemas.requests import ClassifyOptions, ClassifyRequest, EmbedImageRequest, EmbedOptions
from service.settings import Settings

SETTINGS = Settings(model="m", memory="m", stamps="s", max_images=3, max_image_bytes=1000)
BOUNDARY = "multipart/form-data; boundary=b"


def read(body: bytes, content_type: str, query: str = "", **models: Any) -> ImageRequest:
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]
    models = {"options": EmbedOptions, "json_request": EmbedImageRequest} | models
    return read_images(body, content_type=content_type, query=pairs, settings=SETTINGS, **models)  # type: ignore[arg-type]


def as_json(images: list[Any], **options: Any) -> bytes:
    return json.dumps({"images": images, **options}).encode()


def part(name: str, content: bytes, disposition: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{disposition}\r\n\r\n'.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def test_the_three_forms_agree() -> None:
    image = bytes(range(256))
    sent = base64.b64encode(image).decode()
    from_json = read(as_json([sent, f"data:image/png;base64,{sent}"], k=5, return_original=True), "application/json")
    from_form = read(
        form(part("files", image, '; filename="a.png"'), part("k", b"5"), part("return_original", b"true")), BOUNDARY
    )
    from_raw = read(image, "image/png", "k=5&return_original=true")
    assert list(from_json.images) == [image, image]
    assert list(from_form.images) == list(from_raw.images) == [image]
    for request in (from_json, from_form, from_raw):
        assert (request.options.k, request.options.return_original, request.options.enhance) == (5, True, None)


def test_labels_are_a_json_list_in_a_form_and_in_a_query() -> None:
    models = {"options": ClassifyOptions, "json_request": ClassifyRequest}
    from_form = read(form(part("files", b"x"), part("labels", b'["a", "b"]')), BOUNDARY, **models)
    from_raw = read(b"x", "image/png", 'labels=["a", "b"]', **models)
    assert from_form.options.labels == from_raw.options.labels == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("!!!!", "base64_invalid"),
        ("QUJD\nQUJD", "base64_invalid"),
        ("QUJD QUJD", "base64_invalid"),
        ("QQ", "base64_invalid"),
        ("QQ===", "base64_invalid"),
        ("QUJD=QUJD", "base64_invalid"),
        ("-_-_", "base64_invalid"),
        ("ÄÄÄÄ", "base64_invalid"),
        ("data:image/png,QUJD", "data_uri_invalid"),
        ("data:text/plain;base64,QUJD", "data_uri_invalid"),
        ("data:image/png;base64,!!!!", "base64_invalid"),
        ("http://169.254.169.254/latest", "url_not_supported"),
        ("FILE:///etc/passwd", "url_not_supported"),
        ("A" * 4000, "image_too_large"),
    ],
)
def test_a_bad_image_string_is_an_error_in_its_place(text: str, code: str) -> None:
    request = read(as_json(["QUJD", text]), "application/json")
    assert list(request.images) == [b"ABC", ItemError("/images/1", code)]


def test_the_longest_allowed_image_passes_in_every_form() -> None:
    image = bytes(SETTINGS.max_image_bytes)
    assert list(read(as_json([base64.b64encode(image).decode()]), "application/json").images) == [image]
    assert list(read(form(part("files", image)), BOUNDARY).images) == [image]
    assert list(read(image, "image/png").images) == [image]


@pytest.mark.parametrize(
    ("body", "content_type", "query", "code"),
    [
        (as_json([]), "application/json", "", "batch_empty"),
        (as_json(["QUJD"] * 4), "application/json", "", "batch_too_large"),
        (as_json(["QUJD"]), "application/json", "k=5", "field_unknown"),
        (as_json(["QUJD"]), "application/json; charset=utf-16", "", "json_invalid"),
        (as_json(["QUJD"], kk=5), "application/json", "", "field_unknown"),
        (as_json([5]), "application/json", "", "field_invalid"),
        (b"{}", "application/json", "", "field_missing"),
        (b"x", "text/plain", "", "media_type_unsupported"),
        (b"x", "", "", "media_type_unsupported"),
        (b"x", "image/png", "kk=5", "field_unknown"),
        (b"x", "image/png", "k=5&k=5", "duplicate_field"),
        (b"x", "image/png", "k=-1", "field_invalid"),
        (b"x", "image/png", "k=1.0", "field_invalid"),
        (b"x", "image/png", "enhance=yes", "field_invalid"),
        (b"", "multipart/form-data", "", "multipart_invalid"),
        (b"{}", BOUNDARY, "", "multipart_invalid"),
        (b"", BOUNDARY, "", "multipart_invalid"),
        (form(), BOUNDARY, "", "batch_empty"),
        (part("files", b"x"), BOUNDARY, "", "multipart_truncated"),
        (form(part("files", b"x"))[:-6], BOUNDARY, "", "multipart_truncated"),
        (form(*[part("files", b"x")] * 4), BOUNDARY, "", "batch_too_large"),
        (form(part("k", b"5"), part("k", b"5"), part("files", b"x")), BOUNDARY, "", "duplicate_field"),
        (form(part("image", b"x", '; filename="a"'), part("files", b"x")), BOUNDARY, "", "field_unknown"),
        (form(part("file", b"\xff\xd8", '; filename="a.jpg"')), BOUNDARY, "", "field_unknown"),
        (form(part("k", b"\xff"), part("files", b"x")), BOUNDARY, "", "text_invalid_unicode"),
        (form(part("k", bytes(2**22)), part("files", b"x")), BOUNDARY, "", "field_too_large"),
        (form(*[part(f"f{i}", b"x") for i in range(17)]), BOUNDARY, "", "multipart_invalid"),
    ],
)
def test_refused(body: bytes, content_type: str, query: str, code: str) -> None:
    with pytest.raises(Problem) as refused:
        read(body, content_type, query)
    assert refused.value.code == code


def test_an_image_that_is_too_large_is_an_error_in_its_place_in_each_form() -> None:
    small, large = bytes(1000), bytes(1005)
    sent = [base64.b64encode(one).decode() for one in (small, large, small)]
    requests = [
        read(as_json(sent), "application/json"),
        read(form(*(part("files", one) for one in (small, large, small))), BOUNDARY),
    ]
    for request in requests:
        assert list(request.images) == [small, ItemError("/images/1", "image_too_large"), small]
    assert list(read(large, "image/png").images) == [ItemError("/images/0", "image_too_large")]


def test_the_scheme_of_a_data_uri_may_be_in_capitals() -> None:
    sent = [f"{scheme}QUJD" for scheme in ("DATA:image/png;base64,", "data:Image/PNG;BASE64,")]
    assert list(read(as_json(sent), "application/json").images) == [b"ABC", b"ABC"]


@pytest.mark.parametrize(("word", "value"), [("true", True), ("True", True), ("false", False), ("False", False)])
def test_a_truth_value_may_be_written_as_in_json_or_in_python(word: str, value: bool) -> None:
    # Python's requests, and clients that are generated, write str(True) into a form.
    sent = form(part("files", b"x"), part("return_neighbours", word.encode()))
    assert read(sent, BOUNDARY).options.return_neighbours is value
    assert read(b"x", "image/png", f"return_neighbours={word}").options.return_neighbours is value


@pytest.mark.parametrize("word", ["kiwi,lemon", "kiwi", '"kiwi"', '["kiwi"', "5", ""])
def test_labels_that_are_no_list_are_told_of_the_field_and_of_its_form(word: str) -> None:
    models = {"options": ClassifyOptions, "json_request": ClassifyRequest}
    for field in ("labels", "templates"):
        for body, query in ((form(part("files", b"x"), part(field, word.encode())), ""), (b"x", f"{field}={word}")):
            with pytest.raises(Problem) as refused:
                read(body, "image/png" if query else BOUNDARY, query, **models)
            assert refused.value.errors == [ItemError(f"/{field}", "field_invalid")]
            assert f'JSON list, {field}=["' in refused.value.extensions["expected"]


def test_a_list_is_one_field_and_not_several() -> None:
    models = {"options": ClassifyOptions, "json_request": ClassifyRequest}
    twice = form(part("files", b"x"), part("labels", b'["a"]'), part("labels", b'["b"]'))
    for body, content_type, query in ((twice, BOUNDARY, ""), (b"x", "image/png", 'labels=["a"]&labels=["b"]')):
        with pytest.raises(Problem) as refused:
            read(body, content_type, query, **models)
        assert refused.value.errors == [ItemError("/labels", "duplicate_field")]
        assert refused.value.extensions["expected"].startswith("one field labels")


def test_a_form_knows_files_and_repeats_no_name_it_does_not_know() -> None:
    for strange in (part("photo", b"\xff\xd8", '; filename="a.jpg"'), part("photo", b"x")):
        with pytest.raises(Problem) as refused:
            read(form(strange, part("files", b"x")), BOUNDARY)
        told = refused.value
        assert (told.code, "files" in told.extensions["known_fields"]) == ("field_unknown", True)
        assert {"k", "enhance"} < set(told.extensions["known_fields"])
        assert "photo" not in repr((told.errors, told.extensions))
    with pytest.raises(Problem) as refused:  # no image at all, but for the misnamed one
        read(form(part("file", b"\xff\xd8", '; filename="a.jpg"')), BOUNDARY)
    assert refused.value.extensions["expected"].endswith("named files")
    with pytest.raises(Problem) as refused:  # the query of a raw body has no such field
        read(b"x", "image/png", "kk=5")
    assert "files" not in refused.value.extensions["known_fields"]


def test_file_names_are_ignored() -> None:
    hostile = '; filename="../../../etc/passwd\x00\\"'
    parsed = parse_form(form(part("files", b"x", hostile)), BOUNDARY, max_files=1, max_file_bytes=10)
    assert (parsed.files, parsed.fields) == ([b"x"], [])


@pytest.mark.parametrize(("name", "told"), [("on_error", "on_error in the body"), ("<b>", "options go into the body")])
def test_an_option_in_the_query_beside_a_body_with_options_is_named(client: httpx.Client, name: str, told: str) -> None:
    answer = client.post("/classify", params={name: "partial"}, json={"images": ["x"], "labels": ["a", "b"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "field_unknown")
    assert told in answer.json()["expected"]
    assert name not in ("<b>",) or name not in answer.text
