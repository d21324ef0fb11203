"""Rows as real ones lie: D = 512 mixtures around real CLIP embeddings, as many as wanted.

    python -m benchmarks.mixtures /path/to/clip_vitb32          fits both sides, prints how well they match

Each row is a real embedding, moved along the directions to its nearest real neighbours (a cluster of M dimensions)
and a little in every direction. Three numbers are fitted so that the similarities of a row to its 1st, 10th and 100th
neighbour are, on average, those of the real embeddings among themselves; `match` says how well they do.

Real data is read from a path and never stored. Shapes: N rows, C centres, M local dimensions, D embedding dimension.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.indexing.kernels import faiss

RANKS = (1, 10, 100)
LOCAL = (6, 12)  # numbers of local dimensions that are tried
_AROUND = 40  # nearest centres whose clusters can hold a neighbour, in the fit
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Mixture:
    """A fitted generator of one modality.

    Attributes:
        centres: (C, D) float32, unit norm: the real embeddings.
        near: (C, `_AROUND` + 1) the nearest centres of each, itself first.
        local: M.
        along, across: how far a row moves along the local dimensions, and in every direction.
    """

    centres: Floats
    near: NDArray[np.int64]
    local: int
    along: float
    across: float

    def rows(self, centres: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        """One row for each centre number (n,): (n, D) float32, unit norm."""
        order = np.argsort(centres, kind="stable")
        made = np.empty((len(centres), self.centres.shape[1]), dtype=np.float32)
        ordered = centres[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            centre = self.centres[ordered[start]]
            made[order[start:stop]] = centre + self._steps(stop - start, rng) @ self._directions(ordered[start])
        made += rng.standard_normal(made.shape, dtype=np.float32) * np.float32(self.across / made.shape[1] ** 0.5)
        return unit(made)

    def nearness(self, query: Floats, centre: np.int64, count: int, rng: np.random.Generator) -> Floats:
        """Similarities of a query (D,) to `count` rows of a cluster, without making the rows: (count,).

        What a row moves in every direction is, seen along the query, one normal number; its square length is known.
        """
        middle, directions, steps = self.centres[centre], self._directions(centre), self._steps(count, rng)
        along = steps @ (directions @ query) + np.float32(middle @ query)
        noise = rng.standard_normal(count, dtype=np.float32) * np.float32(self.across / len(query) ** 0.5)
        squares = 1 + 2 * (steps @ (directions @ middle)) + ((steps @ (directions @ directions.T)) * steps).sum(axis=1)
        similarities: Floats = (along + noise) / np.sqrt(squares + self.across**2)
        return similarities

    def _directions(self, centre: np.int64) -> Floats:
        directions: Floats = self.centres[self.near[centre, 1 : self.local + 1]] - self.centres[centre]
        # a real embedding may be there twice
        return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.float32(1e-6))

    def _steps(self, count: int, rng: np.random.Generator) -> Floats:
        return rng.standard_normal((count, self.local), dtype=np.float32) * np.float32(self.along / self.local**0.5)

    def draw(self, rows: int, seed: int) -> Floats:
        """N rows around centres drawn at random."""
        rng = np.random.default_rng(seed)
        return self.rows(rng.integers(0, len(self.centres), rows), rng)


def unit(rows: Floats) -> Floats:
    """Rows of unit norm."""
    normed: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normed


def real(directory: Path, modality: str) -> Floats:
    """The real embeddings of one side, (C, D)."""
    name, key = {"image": ("image_pool", "image"), "text": ("class_name_texts", "text")}[modality]
    return unit(np.load(directory / f"{name}.npz")[key].astype(np.float32))


def fit(centres: Floats, rows: int, *, queries: int = 40, seed: int = 0) -> tuple[Mixture, NDArray[np.float64]]:
    """Fit a mixture that will be drawn from `rows` times; also the real similarities it aims at."""
    rng = np.random.default_rng(seed)
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    near = index.search(centres, _AROUND + 1)[1]
    some = rng.choice(len(centres), min(500, len(centres)), replace=False)
    wanted = index.search(centres[some], RANKS[-1] + 1)[0][:, list(RANKS)].mean(axis=0, dtype=np.float64)  # not itself
    asked = rng.choice(len(centres), queries, replace=False)

    def miss(local: int, along: float, across: float) -> float:
        made = _similarities(Mixture(centres, near, local, along, across), rows, asked)
        return float(((made - wanted) ** 2).sum())

    best = (np.inf, LOCAL[0], 0.5, 0.3)
    for local in LOCAL:
        along, across, step = 0.5, 0.3, 1.4
        error = miss(local, along, across)
        while step > 1.06:  # a pattern search in the two logarithms
            tried = [(along * step**a, across * step**b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))]
            errors = [miss(local, *one) for one in tried]
            if min(errors) < error:
                error, (along, across) = min(errors), tried[int(np.argmin(errors))]
            else:
                step = step**0.5
        best = min(best, (error, local, along, across))
    return Mixture(centres, near, *best[1:]), wanted


def _similarities(mixture: Mixture, rows: int, asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """What `rows` rows would have, from the clusters around some centres only."""
    rng = np.random.default_rng(1)  # the same noise for every trial
    each = rows / len(mixture.centres)
    found = []
    for centre in asked:
        query = mixture.rows(np.array([centre]), rng)[0]
        counts = rng.poisson(each, _AROUND + 1)
        around = [mixture.nearness(query, near, n, rng) for near, n in zip(mixture.near[centre], counts, strict=True)]
        similarities = np.sort(np.concatenate(around))[::-1]
        found.append([similarities[min(rank, len(similarities)) - 1] for rank in RANKS])
    return np.mean(found, axis=0)


def match(
    mixture: Mixture, blocks: Iterable[Floats], wanted: NDArray[np.float64], *, seed: int = 9
) -> dict[str, list[float]]:
    """Mean similarities to the 1st, 10th and 100th neighbour: of the real embeddings, and of rows, given in blocks."""
    queries = mixture.draw(200, seed)
    best = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    for block in blocks:
        found = faiss.knn(queries, block, RANKS[-1], metric=faiss.METRIC_INNER_PRODUCT)[0]
        best = -np.sort(-np.concatenate((best, found), axis=1), axis=1)[:, : RANKS[-1]]
    made = best[:, [rank - 1 for rank in RANKS]].mean(axis=0, dtype=np.float64)
    return {"ranks": list(RANKS), "real": wanted.round(4).tolist(), "generated": made.round(4).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    for modality in ("image", "text"):
        mixture, wanted = fit(real(arguments.data, modality), arguments.rows)
        told = match(mixture, [mixture.draw(arguments.rows, 1)], wanted)
        words = f"{modality}: local {mixture.local}, along {mixture.along:.3f}, across {mixture.across:.3f}, {told}"
        sys.stdout.write(words + "\n")


if __name__ == "__main__":
    main()
