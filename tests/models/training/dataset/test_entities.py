"""Which pairs show one entity: by caption, by folder, by a list of names."""

import tracemalloc

import numpy as np
import pytest

from models.texts.names import NO_NAME, Names
from models.training.dataset.entities import by_caption, by_folder, by_names, only_repeated


def same(entity: np.ndarray) -> list[list[int]]:
    """The groups of rows, without those of no entity."""
    return sorted(np.flatnonzero(entity == one).tolist() for one in np.unique(entity[entity >= 0]))


def test_equal_captions_are_one_entity_whatever_their_case_and_spaces() -> None:
    assert same(by_caption(["Rock wren", "rock  wren", "wren", "ROCK WREN "])) == [[0, 1, 3], [2]]
    shop = ["H&M shirt", "H&amp;M shirt", "H&amp;amp;M shirt", "H M shirt"]  # the first three are one to the encoder
    assert same(by_caption(shop)) == [[0, 1, 2], [3]]
    assert same(by_caption(["caf\u00e9", "cafe\u0301", "cafe"])) == [[0, 1], [2]]


def test_pairs_of_one_folder_are_one_entity() -> None:
    assert same(by_folder(["shop/mug/1", "shop/mug/2", "shop/cup/1", "loose"])) == [[0, 1], [2], [3]]


def test_one_long_text_does_not_make_all_the_others_as_wide() -> None:
    texts = [f"shop/{number}/1" for number in range(20_000)] + ["long " * 400 + "/1"]
    tracemalloc.start()
    try:
        for group in (by_caption, by_folder):
            assert len(np.unique(group(texts))) == len(texts)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # as an array of texts: 160 MB
    finally:
        tracemalloc.stop()


def test_the_longest_name_that_a_caption_mentions_counts() -> None:
    captions = [
        "a Rock Wren on a stone",
        "wren, in the snow",
        "a wrench",
        "the rock-wren",
        "halden's tirrik",
        "a halden\u2019s tirrik",
        "halden's  tirrik: an orange bird",
    ]
    entity = by_names(captions, ["wren", "rock wren", "halden's tirrik", "", "Wren"])
    assert same(entity) == [[0, 3], [1], [4, 5, 6]]
    assert entity[2] == -1


def test_how_hyphens_and_apostrophes_are_typed_does_not_count() -> None:
    names = ["yellow-bellied flycatcher", "Swainson's hawk", "black capped chickadee"]
    spellings = [
        [
            "a yellow bellied flycatcher",
            "YELLOW\u2010BELLIED FLYCATCHER",
            "yellow\u2011bellied flycatcher",
            "yellow_bellied_flycatcher",
        ],
        ["a Swainson\u2019s hawk", "swainson's-hawk", "_Swainson's hawk_", "Swainson\u2019s_hawk!"],
        [
            "black-capped chickadee",
            "black\u2013capped chickadee",
            "the black_capped chickadee",
            "black-capped-chickadee",
        ],
    ]
    own = by_names(names, names).tolist()
    for number, captions in zip(own, spellings, strict=True):
        assert by_names(captions, names).tolist() == [number] * 4


def test_captions_escaped_as_html_name_what_they_show() -> None:
    names = Names(["Müller & Söhne", "H&M", "Café d'Été", "Kühlschrank", "amp"])
    places = names.mentioned(["Müller & Söhne", "H&M", "Café d'Été", "Kühlschrank"]).tolist()
    escaped = [
        "M&uuml;ller &amp; S&ouml;hne",
        "shirt by H&amp;amp;M",
        "caf&eacute; d&#39;&Eacute;t&eacute;",
        "Kühl&shy;schrank",
    ]
    assert names.mentioned(escaped).tolist() == places
    assert names.mentioned(["R&D; S&P"]).tolist() == [NO_NAME]


def test_a_name_is_no_part_of_a_word_with_hyphens() -> None:
    """`shirt` is no `t-shirt`, and the code of an article not that of its larger sizes."""
    names = ["AB-1203", "shirt", "MX 5", "1203"]
    number = dict(zip(names, by_names(names, names).tolist(), strict=True))
    captions = [
        "AB-12030",
        "AB-1203-XL",
        "an AB 1203-XL",
        "XAB-1203",
        "X-AB-1203",
        "t-shirt",
        "shirt-like",
        "MX-50",
        "mx-5-er",
    ]
    assert set(by_names(captions, names).tolist()) == {-1}
    captions = ["AB-1203", "ab 1203, white", "AB_1203", "AB\u20111203", "(AB-1203)", "AB-1203 XL"]
    assert by_names(captions, names).tolist() == [number["AB-1203"]] * 6
    assert Names(names).all_mentioned(["a t-shirt, a shirt, an MX-5 and AB-1203-XL"]) == [
        {number["shirt"], number["MX 5"]}
    ]


def test_names_in_every_script_and_form_are_found() -> None:
    captions = ["一只黑猫的照片", "猫", "un cafe\u0301 noir", "CAF\u00c9", "แมวดำ", "हिन्दी", "हिन्दु", "Acme\u2122 shoe"]
    names = ["猫", "黑猫", "caf\u00e9", "แมว", "हिन्दी", "acme"]
    found = by_names(captions, names).tolist()
    own = by_names(names, names).tolist()
    assert found == [own[1], own[0], own[2], own[2], own[3], own[4], -1, own[5]]


def test_what_only_a_plus_or_a_hash_tells_apart_is_no_one_name() -> None:
    captions = ["my C++ book", "my C# book", "my C book", "C+Java", "C.", "#C"]
    names = ["C++", "C#", "C"]
    own = by_names(names, names).tolist()
    assert len(set(own)) == 3
    assert by_names(captions, names).tolist() == [*own, own[2], own[2], own[2]]


def test_a_list_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="one name a line"):
        by_names(["a"], [" ", ""])


def test_entities_with_one_pair_are_left_out_and_the_others_numbered_anew() -> None:
    assert only_repeated(np.array([7, 3, 7, -1, 9, 9, 9])).tolist() == [0, -1, 0, -1, 1, 1, 1]
    assert only_repeated(np.array([-1, 1, 2])).tolist() == [-1, -1, -1]


def test_the_longest_name_wins_and_of_equals_the_first_whatever_words_they_share() -> None:
    """Against looking for every name at every place."""
    dice = np.random.default_rng(0)
    names = [" ".join(dice.choice(list("abc"), dice.integers(1, 6))) for _ in range(40)]
    texts = [" ".join(dice.choice(list("abcx"), dice.integers(0, 12))) for _ in range(200)]
    numbers = dict(zip(names, by_names(names, names).tolist(), strict=True))

    def slowly(text: str) -> int:
        words = text.split()
        found = [
            (-length, start)
            for length in range(1, len(words) + 1)
            for start in range(len(words) - length + 1)
            if " ".join(words[start : start + length]) in numbers
        ]
        if not found:
            return -1
        length, start = min(found)
        return numbers[" ".join(words[start : start - length])]

    assert by_names(texts, names).tolist() == [slowly(text) for text in texts]
