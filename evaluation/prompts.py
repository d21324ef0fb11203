"""What a task takes for prompts and class names: sets and files of templates, and which names are refused."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.errors import EvaluationError
from models.errors import TextError
from models.texts.checking import check_text
from models.texts.prompts import DEFAULT_TEMPLATES, SLOT, is_template, repeated

PROMPT_SETS: dict[str, tuple[str, ...]] = {
    "plain": DEFAULT_TEMPLATES,
    "general": (
        "a photo of a {}.",
        "a photo of the {}.",
        "a close-up photo of a {}.",
        "a cropped photo of a {}.",
        "a good photo of a {}.",
        "a photo of the small {}.",
        "a photo of the large {}.",
    ),
}


def load_templates(name: str) -> tuple[str, ...]:
    """A built-in set, or the templates of a file, one a line.

    Raises:
        EvaluationError: templates_invalid.
    """
    if name in PROMPT_SETS:
        return PROMPT_SETS[name]
    templates = tuple(read_lines(Path(name), "templates_invalid", f"a prompt set ({', '.join(PROMPT_SETS)}) or a file"))
    for number, template in enumerate(templates, start=1):
        if not is_template(template):
            raise EvaluationError(
                "templates_invalid", f"{name}: template {number} is not a text with one {SLOT} in it."
            )
    return templates


def read_lines(path: Path, code: str, expected: str) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        EvaluationError: with `code`; no such file, not UTF-8, or nothing in it.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise EvaluationError(code, f"{path} is not {expected}: it cannot be read as text.") from error
    if not lines:
        raise EvaluationError(code, f"{path} is empty: write one a line.")
    return lines


def check_names(names: Sequence[str]) -> None:
    """Refuse class names that no encoder takes, and two that are the same.

    Raises:
        EvaluationError: classes_invalid.
    """
    for name in names:
        try:
            check_text(name)
        except TextError as error:
            raise EvaluationError("classes_invalid", f"The class name {name[:60]!r}: {error.detail}") from error
    for place, earlier in repeated(names)[:1]:
        told = f"The classes {names[earlier]!r} and {names[place]!r} have the same name."
        raise EvaluationError("classes_invalid", told)
