"""What a refusal says beside its code: the limit, or what would have been taken instead."""

from typing import Any

import httpx
import pytest

NPY = {"Accept": "application/x-npy"}
A = "QUJD"

EXPECTED: list[tuple[str, dict[str, Any], str]] = [
    ("/embed/text", {"texts": "a", "k": "5"}, "a whole number"),
    ("/embed/text", {"texts": "a", "k": None}, "no null: leave it out for the service's default"),
    ("/embed/text", {"texts": "a", "enhance": "both"}, "true or false"),
    ("/embed/text", {"texts": "a", "on_error": "skip"}, "one of 'fail' or 'partial'"),
    ("/embed/text", {"texts": 5}, "a string, or a list of strings"),
    ("/embed/text", {"texts": ["a", 5]}, "a string"),
    ("/embed/image", {"images": A}, "a list of strings"),
    ("/classify", {"images": [A]}, "labels, or the name of a label_set"),
    ("/classify", {"images": [A], "labels": "a,b"}, "a list of strings"),
    ("/classify", {"images": [A], "labels": ["a"], "label_set": "x"}, "labels or label_set, not both"),
    ("/classify", {"images": [A], "labels": ["a"], "enhance": True}, "one of 'both', 'image', 'text' or 'none'"),
    ("/classify", {"images": [A], "labels": ["a"], "top_k": 0}, "at least 1"),
]


@pytest.mark.parametrize(("path", "body", "expected"), EXPECTED, ids=[f"{n}-{c[0]}" for n, c in enumerate(EXPECTED)])
def test_a_wrong_value_is_told_what_would_be_right(
    client: httpx.Client, path: str, body: dict[str, Any], expected: str
) -> None:
    told = client.post(path, json=body).json()
    assert (told["status"], told.get("expected")) == (422, expected)


def test_a_form_is_told_what_word_a_field_takes(client: httpx.Client) -> None:
    answer = client.post("/embed/image", files={"files": ("x", b"x")}, data={"enhance": "yes"})
    assert answer.json()["expected"] == "true or false"


@pytest.mark.parametrize("path", ["/embed/text", "/embed/image", "/classify"])
def test_a_body_of_another_type_is_told_the_types_there_are(client: httpx.Client, path: str) -> None:
    answer = client.post(path, content=b"x", headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["expected"]


@pytest.mark.parametrize(("path", "body"), [("/embed/text", {"texts": "a"}), ("/embed/image", {"images": [A]})])
def test_an_option_in_the_query_of_json_is_told_where_it_belongs(
    client: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    told = client.post(f"{path}?k=3", json=body).json()
    assert (told["code"], "into the body" in told["expected"]) == ("field_unknown", True)


def test_an_array_with_neighbours_is_told_what_an_array_has_no_room_for(client: httpx.Client) -> None:
    told = client.post("/embed/text", json={"texts": "a", "return_neighbours": True}, headers=NPY).json()
    assert (told["code"], "return_neighbours" in told["expected"]) == ("option_conflict", True)


@pytest.mark.parametrize(
    ("path", "body", "code", "limit"),
    [
        ("/embed/text", {"texts": ["a", "b" * 2001]}, "text_too_long", 2000),
        ("/classify", {"images": [A], "labels": ["a", "b" * 201]}, "text_too_long", 200),
        ("/embed/image", {"images": ["A" * 4 * (20971520 // 3 + 2)]}, "image_too_large", 20971520),
    ],
)
def test_an_item_over_a_limit_is_told_the_limit(
    client: httpx.Client, path: str, body: dict[str, Any], code: str, limit: int
) -> None:
    told = client.post(path, json=body).json()
    assert (told["code"], told.get("limit")) == (code, limit)


@pytest.mark.parametrize(("query", "expected"), [("sample=0", "1 to 100"), ("sample=x", "a whole number")])
def test_a_number_in_a_query_is_told_its_range(client: httpx.Client, query: str, expected: str) -> None:
    assert client.get(f"/memory/items?{query}").json()["expected"] == expected


def test_openais_clients_read_it_in_the_message(client: httpx.Client) -> None:
    def message(**body: Any) -> str:
        return str(client.post("/v1/embeddings", json={"model": "tiny-clip", **body}).json()["error"]["message"])

    assert 'Expected: a string, {"text": "..."}' in message(input={"text": 5})
    assert "Known: dimensions, embedding_type, " in message(input="a", task="x")
    assert "Expected: true. At normalized." in message(input="a", normalized=False)
