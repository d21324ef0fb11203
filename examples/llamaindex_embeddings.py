"""RECO's embeddings in LlamaIndex, through its class for services that speak OpenAI's protocol.

pip install llama-index-embeddings-openai-like
python examples/llamaindex_embeddings.py http://127.0.0.1:8000

A service with keys: RECO_API_KEY.
"""

import os
import sys

import httpx
import numpy as np
from llama_index.embeddings.openai_like import OpenAILikeEmbedding


def embedding(service: str, *, plain: bool = False) -> OpenAILikeEmbedding:
    """An embedding class for a RECO service; `plain` asks the frozen encoder."""
    key = os.environ.get("RECO_API_KEY") or "none"  # the class wants one; a service without keys looks at none
    answer = httpx.get(f"{service}/v1/models", headers={"Authorization": f"Bearer {key}"})
    [name, *_] = [one["id"] for one in answer.raise_for_status().json()["data"]]
    return OpenAILikeEmbedding(
        model_name=f"{name}:plain" if plain else name, api_base=f"{service}/v1", api_key=key, embed_batch_size=64
    )


if __name__ == "__main__":
    service = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    gallery = embedding(service, plain=True).get_text_embedding_batch(["a red bird", "a grey duck on the water"])
    query = embedding(service).get_query_embedding("a red songbird")
    print(np.round(np.array(gallery) @ np.array(query), 3))  # unit vectors: inner products are cosines
