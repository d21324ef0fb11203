"""RECO's embeddings in LlamaIndex, through its class for services that speak OpenAI's protocol.

pip install llama-index-embeddings-openai-like
python examples/llamaindex_embeddings.py http://127.0.0.1:8000
"""

import sys

import httpx
import numpy as np
from llama_index.embeddings.openai_like import OpenAILikeEmbedding


def embedding(service: str, *, plain: bool = False) -> OpenAILikeEmbedding:
    """An embedding class for a RECO service; `plain` asks the frozen encoder."""
    [name, *_] = [one["id"] for one in httpx.get(f"{service}/v1/models").json()["data"]]
    return OpenAILikeEmbedding(
        model_name=f"{name}:plain" if plain else name, api_base=f"{service}/v1", api_key="none", embed_batch_size=64
    )


if __name__ == "__main__":
    service = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    gallery = embedding(service, plain=True).get_text_embedding_batch(["a red bird", "a grey duck on the water"])
    query = embedding(service).get_query_embedding("a red songbird")
    print(np.round(np.array(gallery) @ np.array(query), 3))  # unit vectors: inner products are cosines
