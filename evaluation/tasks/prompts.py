"""Class names to class embeddings: every prompt of a set, their mean, normalised again. Imports models' text rules."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.errors import EvaluationError
from models.errors import TextError
from models.texts import check_text

SLOT = "{}"
PROMPT_SETS: dict[str, tuple[str, ...]] = {
    "plain": ("a photo of a {}.",),
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
        plain = template.replace(SLOT, "")
        if template.count(SLOT) != 1 or "{" in plain or "}" in plain:
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
    seen: dict[str, str] = {}
    for name in names:
        try:
            check_text(name)
        except TextError as error:
            raise EvaluationError("classes_invalid", f"The class name {name[:60]!r}: {error.detail}") from error
        folded = " ".join(unicodedata.normalize("NFC", name).casefold().split())
        if folded in seen:
            raise EvaluationError("classes_invalid", f"The classes {seen[folded]!r} and {name!r} have the same name.")
        seen[folded] = name


def compose(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Prompts, class by class: (C · P) texts. `replace`, never `format`: a name is no program."""
    return [template.replace(SLOT, name) for name in names for template in templates]


def mean_by_class(embeddings: np.ndarray, num_templates: int) -> np.ndarray:
    """(C · P, D) unit norm, class by class, to (C, D) float32, unit norm.

    Raises:
        EvaluationError: templates_invalid, if the prompts of a class cancel each other out.
    """
    means = embeddings.reshape(-1, num_templates, embeddings.shape[1]).mean(axis=1)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not (norms > 1e-6).all():
        raise EvaluationError("templates_invalid", "The prompts of a class cancel each other out: use fewer templates.")
    return np.ascontiguousarray(means / norms, dtype=np.float32)
