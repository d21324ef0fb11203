"""What can be asked for beside the inputs. An option that is not given is the service's to choose.

Standard library only.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

OnError = Literal["fail", "partial"]
Enhance = Literal["both", "image", "text", "none"]


class EmbedOptions(TypedDict, total=False):
    """For embeddings.

    Attributes:
        enhance: refine with the memory; by default, if the service has a fusion.
        k: neighbours a query; by default the fusion's own number.
        return_original: add the frozen encoder's embeddings.
        return_neighbours: add what was found in the memory.
        on_error: "partial": what cannot be embedded is a row of NaN and an entry of `errors`; else the call fails.
    """

    enhance: bool
    k: int
    return_original: bool
    return_neighbours: bool
    on_error: OnError


class ClassifyOptions(TypedDict, total=False):
    """For classification; either `labels` or `label_set` is needed.

    Attributes:
        labels: what the images are told apart by.
        label_set: the name of a label set of the service.
        templates: prompts with {} for the label; their embeddings are averaged.
        enhance: which side is refined; both, if the service has a fusion.
        k: neighbours a query; by default the fusion's own number.
        top_k: only the best labels, in `top`.
        compare: add the frozen encoder's answer, in `original`.
        on_error: "partial": what cannot be classified has an `error`; else the call fails.
    """

    labels: Sequence[str]
    label_set: str
    templates: Sequence[str]
    enhance: Enhance
    k: int
    top_k: int
    compare: bool
    on_error: OnError


def check_options(options: Mapping[str, Any], of: type) -> None:
    """Name a misspelt option; the service would only say that there is one.

    Args:
        of: EmbedOptions or ClassifyOptions.

    Raises:
        TypeError: an option that is none of them.
    """
    known = of.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"there is no option {name!r} here; there are {', '.join(known)}")


def listed_labels(name: str, words: Iterable[str]) -> list[str]:
    """Labels or templates as a list.

    Raises:
        TypeError: one string, which would be taken for a list of its letters.
    """
    if isinstance(words, str):
        raise TypeError(f"{name} are a list of strings, not one string")
    return list(words)
