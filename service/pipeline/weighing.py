"""A label set against the memory: each class looked up, the set weighed, the classes refined. One blocking call.

No HTTP and no asyncio; may run in any thread. Depends on engine's dataclasses and models.
Shapes: C classes, K neighbours, D embedding dim.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from models.fusion.label_set import LabelSetWeights
from models.label_captions import LabelCaptions
from models.refine import RetrievalEnhancedEncoder
from service.pipeline.engine import Answer, FloatArray, Found


def weigh_classes(
    composed: RetrievalEnhancedEncoder,
    classes: FloatArray,
    labels: Sequence[str],
    k: int,
    *,
    refine: bool,
    part_size: int,
    before_part: Callable[[], None],
) -> tuple[LabelSetWeights, list[Answer]]:
    """Weigh a label set, with what its classes find.

    Args:
        composed: with a fusion that weighs label sets.
        classes: (C, D) float32, unit norm.
        labels: (C,) what captions may name.
        k: neighbours a class; more are looked through for captions that name it.
        refine: refine the classes with the weight found; without it the weights are for others.
        part_size: classes looked up at a time.
        before_part: called before each part; whatever it raises ends this.

    Raises:
        MemoryError: the device or the host ran out of memory.
    """
    try:
        captions = LabelCaptions(labels, composed.memory)
        found = captions.look_up(classes, k, part=part_size, before_part=before_part)
        before_part()
        alike = found.alike
        weights = composed.weigh(classes, alike, found.named, found.near)
        assert weights is not None, "only asked of a fusion that weighs label sets"
        refined = None
        if refine:
            given = np.full(len(classes), weights.text, dtype=np.float32)
            refined = composed.fuse(classes, alike, modality="text", weights=given)
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    answers = [
        Answer(original, None if refined is None else refined[row], Found.of(found.neighbours, row))
        for row, original in enumerate(classes)
    ]
    return weights, answers
