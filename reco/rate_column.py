"""A column of a progress bar: items a second. Loaded with the first bar, for rich's bars take time to import."""

from rich.progress import ProgressColumn, Task
from rich.text import Text


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """The rate of one task, or a dash before there is any."""
        speed = task.finished_speed or task.speed
        if speed is None and task.finished and task.elapsed:  # it was over before there was a second report
            speed = task.completed / task.elapsed
        return Text("–" if speed is None else f"{speed:,.0f}/s", style="cyan")
