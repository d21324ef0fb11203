"""Class names in templates: one set of rules for the service, the evaluation and the demo. numpy only.

Shapes: C classes, P templates, D embedding dim.
"""

import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import EncoderError

SLOT: Final = "{}"
DEFAULT_TEMPLATES: Final = ("a photo of a {}.",)
_LEAST_NORM: Final = 1e-6  # of a mean of unit vectors: below, float32 leaves no direction


def is_template(text: str) -> bool:
    """Whether a text has exactly one {}, and no other brace."""
    rest = text.replace(SLOT, "")
    return text.count(SLOT) == 1 and "{" not in rest and "}" not in rest


def compose(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Prompts, class by class: (C · P) texts. `replace`, never `format`: a name is no program."""
    return [template.replace(SLOT, name) for name in names for template in templates]


def repeated(names: Sequence[str]) -> list[tuple[int, int]]:
    """Places of the names that are an earlier one but for case, spaces and Unicode form, each with the earlier place.

    Twice the same class would share its probability between two rows of an answer.
    """
    first: dict[str, int] = {}
    found = []
    for place, name in enumerate(names):
        plain = " ".join(unicodedata.normalize("NFC", name).casefold().split())
        earlier = first.setdefault(plain, place)
        if earlier != place:
            found.append((place, earlier))
    return found


def class_means(embeddings: NDArray[np.float32], num_templates: int) -> NDArray[np.float32]:
    """Prompts' embeddings (C · P, D), class by class, to class embeddings (C, D) float32, unit norm.

    Raises:
        EncoderError: nonfinite_embedding, if the prompts of a class cancel each other out; `rows` names the classes.
    """
    means = embeddings.reshape(-1, num_templates, embeddings.shape[1]).mean(axis=1)  # (C, D)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    lost = np.flatnonzero(~(norms[:, 0] > _LEAST_NORM))  # written so that NaN is lost, too
    if lost.size:
        raise EncoderError("nonfinite_embedding", "the prompts of a class cancel each other out", lost.tolist())
    return np.ascontiguousarray(means / norms, dtype=np.float32)
