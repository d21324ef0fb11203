"""Columns of a progress bar: items a second, and time. Loaded with the first bar, for rich takes time to import."""

from datetime import timedelta

from rich.progress import ProgressColumn, Task
from rich.text import Text

_LEAST_S, _LEAST_ITEMS = 1.0, 4  # of less, a rate tells of the clock: three items in no time are no 12,345/s


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """The rate of one task, or a dash while there is none to speak of."""
        speed, seconds = task.finished_speed or task.speed, task.elapsed or 0.0
        if speed is None and task.finished and seconds:  # it was over before there was a second report
            speed = task.completed / seconds
        if speed is None or seconds < _LEAST_S or task.completed < _LEAST_ITEMS:
            return Text("–", style="cyan")
        return Text(f"{speed:,.1f}/s" if speed < 10 else f"{speed:,.0f}/s", style="cyan")


class TimeColumn(ProgressColumn):
    """The time that is left, or of what is over the time that it took."""

    def render(self, task: Task) -> Text:
        """Hours, minutes and seconds; a dash while the time left is not known."""
        seconds = task.finished_time if task.finished else task.time_remaining
        told = "-:--:--" if seconds is None else str(timedelta(seconds=int(seconds)))
        return Text(told if task.finished else f"{told} left", style="cyan")
