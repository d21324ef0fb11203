"""Answers as bytes: JSON from plain lists, base64 or .npy. No float walks through a validator.

Depends on engine's dataclasses and numpy. Vectors leave as float32, little-endian wherever they are bytes.
"""

import base64
import io
import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import NDArray

from memory import SearchableMemory
from service.classes.class_embeddings import Classes, score
from service.pipeline.engine import Answer, Engine, FloatArray, Found
from service.pipeline.pipeline import Outcome
from service.problems import ItemError
from service.schemas.requests import ClassifyOptions, EmbedOptions, EncodingFormat, EnhanceMode

NPY_MEDIA_TYPE = "application/x-npy"
_SAFE = " " + string.punctuation.replace("%", "")  # beside letters and digits, what a header may hold


def head(engine: Engine, model: str, *, enhanced: bool, degraded: bool = False) -> dict[str, Any]:
    """What every answer says about where its vectors come from; `degraded`: they are plain, the memory was away."""
    return {
        "model": model,
        "space": engine.space if enhanced and not degraded else engine.original_space,
        "memory_version": engine.memory.version,
        "fusion": engine.fusion_id,
        **({"degraded": True} if degraded else {}),
    }


def headers(engine: Engine, model: str, *, enhanced: bool, degraded: bool = False) -> dict[str, str]:
    """The same as response headers, percent-encoded beyond ASCII: an .npy body has no other place for it."""
    names = {"model": "X-Reco-Model", "space": "X-Reco-Space", "memory_version": "X-Reco-Memory-Version"}
    told = head(engine, model, enhanced=enhanced, degraded=degraded)
    fields = {header: quote(str(told[name]), safe=_SAFE) for name, header in names.items()}
    if engine.fusion_id is not None:
        fields["X-Reco-Fusion"] = engine.fusion_id
    if degraded:
        fields["X-Reco-Degraded"] = "true"
    return fields


def memory_now(engine: Engine) -> dict[str, Any]:
    """Which memory is served, for answers to whoever changes it."""
    memory = engine.memory
    return {"memory_version": memory.version, "digest": memory.digest, "num_items": memory.num_items}


def embed_json(
    engine: Engine,
    model: str,
    outcomes: Sequence[Outcome],
    options: EmbedOptions,
    *,
    enhanced: bool,
    degraded: bool = False,
    truncated: Sequence[bool] | None = None,
) -> bytes:
    """The JSON answer of an embed route; an item's error stands in its place."""

    def tell(index: int, embedded: Answer) -> dict[str, Any]:
        item: dict[str, Any] = {"embedding": _vector(embedded.embedding, options.encoding_format)}
        if options.return_original:
            item["original"] = _vector(embedded.original, options.encoding_format)
        if options.return_neighbours and embedded.found is not None:
            item["neighbours"] = _neighbours(engine.memory, embedded.found)
        if truncated is not None:
            item["truncated"] = truncated[index]
        return item

    answer = {**head(engine, model, enhanced=enhanced, degraded=degraded), "enhanced": enhanced and not degraded}
    if options.return_original:
        answer["original_space"] = engine.original_space
    return _dump({**answer, "data": _items(outcomes, tell), "usage": {"items": len(outcomes)}})


def openai_json(
    engine: Engine,
    model: str,
    found: Sequence[Answer],
    encoding_format: EncodingFormat,
    *,
    enhanced: bool,
    degraded: bool = False,
    tokens: int,
) -> bytes:
    """The JSON answer of `/v1/embeddings`: OpenAI's members, and what every answer says of its vectors."""
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(answer.embedding, encoding_format)}
        for index, answer in enumerate(found)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _dump(
        {"object": "list", **head(engine, model, enhanced=enhanced, degraded=degraded), "data": data, "usage": usage}
    )


def embed_npy(answers: Sequence[Answer]) -> bytes:
    """(N, D) float32 in numpy's own file format, little-endian."""
    file = io.BytesIO()
    np.save(file, np.stack([answer.embedding for answer in answers]).astype("<f4"), allow_pickle=False)
    return file.getvalue()


def classify_json(
    engine: Engine,
    model: str,
    outcomes: Sequence[Outcome],
    classes: Classes,
    labels: Sequence[str],
    options: ClassifyOptions,
    *,
    mode: EnhanceMode,
    degraded: bool = False,
) -> bytes:
    """The JSON answer of `/classify`."""
    side = classes.original if classes.refined is None else classes.refined
    scores = partial(_scores, labels=labels, logit_scale=engine.encoder.logit_scale, top_k=options.top_k)

    def tell(_: int, found: Answer) -> dict[str, Any]:
        item = scores(found.embedding, side)
        if options.compare:
            item["original"] = scores(found.original, classes.original)
        return item

    answer = {**head(engine, model, enhanced=mode != "none", degraded=degraded), "enhance": mode}
    if options.label_set is not None:
        answer["label_set"] = options.label_set
    if classes.trust is not None:
        trust = classes.trust
        answer["trust"] = {"text": trust.text, "image": trust.image, "unknown_labels": trust.unknown}
    return _dump({**answer, "data": _items(outcomes, tell), "usage": {"items": len(outcomes)}})


def _items(outcomes: Sequence[Outcome], tell: Callable[[int, Answer], dict[str, Any]]) -> list[dict[str, Any]]:
    """What is told of each item by its place; its error, if it failed."""
    return [
        {"index": index, **({"error": one.render()} if isinstance(one, ItemError) else tell(index, one))}
        for index, one in enumerate(outcomes)
    ]


def _scores(
    image: FloatArray, classes: FloatArray, *, labels: Sequence[str], logit_scale: float, top_k: int | None
) -> dict[str, Any]:
    probabilities, similarities = score(image, classes, logit_scale)
    _finite(probabilities), _finite(similarities)
    best = int(probabilities.argmax())
    told: dict[str, Any] = {"label": labels[best], "label_index": best}
    if top_k is None:
        return {**told, "probabilities": probabilities.tolist(), "similarities": similarities.tolist()}
    order = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    told["top"] = [
        {
            "label": labels[place],
            "label_index": place,
            "probability": float(probabilities[place]),
            "similarity": float(similarities[place]),
        }
        for place in order
    ]
    return told


def _vector(embedding: FloatArray, encoding_format: EncodingFormat) -> FloatArray | str:
    """orjson writes a float32 array in the fewest digits that read back as the same float32."""
    if encoding_format == "base64":
        return base64.b64encode(embedding.astype("<f4").tobytes()).decode("ascii")
    return np.ascontiguousarray(_finite(embedding))


def _neighbours(memory: SearchableMemory, found: Found) -> list[dict[str, Any]]:
    items = memory.items(found.ids)
    return [
        {"id": item.id, "key": item.key, "caption": item.caption, "similarity": similarity}
        for item, similarity in zip(items, _finite(found.similarities).tolist(), strict=True)
    ]


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    """A NaN that got this far is our bug and must be a 500; orjson would write null."""
    if not np.isfinite(values).all():
        raise ValueError("an answer is not finite")
    return values


def _dump(answer: Mapping[str, Any]) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
