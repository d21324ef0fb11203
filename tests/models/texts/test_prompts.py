"""Prompts: literal names, one spelling for one class, means of unit length."""

import numpy as np
import pytest

from models.errors import EncoderError
from models.texts.prompts import class_means, compose, is_template, repeated


def test_prompts_are_name_by_name_and_names_are_literal() -> None:
    assert compose(["a{}", "{0}"], ["x {}", "{} y"]) == ["x a{}", "a{} y", "x {0}", "{0} y"]


@pytest.mark.parametrize(("text", "whether"), [("a {}", True), ("{}", True), ("a", False), ("{} {}", False)])
def test_C4_a_template_has_one_slot(text: str, whether: bool) -> None:
    assert is_template(text) is whether


@pytest.mark.parametrize("text", ["{x}", "{", "{} }", "{0.__class__}", "{:2000000000}", "{{}}"])
def test_C4_C5_C6_no_other_brace_makes_a_template(text: str) -> None:
    assert not is_template(text)


def test_C2_one_name_in_two_spellings_is_one() -> None:
    assert repeated(["a", "Straße", "b", "STRASSE ", "caf\u00e9", "cafe\u0301", "a"]) == [(3, 1), (5, 4), (6, 0)]
    assert repeated(["a", "b", "ab"]) == []


def test_the_mean_is_taken_per_class_and_normalised() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=np.float32)
    np.testing.assert_allclose(class_means(rows, 2), [[2**-0.5, 2**-0.5], [1, 0]], atol=1e-7)


@pytest.mark.parametrize("second", [[-1, 0], [np.nan, 0]])
def test_prompts_that_cancel_out_are_no_class(second: list[float]) -> None:
    with pytest.raises(EncoderError, match="nonfinite_embedding") as refused:
        class_means(np.array([[0, 1], [0, 1], [1, 0], second], dtype=np.float32), 2)
    assert refused.value.rows == (1,)
