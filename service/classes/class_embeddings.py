"""Zero-shot classification: labels and templates to class embeddings, and an image's scores against them.

The checks raise Problems that name positions, never values. Depends on label_embeddings, pipeline and models' text
rules.
Shapes: B images, C classes (labels), P templates, D embedding dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.errors import EncoderError, TextError
from models.fusion.label_set import LabelSetWeights
from models.texts.checking import TextLimits, check_text
from models.texts.prompts import class_means, compose, is_template, repeated
from service.classes.label_embeddings import LabelEmbeddings, embedded_with
from service.pipeline.engine import Answer, FloatArray
from service.pipeline.pipeline import Ask, Outcome, Pipeline
from service.pipeline.trace import Trace
from service.problems import ItemError, Problem, known_code
from service.schemas.requests import EnhanceMode
from service.settings import Settings


@dataclass(frozen=True)
class Classes:
    """Class embeddings (C, D) float32, unit norm.

    Attributes:
        original, refined: the frozen encoder's, and None unless it was asked for.
        trust: how far each side goes from the frozen encoder with the memory, for these labels; None where the fusion
            does not weigh label sets.
    """

    original: FloatArray
    refined: FloatArray | None = None
    trust: LabelSetWeights | None = None


def check_labels(labels: Sequence[str], settings: Settings) -> None:
    """Refuse labels that cannot be classes.

    Raises:
        Problem: labels_empty, labels_too_many, a text code for one label, labels_duplicate.
    """
    if not labels:
        raise Problem("labels_empty")
    if len(labels) > settings.max_labels:
        raise Problem("labels_too_many", extensions={"limit": settings.max_labels})
    _check_texts(labels, "/labels", settings.max_label_characters)
    duplicates = [ItemError(f"/labels/{index}", "labels_duplicate") for index, _ in repeated(labels)]
    if duplicates:
        raise Problem.of_items(duplicates)


def check_templates(templates: Sequence[str], labels: Sequence[str], settings: Settings) -> None:
    """Refuse templates that are not plain text around exactly one {}, or too long with the longest label in it.

    Raises:
        Problem: templates_empty, templates_too_many, template_invalid, a text code, work_too_large.
    """
    if not templates:
        raise Problem("templates_empty")
    if len(templates) > settings.max_templates:
        raise Problem("templates_too_many", extensions={"limit": settings.max_templates})
    if len(labels) * len(templates) > settings.max_class_texts:
        raise Problem("work_too_large", extensions={"limit": settings.max_class_texts})
    _check_texts(templates, "/templates", settings.max_text_characters)
    bad = [
        ItemError(f"/templates/{index}", "template_invalid")
        for index, template in enumerate(templates)
        if not is_template(template)
    ]
    if bad:
        raise Problem.of_items(bad)
    room = settings.max_text_characters - max(map(len, labels)) + len("{}")
    long = [index for index, template in enumerate(templates) if len(template) > room]
    if long:
        errors = [ItemError(f"/templates/{index}", "text_too_long") for index in long]
        raise Problem.of_items(errors, {"text_too_long": settings.max_text_characters})


async def embed_classes(
    pipeline: Pipeline,
    kept: LabelEmbeddings,
    labels: Sequence[str],
    templates: Sequence[str],
    mode: EnhanceMode,
    k: int,
    trace: Trace,
    deadline: float,
) -> Classes:
    """Embed each class: the mean of its prompts' embeddings, re-normalised, and refined once if `mode` asks for it.

    Args:
        kept: labels that were embedded before; those that were not are added, also where the deadline ends this.
    """
    original = await _embed_labels(pipeline, kept, labels, templates, deadline, trace)
    if mode == "none":
        return Classes(original)
    if pipeline.engine.weighs_label_sets:
        return await _weighed(pipeline, original, labels, mode, k, deadline, trace)
    if mode == "image":
        return Classes(original)
    return Classes(original, await pipeline.refine("text", original, k, deadline, trace))


async def _embed_labels(
    pipeline: Pipeline,
    kept: LabelEmbeddings,
    labels: Sequence[str],
    templates: Sequence[str],
    deadline: float,
    trace: Trace,
) -> FloatArray:
    """The frozen encoder's (C, D), a few labels at a time: a large set does not push others out of the queue."""
    name = embedded_with(pipeline.engine, templates)
    rows = kept.find(name, labels)
    missing = [place for place, label in enumerate(labels) if label not in rows]
    at_once = max(1, pipeline.part_size // len(templates))
    for start in range(0, len(missing), at_once):
        places = missing[start : start + at_once]
        embedded = await _embed_part(pipeline, labels, places, templates, deadline, trace)
        new = {labels[place]: row for place, row in zip(places, embedded, strict=True)}
        kept.keep(name, new)
        rows |= new
    return np.stack([rows[label] for label in labels])


async def _embed_part(
    pipeline: Pipeline,
    labels: Sequence[str],
    places: Sequence[int],
    templates: Sequence[str],
    deadline: float,
    trace: Trace,
) -> FloatArray:
    """The frozen encoder's (n, D) of the labels at some places; of many templates a part of the queue at a time."""
    prompts = compose([labels[place] for place in places], templates)
    pointers = [f"/labels/{place}" for place in places for _ in templates]
    ask, rows = Ask(enhance=False, k=1), list[FloatArray]()
    for start in range(0, len(prompts), pipeline.part_size):
        part = slice(start, start + pipeline.part_size)
        outcomes, _ = await pipeline.embed_texts(prompts[part], pointers[part], ask, deadline, trace)
        errors = [outcome for outcome in outcomes if isinstance(outcome, ItemError)]
        if errors:
            raise Problem.of_items(errors)
        rows += [outcome.original for outcome in outcomes if not isinstance(outcome, ItemError)]
    try:
        return class_means(np.stack(rows), len(templates))
    except EncoderError as error:
        raise Problem("nonfinite_embedding") from error


async def _weighed(
    pipeline: Pipeline,
    original: FloatArray,
    labels: Sequence[str],
    mode: EnhanceMode,
    k: int,
    deadline: float,
    trace: Trace,
) -> Classes:
    """The label set is weighed whichever side is to be refined; a side that is not has weight 0."""
    refine = mode in ("both", "text")
    weights, answers = await pipeline.weigh(original, labels, k, deadline, trace, refine=refine)
    if not refine:
        return Classes(original, trust=replace(weights, text=0.0))
    trust = weights if mode == "both" else replace(weights, image=0.0)
    return Classes(original, np.stack([answer.embedding for answer in answers]), trust)


async def refine_images(
    pipeline: Pipeline, outcomes: Sequence[Outcome], weight: float, k: int, deadline: float, trace: Trace
) -> list[Outcome]:
    """Refine the images that could be embedded, with a label set's weight; the others keep their error."""
    originals = [outcome.original for outcome in outcomes if isinstance(outcome, Answer)]
    if not originals:
        return list(outcomes)
    rows = iter(await pipeline.refine("image", np.stack(originals), k, deadline, trace, weight=weight))
    return [replace(outcome, refined=next(rows)) if isinstance(outcome, Answer) else outcome for outcome in outcomes]


def score(image: FloatArray, classes: FloatArray, logit_scale: float) -> tuple[NDArray[np.float64], FloatArray]:
    """Probabilities (C,) and cosines (C,) of one image embedding (D,) against class embeddings (C, D).

    The softmax subtracts its maximum first, so no logit scale overflows it.
    """
    similarities = classes @ image  # (C,)
    behind = similarities.astype(np.float64) - float(similarities.max())
    with np.errstate(over="ignore"):  # beyond what a float holds a label's weight is 0 in any case
        weights = np.exp(logit_scale * behind)
    return weights / weights.sum(), similarities


def _check_texts(texts: Sequence[str], pointer: str, max_characters: int) -> None:
    limits = TextLimits(max_characters=max_characters)
    errors = []
    for index, text in enumerate(texts):
        try:
            check_text(text, limits)
        except TextError as error:
            errors.append(ItemError(f"{pointer}/{index}", known_code(error.code)))
    if errors:
        raise Problem.of_items(errors, {"text_too_long": max_characters})
