"""Answers of a later service, and of something that is no service at all."""

import asyncio
import base64
from typing import Any

import numpy as np
import pytest
from scripted_service import Reply, both, call, problem

from reco_client import AnswerInvalid, AsyncClient, Client, RequestRefused

JSON = {"Content-Type": "application/json"}


@both
@pytest.mark.parametrize("body", [{}, [], {"data": 3}, {"data": [{}]}, {"data": [{"embedding": "?"}]}, 7])
def test_json_of_somebody_else_is_told(scripted: Any, kind: str, body: Any) -> None:
    server = scripted(lambda number: Reply(body=body, headers=JSON))
    with pytest.raises(AnswerInvalid, match="none of RECO's"):
        call(kind, server.url)


@both
@pytest.mark.parametrize(("name", "body"), [("label_sets", {}), ("label_sets", {"label_sets": 3}), ("memory", [])])
def test_json_of_somebody_else_is_told_of_lists_and_records_too(scripted: Any, kind: str, name: str, body: Any) -> None:
    server = scripted(lambda number: Reply(body=body, headers=JSON))

    async def ask() -> Any:
        async with AsyncClient(server.url) as client:
            return await getattr(client, name)()

    with pytest.raises(AnswerInvalid, match="none of RECO's"):
        if kind == "async":
            asyncio.run(ask())
        else:
            with Client(server.url) as client:
                getattr(client, name)()


@both
@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"none", headers={"Content-Type": "application/x-npy"}),
        Reply(body=b"none", headers={"Content-Encoding": "gzip"}),
        Reply(body=b"", headers={"Content-Type": "application/x-npy"}),
        Reply(body=b"PK\x03\x04none", headers={"Content-Type": "application/x-npy"}),
    ],
)
def test_bytes_that_cannot_be_read_are_told(scripted: Any, kind: str, reply: Reply) -> None:
    server = scripted(lambda number: reply)
    with pytest.raises(AnswerInvalid, match="Is the address right"):
        call(kind, server.url)


def test_a_later_service_may_say_more(scripted: Any) -> None:
    neighbour = {"id": 1, "key": "a", "caption": "b", "similarity": 0.5, "source": "new"}
    best = {"label": "a", "label_index": 0, "probability": 1.0, "similarity": 0.5, "margin": 0.1}
    vector = base64.b64encode(np.ones(4, dtype="<f4").tobytes()).decode()
    head = {"model": "m", "space": "s", "memory_version": 1, "fusion": None, "enhance": "both"}
    items = [{"embedding": vector, "neighbours": [neighbour]}, {"label": "a", "label_index": 0, "top": [best]}]
    server = scripted(lambda number: Reply(body={**head, "data": [items[number]]}, headers=JSON))
    with Client(server.url) as client:
        [[found]] = client.embed_texts("a", return_neighbours=True).neighbours or []
        [classified] = client.classify(b"image", labels=["a"], top_k=1)
    assert (found.key, found.similarity) == ("a", 0.5)
    assert classified.scores is not None
    assert classified.scores.probability == 1.0


@both
def test_a_refusal_whose_list_of_errors_is_none_is_a_refusal(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: problem(400, "json_invalid", errors=None))
    with pytest.raises(RequestRefused, match="json_invalid") as refused:
        call(kind, server.url)
    assert refused.value.items == ()
