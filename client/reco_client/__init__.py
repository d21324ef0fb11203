"""The Python client of RECO: images and texts in, numpy out, in order, however many.

    from reco_client import Client

    with Client("http://127.0.0.1:8000") as client:
        photos = client.embed_images(["a.jpg", "b.png"])       # photos.vectors: (2, D) float32, unit norm
        captions = client.embed_texts(["a puffin", "a gull"])
        print(photos.vectors @ captions.vectors.T)

Needs httpx and numpy; nothing of the service is imported.
"""

from reco_client.async_client import AsyncClient
from reco_client.client import Client
from reco_client.errors import (
    AnswerInvalid,
    APIError,
    ConnectionFailed,
    Degraded,
    NotAuthorised,
    Overloaded,
    RecoError,
    RequestRefused,
    ServiceFailed,
    SpaceChanged,
)
from reco_client.images import ImageSource
from reco_client.results import Classification, Classifications, Embeddings, ItemError, LabelScore, Neighbour, Scores
from reco_client.retries import Retries
from reco_client.version import __version__

__all__ = [
    "APIError",
    "AnswerInvalid",
    "AsyncClient",
    "Classification",
    "Classifications",
    "Client",
    "ConnectionFailed",
    "Degraded",
    "Embeddings",
    "ImageSource",
    "ItemError",
    "LabelScore",
    "Neighbour",
    "NotAuthorised",
    "Overloaded",
    "RecoError",
    "RequestRefused",
    "Retries",
    "Scores",
    "ServiceFailed",
    "SpaceChanged",
    "__version__",
]
