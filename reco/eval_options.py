"""Options that the asked form of `reco eval` would ignore are refused: who gives one expects it to count."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from reco.console import stop

if TYPE_CHECKING:
    from evaluation.tasks import EvalTask

FEWEST_RESAMPLES = 100  # of fewer, hardly two are beyond the bounds of 95 %
_OF_ABLATIONS = ("seeds", "quick")
_OF_LABELS = ("templates", "classes", "unseen")
_OF_EITHER = ("output", "bootstrap", "as_json", "ablations")


def given_options(context: typer.Context) -> dict[str, str]:
    """The options of the command line, not of the environment: each by its parameter, as `reco --help` has it."""
    return {
        one.name: one.opts[0]
        for one in context.command.params
        if one.name and one.param_type_name == "option" and _told(context, one.name)
    }


def refuse_unused(given: Mapping[str, str], *, ablations: bool, output: bool) -> None:
    """End the command where an option was given that the others make useless."""
    if ablations:
        useless = [flag for name, flag in given.items() if name not in (*_OF_ABLATIONS, *_OF_EITHER)]
        if useless:
            stop(f"--ablations has settings of its own, and no use for {', '.join(useless)}: leave it out", code=2)
        return
    useless = [given[name] for name in _OF_ABLATIONS if name in given]
    if useless:
        stop(f"{' and '.join(useless)}: for --ablations only; the seeds of an evaluation are its fusions", code=2)
    if "show" in given and not output:
        stop("--show chooses what plots and gallery show: name their folder with -o, or leave it out", code=2)


def refuse_kinds(tasks: "list[EvalTask]", given: Mapping[str, str], *, query_only: bool, without_unseen: bool) -> None:
    """End the command where an option is for tasks of another kind."""
    useless = [given[name] for name in _OF_LABELS if name in given]
    if useless and all(task.kind == "retrieval" for task in tasks):
        stop(f"{' and '.join(useless)}: for classifications only, and every task here is a retrieval: leave it out", 2)
    for task in tasks:
        if query_only and task.kind != "retrieval":
            stop(f"--query-only is for retrieval tasks, and {task.name} is one of {task.kind}: leave it out", code=2)
    if without_unseen and all(task.kind != "entities" for task in tasks):
        stop("--without-unseen is for tasks with unseen entities: name them with --unseen, or in unseen_class", code=2)


def _told(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
