"""The rate of a progress bar: none where it would be the clock's."""

import pytest
from rich.progress import Task

from reco.rate_column import RateColumn


def rate(completed: int, seconds: float, *, total: int = 100_000) -> str:
    clock = iter([0.0, *[seconds] * 10])
    task = Task(0, "encoding", total, completed, _get_time=lambda: next(clock))  # type: ignore[arg-type]
    task.start_time = next(clock)
    if completed >= total:
        task.finished_time = seconds
    return RateColumn().render(task).plain


@pytest.mark.parametrize(("completed", "seconds"), [(3, 0.0002), (1488, 0.0002), (900, 0.9), (3, 5.0), (0, 3.0)])
def test_little_in_no_time_has_no_rate(completed: int, seconds: float) -> None:
    assert rate(completed, seconds, total=max(completed, 1)) == "–"


def test_much_in_a_while_has_one() -> None:
    assert rate(1500, 2.0, total=1500) == "750/s"
    assert rate(9, 2.0, total=9) == "4.5/s"
