"""`reco serve`: the HTTP service."""

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from reco.console import loading, stop
from reco.listening import who_serves, why_not

_OPTIONS = {"milvus_uri": "--uri"}  # where an option is not called as its setting


def serve(
    memory: Annotated[
        str | None, typer.Option(help="The memory to search, or its address in a store.  [RECO_MEMORY]")
    ] = None,
    fusion: Annotated[str | None, typer.Option(help="The fusion checkpoint.  [RECO_FUSION]")] = None,
    model: Annotated[str | None, typer.Option(help="open_clip architecture or model directory.  [RECO_MODEL]")] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="open_clip pretrained tag, for an architecture.  [RECO_PRETRAINED]")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="faiss, or milvus: then --memory is its name there.  [RECO_BACKEND]")
    ] = None,
    uri: Annotated[str | None, typer.Option(help="Of Milvus.  [RECO_MILVUS_URI]")] = None,
    allow_remote: Annotated[
        str | None,
        typer.Option(help="Kinds of object stores that --memory may name, like s3.  [RECO_ALLOW_REMOTE]"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [RECO_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [RECO_PORT]")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto.  [RECO_DEVICE]")] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print all settings, secrets masked, and exit.  [RECO_SHOW_CONFIG]")
    ] = False,
) -> None:
    """Serve refined embeddings over HTTP.

    Every setting is a RECO_* variable (docs/settings.md); the common ones are options too, and an option wins. SIGHUP
    opens a newer memory or fusion, SIGTERM drains. Example:

        reco serve --model ViT-B-32 --pretrained openai --memory my-memory --fusion my-fusion
    """
    from models.cores import wait_briefly

    wait_briefly()
    from service.environment import SHOW_CONFIG, load_settings, show_settings

    given: dict[str, Any] = {
        "memory": memory,
        "fusion": fusion,
        "model": model,
        "pretrained": pretrained,
        "backend": backend,
        "milvus_uri": uri,
        "allow_remote": allow_remote,
        "host": host,
        "port": port,
        "device": device,
    }
    settings = load_settings(
        options={name: _OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in given}, **given
    )
    if show_config or os.environ.get(SHOW_CONFIG, "") not in ("", "0", "false"):
        typer.echo(show_settings(settings))
        return
    if (reason := why_not(settings.host, settings.port)) is not None:  # before everything is loaded, for seconds
        where = f"{settings.host}, port {settings.port}"
        known = who_serves(settings.host, settings.port)
        told = reason if known is None else f"{reason} ({known})"
        stop(f"nothing can listen on {where}: {told}; choose another with --port (RECO_PORT)")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the service hears it: the newest is what is loaded now
    _say_loading(settings.log_format)
    from service.serving import run

    with suppress(KeyboardInterrupt):  # Ctrl-C ends a server as it is meant to end
        run(settings)


def _say_loading(log_format: str) -> None:
    """Say what takes seconds now; a log of JSON has only lines of JSON."""
    what = "torch, the encoder and the memory"
    if log_format == "text":
        loading(what)
        return
    from service.observing.logs import json_line

    with suppress(OSError):  # as in `loading`
        sys.stderr.write(f"{json_line('reco.serving', f'loading {what}')}\n")
