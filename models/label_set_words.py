"""Why a memory may have no weight for a set of labels, in the words of every command that says so. Imports nothing."""

from typing import Final

# Shares of labels that have nothing in the memory: below the one full weight, above the other none.
FEW_UNKNOWN: Final = 0.10
MANY_UNKNOWN: Final = 0.25
RULE: Final = (
    f"From {FEW_UNKNOWN:.0%} of labels that the memory does not know its weight shrinks, for all of them, and from "
    f"{MANY_UNKNOWN:.0%} on there is none"
)


def no_weight(unknown: float) -> str:
    """A sentence for labels of which each answer is the frozen encoder's; `unknown` is the share, 0 to 1."""
    sentence = "The memory gets no weight for these labels, so each answer is the frozen encoder's: "
    if unknown < MANY_UNKNOWN:
        return f"{sentence}the pairs it finds do not tell the labels apart."
    return (
        f"{sentence}for {unknown:.0%} of them the pairs it finds are not theirs (unknown_labels {unknown:.2f}). {RULE}."
    )
