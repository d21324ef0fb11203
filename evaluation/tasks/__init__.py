"""What is evaluated, read from disk: cached embeddings, or raw images with labels or captions. One file a form.

Every form becomes an `EvalTask`: the arrays, and what a person needs to recognise a row of them.
"""

from evaluation.forms import KINDS, Kind, is_raw
from evaluation.tasks.opening import open_task, with_different_names
from evaluation.tasks.raw import RawOptions
from evaluation.tasks.task import EvalTask

__all__ = ["KINDS", "EvalTask", "Kind", "RawOptions", "is_raw", "open_task", "with_different_names"]
