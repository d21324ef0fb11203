"""A number and its noun."""

from reco.counted import counted


def test_the_noun_is_in_the_number_that_it_takes() -> None:
    assert [counted(count, "image") for count in (0, 1, 2, 1204)] == ["0 images", "1 image", "2 images", "1,204 images"]
    assert [counted(count, "entity", "entities") for count in (1, 3)] == ["1 entity", "3 entities"]
