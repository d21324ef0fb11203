"""Your own vector database stays as it is: a gallery of plain embeddings in Qdrant, asked with refined queries.

    pip install qdrant-client httpx
    python examples/qdrant_gallery.py http://127.0.0.1:8000 photos/ "a photo of a firecrest" "a photo of a wren"

Here Qdrant runs inside this process; with QdrantClient(url=...) it is a server. RECO refines the query only: the
gallery is never embedded again, whatever is added to the memory. A service with keys: RECO_API_KEY.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

GALLERY = "gallery"
BATCH, BATCH_BYTES = 32, 48 << 20  # of a request; the service takes 64 MiB
KEY = os.environ.get("RECO_API_KEY")
HEADERS = {"Authorization": f"Bearer {KEY}"} if KEY else {}


def embed_images(service: str, photos: Sequence[Path]) -> NDArray[np.float32]:
    """Plain embeddings (N, D) of photos, unit norm: what you may have in your database already."""
    parts = []
    for batch in batches(photos):
        files = [("files", photo) for photo in batch]
        answer = httpx.post(
            f"{service}/embed/image", files=files, data={"enhance": "false"}, headers=HEADERS, timeout=60
        )
        parts += [item["embedding"] for item in answer.raise_for_status().json()["data"]]
    return np.array(parts, dtype=np.float32)


def batches(photos: Sequence[Path]) -> Iterator[list[bytes]]:
    """Photos as they are on disk, as many at a time as a request may hold: those of a phone have 3 to 12 MB each."""
    batch: list[bytes] = []
    for photo in photos:
        content = photo.read_bytes()
        if batch and (len(batch) == BATCH or sum(map(len, batch)) + len(content) > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(content)
    if batch:
        yield batch


def embed_text(service: str, text: str, *, enhance: bool) -> list[float]:
    """One text's embedding, refined with the memory or plain."""
    asked = {"texts": [text], "enhance": enhance}
    answer = httpx.post(f"{service}/embed/text", json=asked, headers=HEADERS, timeout=60)
    embedding: list[float] = answer.raise_for_status().json()["data"][0]["embedding"]
    return embedding


def fill(client: QdrantClient, service: str, photos: Sequence[Path]) -> None:
    """Put the photos' plain embeddings into a collection."""
    vectors = embed_images(service, photos)
    client.create_collection(GALLERY, vectors_config=VectorParams(size=vectors.shape[1], distance=Distance.COSINE))
    points = [
        PointStruct(id=number, vector=vector.tolist(), payload={"photo": str(photo)})
        for number, (photo, vector) in enumerate(zip(photos, vectors, strict=True))
    ]
    client.upsert(GALLERY, points)


def search(client: QdrantClient, vector: list[float], limit: int = 5) -> list[tuple[str, float]]:
    """The nearest photos, best first, with their cosines."""
    found = client.query_points(GALLERY, query=vector, limit=limit).points
    return [(str((point.payload or {})["photo"]), point.score) for point in found]


if __name__ == "__main__":
    service, folder, *texts = sys.argv[1:]
    client = QdrantClient(":memory:")
    fill(client, service, sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".png")))
    for title, enhance in (("plain query", False), ("refined query, same gallery", True)):
        print(title)
        for text in texts:
            print(f"  {text}")
            for photo, cosine in search(client, embed_text(service, text, enhance=enhance)):
                print(f"    {cosine:.3f}  {photo}")
