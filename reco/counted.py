"""Counted nouns for people: `1 image`, `1,204 images`. Imports nothing."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun in the number that it takes.

    Args:
        noun: in the singular.
        plural: where it is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
