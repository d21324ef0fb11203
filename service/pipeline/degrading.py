"""When the memory is away: one answer is either refined throughout or plain throughout, and says which. No HTTP.

Depends on engine's dataclasses and pipeline's outcomes.
"""

from collections.abc import Sequence
from dataclasses import replace

from service.pipeline.engine import Answer
from service.pipeline.pipeline import Outcome


def plain_if_degraded(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], bool]:
    """The outcomes, and whether the memory was away for one of them: then all are the frozen encoder's.

    Items of one request may be computed in several batches, and the memory may go away between two of these.
    """
    if not any(isinstance(outcome, Answer) and outcome.degraded for outcome in outcomes):
        return list(outcomes), False
    plain = [
        replace(outcome, refined=None, found=None) if isinstance(outcome, Answer) else outcome for outcome in outcomes
    ]
    return plain, True
