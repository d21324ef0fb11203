"""`reco doctor`: what this machine and these settings have and lack, and what to do about it."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reco.console import console, loading
from reco.counted import counted
from reco.listening import who_serves, why_not

if TYPE_CHECKING:
    from reco.machine import Finding
    from service.settings import Settings

_SIGNS = {"good": "[green]✓[/]", "note": "[yellow]•[/]", "bad": "[red]✗[/]"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For machines: a list on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not good.")] = False,
) -> None:
    """Look at this machine and these settings, and say what to do.

    Looks at versions, GPU, memory, disk, the RECO_* settings of this shell, and, where they name them, at the memory,
    the fusion, the keys and the port of `reco serve`. Changes nothing. Exit code 1 if something stands in the way.
    Examples:

        reco doctor

        RECO_MODEL=path/to/model RECO_MEMORY=my-memory RECO_FUSION=my-fusion reco doctor --quiet
    """
    if not quiet:
        loading("torch, which knows the devices")
    from reco.machine import look_at_machine

    found = [*look_at_machine(), *_look_at_settings()]
    shown = [one for one in found if not quiet or one.state != "good"]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in shown], indent=2))
    else:
        _show(shown)
    raise typer.Exit(any(one.state == "bad" for one in found))


def _show(findings: "list[Finding]") -> None:
    from rich.console import Console
    from rich.markup import escape

    out = Console(highlight=False, soft_wrap=True)
    width = max((len(one.what) for one in findings), default=0)
    for one in findings:
        out.print(f"{_SIGNS[one.state]} {one.what.ljust(width)}  {escape(one.told)}")
        if one.advice:
            out.print(f"  {' ' * width}  [cyan]{escape(one.advice)}[/]")
    if not findings:
        console.print("Nothing stands in the way.")


def _look_at_settings() -> "Iterator[Finding]":
    from reco.machine import Finding
    from service.environment import load_settings
    from service.settings import SettingsError

    if model := os.environ.get("RECO_MODEL"):
        yield _look_at_model(model)
    if not os.environ.get("RECO_MEMORY"):
        advice = "`reco demo` makes one; for your own: `reco build`, then RECO_MODEL, RECO_MEMORY and RECO_FUSION."
        yield Finding("settings", "note", "no RECO_MEMORY in this shell: there is none to look at", advice)
        return
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding("settings", "bad", str(error), "Every setting is in docs/settings.md.")
        return
    yield Finding("settings", "good", "accepted")
    yield from _look_at_memory(settings)
    yield _look_at_keys(settings)
    yield _look_at_port(settings.host, settings.port)


def _look_at_model(model: str) -> "Finding":
    """The files of a model directory; nothing is loaded, and nothing asked of an architecture's weights."""
    from models.errors import EncoderError
    from models.sources.config import WEIGHTS_NAME, weights_missing
    from reco.machine import Finding
    from reco.model_files import check_model

    directory = Path(model).expanduser()
    try:
        check_model(model)
        if not directory.is_dir():
            return Finding("RECO_MODEL", "good", f"{model}: an architecture of open_clip")
        if not (directory / WEIGHTS_NAME).is_file():
            raise weights_missing(directory)
    except EncoderError as error:
        return Finding("RECO_MODEL", "bad", error.message, "docs/choosing.md says what to name.")
    return Finding("RECO_MODEL", "good", f"{model}: its configuration and weights are there")


def _look_at_memory(settings: "Settings") -> "Iterator[Finding]":
    """The memory where it is kept, the fusion's files, and whether both are of one encoder; no model is loaded."""
    from memory import encoder_of
    from models.checkpoint import load_fusion
    from reco.machine import Finding
    from service.served_memory import open_served

    try:
        where = open_served(settings)
        with closing(where) as memory:
            encoder, version, items = memory.encoder, memory.version, memory.num_items
            name = encoder_of(memory)
        told = f"{settings.memory}, version {version}, {counted(items, 'item')} of {name}"
        yield Finding("RECO_MEMORY", "good", told)
    except Exception as error:
        advice = "`reco memory verify` looks closer; `reco build` makes one."
        if settings.backend == "milvus":
            advice = "`reco memory push` makes one in Milvus: docs/milvus.md."
        yield Finding("RECO_MEMORY", "bad", _sentence(error), advice)
        return
    if settings.fusion is None:
        yield Finding("RECO_FUSION", "note", "not set: answers are the frozen encoder's", "`reco train` makes one.")
        return
    try:
        load_fusion(Path(settings.fusion), encoder)
        yield Finding("RECO_FUSION", "good", f"{settings.fusion}, trained for the memory's encoder")
    except Exception as error:
        yield Finding("RECO_FUSION", "bad", _sentence(error), "`reco train` makes one for this memory.")


def _look_at_keys(settings: "Settings") -> "Finding":
    from reco.machine import Finding
    from service.door.keys import read_keys
    from service.settings import SettingsError

    if settings.api_keys or settings.api_keys_file:
        try:
            keys = read_keys(settings)
        except SettingsError as error:
            return Finding("keys", "bad", str(error), "`reco key new` makes a key: docs/operations.md.")
        if keys.opens("use"):
            also = "" if keys.opens("operator") else "; none of them operates the service"
            return Finding("keys", "good", f"a request needs one of yours{also}")
        if not settings.listens_beyond_loopback:
            return Finding("keys", "good", "one to operate it; to use it takes none, and only this machine reaches it")
    if settings.listens_beyond_loopback:
        advice = "Set keys, or put a proxy that has them in front: docs/operations.md."
        return Finding("keys", "bad", f"none, and {settings.host} is open to others", advice)
    return Finding("keys", "good", f"none, and only this machine reaches {settings.host}")


def _look_at_port(host: str, port: int) -> "Finding":
    from reco.machine import Finding

    name = f"port {port}"
    if (reason := why_not(host, port)) is None:
        return Finding(name, "good", "free")
    if (served := who_serves(host, port)) is not None:
        return Finding(name, "good", served, "For another one beside it choose a port: RECO_PORT or --port.")
    advice = "Something else than RECO listens there, or RECO may not: choose another with RECO_PORT or --port."
    return Finding(name, "bad", f"cannot be taken: {reason}", advice)


def _sentence(error: Exception) -> str:
    code = getattr(error, "code", None)
    message = str(getattr(error, "message", error))
    return f"{code}: {message}" if isinstance(code, str) else message
