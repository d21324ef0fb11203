"""Refusing before anything is read: a request of a route that computes, when there is no room for what it would ask.

Judged by method and path alone: a server that has more to do than it can must not take requests apart to say so. Who is
let in waits for a turn. Depends on the pipeline's words, problems and turns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Scope

from memory import Modality
from service.door.turns import Turns
from service.pipeline.batch import LANES

# Which queues a route fills; with room in any of them a request is let in, for what it holds is in its body.
_QUEUES: Mapping[str, tuple[Modality, ...]] = {
    "/embed/image": ("image",),
    "/embed/text": ("text",),
    "/classify": ("image",),
    "/v1/embeddings": LANES,
}


@dataclass(frozen=True)
class Endpoint:
    """What the log line and the metrics name, where no route was asked: it stands in for FastAPI's."""

    path: str
    tags: tuple[str, ...] = ()


_ENDPOINTS: Mapping[str, Endpoint] = {path: Endpoint(path) for path in _QUEUES}


class RefuseIfFull(Protocol):
    """See `Pipeline.refuse_if_full`."""

    def __call__(self, *modalities: Modality, coming: Mapping[Modality, int]) -> None: ...


async def shed(scope: Scope, refuse_if_full: RefuseIfFull, turns: Turns) -> None:
    """Let a request pass when its turn comes, or refuse it now.

    Args:
        scope: of the request; a refused one is marked with its endpoint.
        refuse_if_full: the pipeline's own, told the queues and how many are coming to each.
        turns: of those let in.

    Raises:
        Problem: queue_full, not_ready.
    """
    path = scope["path"]
    queues = _QUEUES.get(path)
    if queues is None or scope["method"] != "POST":
        return
    scope["route"] = _ENDPOINTS[path]
    refuse_if_full(*queues, coming=turns.coming)
    del scope["route"]
    await turns.take(queues)
