"""Which web pages of other origins may ask, and which headers of an answer their scripts may read.

A browser asks first (a preflight, without a key), so this stands before the door. Depends on starlette and settings.
"""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service.setting_checks import origins_of
from service.settings import Settings

_READ = (
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "X-Reco-Degraded",
    "X-Reco-Fusion",
    "X-Reco-Memory-Version",
    "X-Reco-Model",
    "X-Reco-Space",
    "X-Reco-Truncated",
    "X-Request-ID",
)


def let_origins_in(app: FastAPI, settings: Settings) -> None:
    """Answer preflights and mark answers for the origins of the settings; without any, no page of another is let in."""
    origins = origins_of(settings.cors_origins)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("DELETE", "GET", "HEAD", "POST", "PUT"),
            allow_headers=("*",),  # OpenAI's client sends a dozen of its own, tracing some; none does harm
            expose_headers=_READ,
        )
