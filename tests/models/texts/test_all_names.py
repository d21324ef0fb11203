"""All names that a text mentions."""

from models.texts.names import Names


def test_every_name_is_found_but_for_the_parts_of_longer_ones() -> None:
    names = ["wren", "rock wren", "firecrest", "wren of the rock", "the rock"]
    numbers = Names(names)
    place = dict(zip(names, numbers.mentioned(names).tolist(), strict=True))
    texts = {
        "A wren beside a firecrest": {"wren", "firecrest"},
        "a firecrest, a ROCK WREN": {"firecrest", "rock wren"},
        "a wren and a rock wren": {"wren", "rock wren"},
        "the wren of the rock": {"wren of the rock"},
        "the rock wren": {"the rock", "rock wren"},
        "nobody": set[str](),
        "": set[str](),
    }
    assert numbers.all_mentioned(list(texts)) == [{place[name] for name in found} for found in texts.values()]
