"""RECO's embeddings in LangChain, through the OpenAI class that it has already.

    pip install langchain-openai
    python examples/langchain_embeddings.py http://127.0.0.1:8000

`check_embedding_ctx_length=False` makes LangChain send texts; otherwise it sends the token numbers of another model's
tokenizer, which RECO refuses (`token_ids_unsupported`). `NAME:plain` is the frozen encoder: what a gallery holds.
A service with keys: RECO_API_KEY.
"""

import os
import sys

import httpx
import numpy as np
from langchain_openai import OpenAIEmbeddings


def embeddings(service: str, *, plain: bool = False) -> OpenAIEmbeddings:
    """An embeddings class for a RECO service; `plain` asks the frozen encoder."""
    key = os.environ.get("RECO_API_KEY") or "none"  # the class wants one; a service without keys looks at none
    options = {"base_url": f"{service}/v1", "api_key": key, "check_embedding_ctx_length": False}
    # The service has one model, and says its name.
    answer = httpx.get(f"{service}/v1/models", headers={"Authorization": f"Bearer {key}"})
    [name, *_] = [one["id"] for one in answer.raise_for_status().json()["data"]]
    return OpenAIEmbeddings(model=f"{name}:plain" if plain else name, **options)


if __name__ == "__main__":
    service = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    gallery = embeddings(service, plain=True).embed_documents(["a red bird on a branch", "a grey duck on the water"])
    query = embeddings(service).embed_query("a red songbird")
    print(np.round(np.array(gallery) @ np.array(query), 3))  # unit vectors: inner products are cosines
