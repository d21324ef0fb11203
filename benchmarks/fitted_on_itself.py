"""A memory of few images, weighed by a fusion that was fitted on this very memory, as `reco train` does.

    python -m benchmarks.fitted_on_itself /path/to/clip_vitb32/imagenet_fewshot.npz

Some classes with some images each, named by their captions; images that nobody has seen are told apart by frozen CLIP
and by the memory, with a fusion fitted on the memory, one fitted on as many images of other classes, and one fitted on
the memory that leaves no image out of its whitening, as fusions did before. With names as they are, and made weak.
Takes about five minutes; writes benchmarks/results/fitted-on-itself.json.
"""

import argparse
import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measured_on import measured_on
from evaluation.array_memory import ArrayMemory
from evaluation.label_sets import label_set_sides_at, label_set_weights
from models.fusion import Fusion
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence
from models.training.recipes import fusion_config

RESULTS = Path(__file__).parent / "results" / "fitted-on-itself.json"
SIZES = ((100, 2), (200, 2), (100, 3), (200, 3), (60, 5), (100, 5), (150, 5), (300, 5), (500, 5))  # classes, images
SEEDS, SIGMAS, K = (0, 1, 2), (0.0, 1.0), 10

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class World:
    """Images (N, D) of numbered classes (N,), and a name (C, D) for each class."""

    image: FloatArray
    label: NDArray[np.int64]
    text: FloatArray
    names: list[str]

    @classmethod
    def load(cls, path: Path, sigma: float) -> "World":
        """Names are moved aside by noise of length `sigma`."""
        found = np.load(path)
        text = unit(found["text"].astype(np.float32))
        noise = np.random.default_rng(7).standard_normal(text.shape, dtype=np.float32)
        names = [str(name) for name in found["class_name"]]
        image = unit(found["image"].astype(np.float32))
        return cls(image, found["label"], unit(text + np.float32(sigma / text.shape[1] ** 0.5) * noise), names)

    def rows(self, classes: NDArray[np.int64], images: slice) -> NDArray[np.int64]:
        """Those images of each class."""
        return np.concatenate([np.flatnonzero(self.label == one)[images] for one in classes])

    def fusion(self, classes: NDArray[np.int64], images: slice, seed: int) -> Fusion:
        """Fitted on them."""
        rows = self.rows(classes, images)
        entity = np.searchsorted(np.sort(classes), self.label[rows])
        parts = self.image[rows], self.text[self.label[rows]], entity
        pairs = EntityPairs(*(torch.from_numpy(part) for part in parts))
        return fit_evidence(pairs, fusion_config("evidence", self.image.shape[1], K), seed, alone=False)


def unit(rows: FloatArray) -> FloatArray:
    """Rows of unit norm."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def judge(world: World, classes: NDArray[np.int64], each: int, fusion: Fusion) -> dict[str, float]:
    """The weight, and of images that are not in the memory of `each` a class how many are named rightly, in percent."""
    held, asked = (world.rows(classes, part) for part in (slice(each), slice(each, None)))
    text, names = world.text[classes], [world.names[one] for one in classes]

    def captions(ids: NDArray[np.int64]) -> list[str]:
        return [f"a photo of a {world.names[world.label[held[one]]]}." for one in ids]

    memory = ArrayMemory(world.image[held], world.text[world.label[held]], captions=captions)
    answers = np.argmax(classes[None] == world.label[asked][:, None], axis=1)
    weights = label_set_weights(text, memory, fusion, K, names)
    assert weights is not None
    [sides] = label_set_sides_at(world.image[asked], text, memory, fusion, [K], names)

    def right(where: str) -> float:
        images, texts = sides.of(where)
        return float(100 * ((images @ texts.T).argmax(axis=1) == answers).mean())

    return {"weight": weights.text, "frozen": right("none"), "refined": right("both")}


def compare(world: World, size: tuple[int, int], seed: int) -> dict[str, dict[str, float]]:
    """One draw of classes and images."""
    classes, each = size
    order = np.random.default_rng(seed).permutation(len(world.names))
    own, others = order[:classes], order[classes : 2 * classes]
    itself = world.fusion(own, slice(each), seed)
    before = copy.deepcopy(itself)
    for modality in ("image", "text"):
        side = before.evidence(modality)
        assert side is not None
        side.leverage.zero_()
    fusions = {"itself": itself, "others": world.fusion(others, slice(each), seed), "before": before}
    return {name: judge(world, own, each, fusion) for name, fusion in fusions.items()}


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    torch.set_num_threads(2)
    rows: list[dict[str, Any]] = []
    for sigma in SIGMAS:
        world = World.load(data, sigma)
        for size in SIZES:
            found = [compare(world, size, seed) for seed in SEEDS]
            mean = {
                kind: {name: round(float(np.mean([one[kind][name] for one in found])), 2) for name in found[0][kind]}
                for kind in found[0]
            }
            rows.append({"sigma": sigma, "classes": size[0], "images": size[1], **mean})
            print(json.dumps(rows[-1]), flush=True)  # noqa: T201
    RESULTS.write_text(json.dumps({**measured_on(), "seeds": len(SEEDS), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
