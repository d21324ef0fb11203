"""`reco build --worker I/N`: one of several machines that share a build (Slurm arrays, Kubernetes jobs)."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.acknowledging import acknowledging
from reco.console import BuildProgress, console, stop
from reco.counted import counted

if TYPE_CHECKING:
    from memory_builder import BuildConfig
    from models.encoder import Encoder

STOPPING = "stopping, once the batches under way are done and kept; Ctrl-C again stops at once"

Worker = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Encode only the I-th of N shares, I from 0, beside other workers on a shared file system. When all have "
        "ended, the same command without --worker finishes and commits.",
        rich_help_panel="Several machines",
    ),
]


def build_a_share(config: "BuildConfig", worker: str, open_encoder: "Callable[[], Encoder]") -> dict[str, Any]:
    """Finish a worker's share, and say what comes next; what was done, for programs."""
    from memory_builder import BuildInterrupted, ConfigError, Share, build_share

    try:
        share = Share.parse(worker)
    except ConfigError as error:
        stop(str(error), code=2)
    try:
        with acknowledging(STOPPING):
            done = build_share(config, open_encoder(), share, BuildProgress())
    except BuildInterrupted as interrupted:
        stop(f"{interrupted}", code=128 + interrupted.signal)
    console.print(
        f"worker {worker}: its share is {done.units:,} of {counted(done.units_of_all, 'unit')}, all finished, "
        f"{done.units - done.units_resumed:,} of them now; nothing is published yet",
        soft_wrap=True,
    )
    console.print("next, when all workers have ended: the same command without --worker", soft_wrap=True)
    return asdict(done)
