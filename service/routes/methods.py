"""What a path answers to: HEAD wherever GET, and whoever comes with another method is told all that it takes.

Depends on FastAPI and starlette only.
"""

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import Match, Route


def answer_head(group: APIRouter) -> None:
    """Give every route of a group that answers GET a twin for HEAD; the server leaves the body out.

    A twin, and not a second method of the same route: the document would have both, under one operation id.
    """
    for route in list(group.routes):
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            group.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                include_in_schema=False,
                response_model=None,
                response_class=route.response_class,
            )


def methods_at(groups: Sequence[APIRouter], request: Request) -> list[str]:
    """All that the path of a request answers to, sorted."""
    routes = (route for group in groups for route in group.routes if isinstance(route, Route))
    fitting = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in fitting for method in route.methods or ()})
