"""A route whose handler takes the request and gives the response, as those that compute do.

FastAPI then has nothing to solve, to validate or to serialise, and its steps for that are left out.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


class DirectRoute(APIRoute):
    """Asks its handler and nobody else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler itself."""
        return self.endpoint
