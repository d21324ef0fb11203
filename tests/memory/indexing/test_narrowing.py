"""A margin: queries near one centroid look at few lists, queries between many at more, and as much is found."""

import json

import numpy as np
import pytest

import memory
from memory import IndexOptions, Memory
from memory.indexing.coarse import NO_LIST
from memory.indexing.measuring import Setting, ask, measure
from memory.indexing.narrowing import STEP, WIDER, narrow
from memory.searching.stored_rows import StoredRows

D = 32
FAMILIES = ("IVF64,SQ8", "IVF64,RaBitQ", "IVF64,RaBitQfs")


def uneven(n: int, seed: int) -> np.ndarray:
    """Two thirds of the rows in 40 tight clusters, the others anywhere: (n, D) float16, unit norm."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((40, D))
    rows = centres[rng.integers(0, 40, n)] + 0.15 * rng.standard_normal((n, D))
    rows[: n // 3] = rng.standard_normal((n // 3, D))
    rows = rng.permutation(rows)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module", params=FAMILIES)
def built(request, factory, tmp_path_factory):
    """A memory whose indices have a margin, and what it was made of."""
    made = factory.make_rows(6000, D, seed=1, thumbnails=False)
    rows = memory.Rows(uneven(6000, 1), uneven(6000, 2), made.items)
    root = tmp_path_factory.mktemp("margin") / "memory"
    parts = [factory.slice_rows(rows, 0, 4000), factory.slice_rows(rows, 4000, 6000)]
    return root, factory.commit(root, parts, options=IndexOptions(factory=request.param, recall=0.95)), rows


def test_a_margin_reads_less_and_finds_what_was_wanted(built):
    """Judged by fresh queries and a scan, beside the same number of lists for all that finds as much."""
    root, manifest, rows = built
    queries = uneven(600, 7).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    for modality, side in (("image", rows.image), ("text", rows.text)):
        index = manifest.indexes[modality]
        assert index.search.margin is not None
        measured = json.loads((root / f"indexes/{index.id}/report.json").read_text())["measured"]
        assert measured["margin"] == index.search.margin
        assert measured["recall"] >= 0.95
        fixed = [s for s in measured["settings"] if "margin" not in s and s["recall"] >= 0.95]
        assert measured["mean_lists"] < min(setting["nprobe"] for setting in fixed)
        least = np.sort(queries @ side.astype(np.float32).T, axis=1)[:, -10]
        with Memory.open(root) as opened:
            found = opened.search(queries, 10, modality=modality)
            assert (found.similarities >= least[:, None] - 1e-6).mean() >= 0.93
            searcher = opened._use().searchers[modality]
            lists = searcher.nearest_lists(searcher.rotate(queries), index.search.nprobe, index.search.margin).lists
        looked_at = (lists != NO_LIST).sum(axis=1)
        assert looked_at.min() < looked_at.max() <= index.search.nprobe
        assert (lists[:, 0] != NO_LIST).all()  # the nearest is never left out


def test_a_call_that_names_its_lists_has_no_margin(built):
    root, _, rows = built
    query = rows.image[:3].astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    with Memory.open(root) as opened:
        every = opened.search(query, 10, modality="image", nprobe=64, num_candidates=6000)
    order = np.argsort(-(query @ rows.image.astype(np.float32).T), axis=1, kind="stable")[:, :10]
    assert [set(ids) for ids in every.ids.tolist()] == [set(ids) for ids in order.tolist()]


def test_many_neighbours_are_found_beyond_the_margin(built):
    """C10: a margin never costs a neighbour that was asked for."""
    root, _, rows = built
    query = rows.text[:2].astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    with Memory.open(root) as opened:
        assert opened.search(query, 6000, modality="text").mask.all()


def test_pairs_that_are_added_are_searched_as_before(built, factory):
    root, manifest, _ = built
    memory.add_rows(root, factory.make_rows(5, D, seed=3), encoder=factory.encoder_record(D))
    after = memory.read_manifest(root)
    assert {m: after.indexes[m].search for m in memory.MODALITIES} == {
        m: manifest.indexes[m].search for m in memory.MODALITIES
    }


def test_the_margin_is_the_least_that_finds_enough(built):
    """Against a slow twin that tries one margin after the other."""
    root, manifest, rows = built
    with Memory.open(root) as opened:
        searcher = opened._use().searchers["text"]
        own = np.arange(0, 6000, 20)
        stored = StoredRows([rows.text])
        asked = ask(stored, stored.take(own).astype(np.float32), own)
        found = manifest.indexes["text"].search
        chosen = Setting(found.nprobe // WIDER, found.num_candidates, 0.0, 0.0, 0.0)
        narrower = narrow(searcher, asked, chosen, 0.95)
        recalls = [
            measure(searcher, asked, found.nprobe, [found.num_candidates], margin=step * STEP)[0].assured
            for step in range(1, 64)
        ]
    least = next(step for step, recall in enumerate(recalls, start=1) if recall >= 0.95)
    assert narrower is not None
    assert narrower.margin == least * STEP
