"""What the evaluation refuses, with a stable code. This module imports nothing.

EvaluationError(code, message)
    the task    task_not_found, task_unknown, task_invalid, task_kind
    its parts   encoder_needed, templates_invalid, classes_invalid, table_columns, nothing_usable
    a world     world_invalid, world_unfinished, world_unknown
    the rest    fusions_differ, k_too_large, memory_empty, dependency_missing, output_refused
"""


class EvaluationError(Exception):
    """Something that cannot be evaluated as it was given.

    Attributes:
        code: stable, lower-case, for programs.
        message: what was wrong, what was expected, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
