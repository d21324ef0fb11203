"""The service's answers as results. No connection is touched here.

Depends on httpx (for its Response), numpy, and the parts beside it.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar
from urllib.parse import unquote

import httpx
import numpy as np
from numpy.typing import NDArray

from reco_client.asks import NPY, Ask, ask_label_sets
from reco_client.errors import AnswerInvalid, Degraded, SpaceChanged
from reco_client.results import Classification, Classifications, Embeddings, ItemError, LabelScore, Neighbour, Scores

Told = TypeVar("Told", Neighbour, LabelScore)


def embeddings_of(ask: Ask, response: httpx.Response | None, count: int) -> Embeddings:
    """The answer to an embed request; without a response, nothing of the batch could be sent."""
    if response is None:
        return Embeddings(_unknown(count, 0), "", 0, "", errors=ask.errors)
    if response.headers.get("content-type") == NPY:
        headers = response.headers
        cut = [int(place) for place in headers.get("x-reco-truncated", "").split(",") if place]
        return Embeddings(
            np.load(io.BytesIO(response.content), allow_pickle=False),
            headers["x-reco-space"],
            int(headers["x-reco-memory-version"]),
            unquote(headers["x-reco-model"]),
            headers.get("x-reco-fusion"),
            truncated=tuple(ask.first + place for place in cut),
            degraded=headers.get("x-reco-degraded") == "true",
        )
    body = json_of(response)
    errors, rows = dict(ask.errors), {}
    for place, item in zip(ask.places, body["data"], strict=True):
        if "error" in item:
            errors[ask.first + place] = _error(item["error"], ask.first + place)
        else:
            rows[place] = item
    return Embeddings(
        _vectors({place: item["embedding"] for place, item in rows.items()}, count),
        body["space"],
        body["memory_version"],
        body["model"],
        body["fusion"],
        original=_vectors({place: item["original"] for place, item in rows.items()}, count)
        if any("original" in item for item in rows.values())
        else None,
        neighbours=[
            [_known(Neighbour, one) for one in rows[place]["neighbours"]] if place in rows else []
            for place in range(count)
        ]
        if any("neighbours" in item for item in rows.values())
        else None,
        truncated=tuple(ask.first + place for place, item in rows.items() if item.get("truncated")),
        errors=errors,
        degraded=body.get("degraded") is True,
    )


def classifications_of(ask: Ask, response: httpx.Response | None, count: int) -> Classifications:
    """The answer to a classify request."""
    found = {place: Classification(place, error=error) for place, error in ask.errors.items()}
    if response is None:
        return Classifications([found[ask.first + place] for place in range(count)], "", 0, "", "")
    body = json_of(response)
    for place, item in zip(ask.places, body["data"], strict=True):
        index = ask.first + place
        if "error" in item:
            found[index] = Classification(index, error=_error(item["error"], index))
        else:
            original = _scores(item["original"]) if "original" in item else None
            found[index] = Classification(index, _scores(item), original)
    items = [found[ask.first + place] for place in range(count)]
    return Classifications(
        items,
        body["space"],
        body["memory_version"],
        body["model"],
        body["enhance"],
        body.get("trust"),
        degraded=body.get("degraded") is True,
    )


def join_embeddings(parts: Sequence[Embeddings]) -> Embeddings:
    """The batches of a call as one.

    Raises:
        SpaceChanged: they are not of one vector space.
    """
    answered = [part for part in parts if part.space]  # a batch of which nothing could be sent has none
    if not answered:
        return Embeddings(_unknown(sum(map(len, parts)), 0), "", 0, "", errors=_merged(parts))
    one_space(answered)
    last, width = answered[-1], max(part.vectors.shape[1] for part in answered)
    whole = [part.vectors if part.vectors.shape[1] == width else _unknown(len(part), width) for part in parts]
    originals = [part.original if part.original is not None else _unknown(len(part), width) for part in parts]
    listed = [part.neighbours if part.neighbours is not None else [[]] * len(part) for part in parts]
    return Embeddings(
        np.concatenate(whole),
        last.space,
        last.memory_version,
        last.model,
        last.fusion,
        np.concatenate(originals) if any(part.original is not None for part in parts) else None,
        [one for part in listed for one in part] if any(part.neighbours is not None for part in parts) else None,
        tuple(place for part in parts for place in part.truncated),
        _merged(parts),
        degraded=last.degraded,
    )


def join_classifications(parts: Sequence[Classifications]) -> Classifications:
    """The batches of a call as one.

    Raises:
        SpaceChanged: they are not of one vector space.
    """
    one_space([part for part in parts if part.space])
    last = next((part for part in reversed(parts) if part.space), Classifications([], "", 0, "", ""))
    items = [item for part in parts for item in part.items]
    return Classifications(
        items, last.space, last.memory_version, last.model, last.enhance, last.trust, degraded=last.degraded
    )


def one_space(parts: Sequence[Embeddings | Classifications]) -> None:
    """Refuse to mix vector spaces.

    Raises:
        SpaceChanged, Degraded
    """
    if len({part.space for part in parts}) <= 1:
        return
    if len({part.degraded for part in parts}) > 1:
        raise Degraded(
            "the service was without its memory for a part of the call, and plain vectors are not comparable with "
            "refined ones: call again when /readyz does not warn of memory_unavailable"
        )
    raise SpaceChanged(
        "the service changed its encoder or fusion during the call, and vectors from before and after are not "
        "comparable: call again"
    )


def json_of(response: httpx.Response) -> Any:
    """The body of a good answer.

    Raises:
        AnswerInvalid: it is no JSON.
    """
    try:
        return response.json()
    except ValueError:
        raise AnswerInvalid(f"{response.url} answered something that is no JSON. Is the address right?") from None


def object_of(ask: Ask, response: httpx.Response) -> dict[str, Any]:
    """The object that is the body of a good answer.

    Raises:
        AnswerInvalid: it is none.
    """
    told = json_of(response)
    if not isinstance(told, dict):
        raise unreadable(ask)
    return told


def label_sets_of(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an answer lists.

    Raises:
        AnswerInvalid: nothing of the kind.
    """
    listed = told.get("label_sets")
    if not isinstance(listed, list):
        raise unreadable(ask_label_sets())
    return listed


