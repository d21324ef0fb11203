"""Refusing on the connection itself: what a service that has more to do than it can is asked most.

A request of a full service would otherwise get a task and pass every layer in front of the door, to be told what its
method and path alone decide. Beside threads that compute that takes the event loop a fifth longer, and at ten times the
capacity they do a twentieth less meanwhile. Whatever else could come first, or be added to the answer, goes through the
layers. Depends on the door's other files and problems.
"""

from starlette.datastructures import Headers
from starlette.types import Scope

from service.door.access import Access
from service.door.shedding import QUEUES, RefuseIfFull
from service.door.turns import Turns
from service.problems import REJECTIONS, Problem


class AtOnce:
    """What one service refuses before it has a task. Of one event loop; not for threads."""

    def __init__(self, access: Access, refuse_if_full: RefuseIfFull, turns: Turns, *, in_layers: bool) -> None:
        """Refuse nothing yet.

        Args:
            access: keys and limits.
            refuse_if_full: as for `Door`.
            turns: of those let in.
            in_layers: whether layers before the door add to answers, and so none is given without them.
        """
        self._access = access
        self._refuse_if_full = refuse_if_full
        self._turns = turns
        self._in_layers = in_layers

    def problem(self, scope: Scope) -> Problem | None:
        """Why a request is refused, by its head; None lets it into the app, to be refused there or not.

        Args:
            scope: of the request. The name of its key is noted, for the log line.
        """
        queues = QUEUES.get(scope["path"])
        if queues is None or scope["method"] != "POST" or self._in_layers:
            return None
        try:
            self._refuse_if_full(*queues, coming=self._turns.coming)
        except Problem as problem:
            return problem if problem.code in REJECTIONS and self._comes_first(scope) else None
        return None

    def _comes_first(self, scope: Scope) -> bool:
        """Whether the door would say nothing else before it, and add nothing."""
        access, path = self._access, scope["path"]
        needed, inside = access.scope_of(scope["method"], path), access.is_operator_port(scope)
        if inside or access.is_elsewhere(needed, path, operator_port=inside):
            return False
        try:
            key = access.check(needed, Headers(scope=scope))
        except Problem:
            return False
        limits = access.limits_of(key)
        scope["state"]["key"] = None if key is None else key.name
        return limits.rate is None and limits.concurrency is None
