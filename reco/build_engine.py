"""`reco build --engine ray`: which machines do the units of a build."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from reco.console import console, stop

if TYPE_CHECKING:
    from memory_builder import BuildConfig
    from memory_builder.engines import Engine
    from models.encoder import Encoder

_PANEL = "Several machines"
ENGINES = ("local", "ray")

EngineName = Annotated[
    str,
    typer.Option(
        help="local: this process. ray: the machines of a Ray cluster (extra `ray`), which see corpus and memory under "
        "the same paths.",
        metavar="NAME",
        rich_help_panel=_PANEL,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT of the cluster's head, or auto on one of its machines; by default a Ray is started here.",
        metavar="ADDRESS",
        rich_help_panel=_PANEL,
    ),
]


def check_engine(engine: str, address: str | None, *, alone: bool) -> None:
    """Refuse what cannot be meant; `alone` where nothing else is asked for that another machine cannot do."""
    if engine not in ENGINES:
        stop(f"--engine is {engine!r}: it is one of {', '.join(ENGINES)}", code=2)
    if address is not None and engine != "ray":
        stop("--ray-address is for --engine ray", code=2)
    if engine == "ray" and not alone:
        stop("--engine ray encodes a corpus: leave --plan, --worker and --embeddings out", code=2)


@contextmanager
def opened_engine(
    name: str, address: str | None, config: "BuildConfig", source: tuple[str, str | None], encoder: "Encoder"
) -> "Iterator[Engine | None]":
    """The engine that was named, connected; None is this process. `source` is what the encoder was opened from."""
    if name == "local":
        yield None
        return
    from memory_builder.engines.ray import EncoderSource, RayEngine, connected

    model, pretrained = source
    console.print(f"connecting to Ray at {address}" if address else "starting a Ray on this machine")
    with connected(address, cpus=config.workers):
        device = encoder.device.partition(":")[0]  # a machine's GPUs are numbered by Ray
        source_there = EncoderSource(model, pretrained, device, encoder.dtype)
        yield RayEngine(config, source_there, encoder.fingerprint.record(), console.print)