def unreadable(ask: Ask) -> AnswerInvalid:
    """What is said of an answer that is none of RECO's."""
    return AnswerInvalid(f"{ask.path} answered something that is none of RECO's. Is the address right?")


def _known(kind: type[Told], told: Mapping[str, Any]) -> Told:
    """What of an answer we know; a later service may say more."""
    return kind(**{one.name: told[one.name] for one in fields(kind)})


def _error(told: Mapping[str, Any], index: int) -> ItemError:
    return ItemError(index, str(told["code"]), str(told["detail"]))


def _unknown(count: int, width: int) -> NDArray[np.float32]:
    return np.full((count, width), np.nan, dtype=np.float32)


def _vectors(packed: Mapping[int, str], count: int) -> NDArray[np.float32]:
    """(count, D) from base64 by row; rows that are not there are NaN."""
    rows = {place: np.frombuffer(base64.b64decode(text), dtype="<f4") for place, text in packed.items()}
    vectors = _unknown(count, len(next(iter(rows.values()))) if rows else 0)
    for place, row in rows.items():
        vectors[place] = row
    return vectors


def _scores(told: Mapping[str, Any]) -> Scores:
    if "top" in told:
        return Scores(told["label"], told["label_index"], top=[_known(LabelScore, one) for one in told["top"]])
    return Scores(
        told["label"],
        told["label_index"],
        np.array(told["probabilities"], dtype=np.float32),
        np.array(told["similarities"], dtype=np.float32),
    )


def _merged(parts: Sequence[Embeddings]) -> dict[int, ItemError]:
    return {place: error for part in parts for place, error in part.errors.items()}
