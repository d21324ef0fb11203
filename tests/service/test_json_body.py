"""Strict JSON: what parsers disagree about is refused, in time linear in the body."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.forms.json_body import MAX_DEPTH, parse, parse_object
from service.problems import Problem

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert parse(json.dumps(value).encode(), max_values=10_000) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode(), max_values=10_000) == value


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_problem(body: bytes) -> None:
    try:
        value = parse(body, max_values=100)
    except Problem:
        return
    json.dumps(value, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", (1, 1)),
        (b'{\n  "texts": ["a"]\n "k": 1}', (3, 2)),
        (b'{"texts": "a" "k": 1}', (1, 15)),
        ('{\n"texts": "Gr\u00fcn\xfc",, }'.encode(), (2, 18)),
        ('["\u00fc", "no end'.encode(), (1, 7)),
        ('\n["\u00fc", "'.encode() + b'\xff"]', (2, 8)),
        (b'{"a": NaN}', None),
    ],
)
def test_it_is_told_where_a_body_is_no_json(body: bytes, place: tuple[int, int] | None) -> None:
    """Of a body of thousands of texts nobody finds the comma that is too many; no value of it is told."""
    with pytest.raises(Problem) as refused:
        parse(body, max_values=100)
    assert refused.value.code == "json_invalid"
    told = refused.value.extensions
    assert told == ({} if place is None else {"line": place[0], "column": place[1]})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "json_invalid"),
        (b"{", "json_invalid"),
        (b'{"a": NaN}', "json_invalid"),
        (b'{"a": -Infinity}', "json_invalid"),
        (b'{"a": 1e999}', "json_invalid"),
        (b'{"a": -1e999}', "json_invalid"),
        (b'{"a": ' + b"9" * 5000 + b"}", "json_invalid"),
        (b'\xef\xbb\xbf{"a": 1}', "json_invalid"),
        ('{"a": 1}'.encode("utf-16"), "json_invalid"),
        (b'{"a": "\xff"}', "json_invalid"),
        (b'{"a": "\x00"}', "json_invalid"),
        (b'{"a": "no end', "json_invalid"),
        (b'{"a": 1, "a": 1}', "json_duplicate_key"),
        (b'{"b": {"a": 1, "a": 2}}', "json_duplicate_key"),
        (b'{"a": "\\ud800"}', "text_invalid_unicode"),
        (b'{"\\udfff": 1}', "text_invalid_unicode"),
        (b"[" * (MAX_DEPTH + 1), "json_too_deep"),
        (b"[1]", "field_invalid"),
        (b'"text"', "field_invalid"),
    ],
)
def test_refused(body: bytes, code: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_object(body, max_values=100)
    assert refused.value.code == code


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse(b'"\\ud83d\\ude00"', max_values=10) == "\N{GRINNING FACE}"


def test_depth_is_counted_outside_strings_only() -> None:
    nested = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse(nested, max_values=100)
    assert parse(b'"' + b"[" * 1000 + b'"', max_values=100) == "[" * 1000
    assert parse(b'"\\"' + b"[" * 1000 + b'"', max_values=100) == '"' + "[" * 1000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5_000_000,
        b"[" + b"1," * 2_500_000 + b"1]",
        b"[" + b"[]," * 1_500_000 + b"1]",
        b'"' * 5_000_000,
        b'"' + b'\\"' * 2_500_000,
        b'{"' + b"a" * 5_000_000,
    ],
    ids=["deep", "long", "lists", "quotes", "escaped-quotes", "no-end"],
)
def test_hostile_bodies_are_refused_quickly(body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(Problem):
        parse_object(body, max_values=1000)
    assert time.process_time() - started < 0.5


def test_the_pointer_names_a_position_and_never_a_key_of_the_client() -> None:
    with pytest.raises(Problem) as refused:
        parse_object(b'{"texts": ["a", "\\ud800"]}', max_values=100)
    assert refused.value.errors[0].pointer == "/texts/1"
    with pytest.raises(Problem) as refused:
        parse_object(b'{"secret": {"inner": "\\ud800"}}', max_values=100)
    assert refused.value.errors[0].pointer == ""
