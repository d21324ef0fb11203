"""`reco serve`: the HTTP service."""

from contextlib import suppress
from typing import Annotated, Any

import typer


def serve(
    memory: Annotated[str | None, typer.Option(help="The memory to search.  [RECO_MEMORY]")] = None,
    fusion: Annotated[str | None, typer.Option(help="The fusion checkpoint.  [RECO_FUSION]")] = None,
    model: Annotated[str | None, typer.Option(help="open_clip architecture or model directory.  [RECO_MODEL]")] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="open_clip pretrained tag, for an architecture.  [RECO_PRETRAINED]")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="faiss, or milvus: then --memory is its name there.  [RECO_BACKEND]")
    ] = None,
    uri: Annotated[str | None, typer.Option(help="Of Milvus.  [RECO_MILVUS_URI]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [RECO_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [RECO_PORT]")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps or auto.  [RECO_DEVICE]")] = None,
) -> None:
    """Serve refined embeddings over HTTP.

    Every setting is a RECO_* variable; the common ones are options too, and an option wins. RECO_SHOW_CONFIG=1 prints
    all settings and exits. Example:

        reco serve --model ViT-B-32 --pretrained openai --memory my-memory --fusion my-fusion
    """
    from service.serving import run
    from service.settings import load_settings

    given: dict[str, Any] = {
        "memory": memory,
        "fusion": fusion,
        "model": model,
        "pretrained": pretrained,
        "backend": backend,
        "milvus_uri": uri,
        "host": host,
        "port": port,
        "device": device,
    }
    with suppress(KeyboardInterrupt):  # Ctrl-C ends a server as it is meant to end
        run(load_settings(**{name: value for name, value in given.items() if value is not None}))
