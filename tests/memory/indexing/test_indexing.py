"""Which index a memory gets, what it goes on from, and whether the recall it tells is true."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import memory
from memory import IndexOptions, IndexOptionsInvalid, Memory
from memory.format.families import Family, lists_for
from memory.indexing.kernels import kernel_for
from memory.indexing.measuring import Cost, Setting, choose_setting
from memory.indexing.options import choose_family
from memory.indexing.reports import has_drifted

SQ8 = IndexOptions(factory="IVF8,SQ8")
D = 24


@pytest.mark.parametrize(
    ("rows", "dim", "limit", "factory"),
    [
        (10_000, 512, None, "exact"),
        (20_000, 512, None, "exact"),
        (20_001, 512, None, "RR512,IVF256,RaBitQ"),
        (1_000_000, 768, None, "RR768,IVF2048,RaBitQ"),
        (1_000_000, 128, None, "IVF2048,SQ8"),  # 1-bit codes of few dimensions say little
        (20_000_001, 128, None, "RR128,IVF8192,RaBitQ"),
        (1_000_000, 128, 100, "RR128,IVF2048,RaBitQ"),
        (100_000, 512, 1200, "RR512,IVF512,RaBitQ"),  # a budget below the exact index's, whatever the size
    ],
)
def test_the_family_follows_size_dimension_and_budget(rows, dim, limit, factory):
    family = choose_family(rows, dim, IndexOptions(max_bytes_per_pair=limit))
    assert family.factory == factory
    assert limit is None or 2 * family.bytes_per_row(rows) <= limit


@pytest.mark.parametrize(
    ("words", "factory"),
    [
        ("exact", "exact"),
        ("IVF,SQ8", "IVF256,SQ8"),
        ("IVF77,SQ8", "IVF77,SQ8"),
        ("IVF,RaBitQ", "RR512,IVF256,RaBitQ"),
        ("RR512,IVF9,RaBitQfs", "RR512,IVF9,RaBitQfs"),
    ],
)
def test_the_factory_overrides(words, factory):
    assert choose_family(20_000, 512, IndexOptions(factory=words)).factory == factory


@pytest.mark.parametrize(
    "words", ["", "PQ64", "IVF8,PQ64x4fs", "HNSW32", "RR512,IVF8,SQ8", "IVF8,SQ8,Refine(SQ8)", "Exact"]
)
def test_what_is_no_factory_is_refused_before_anything_is_encoded(words):
    with pytest.raises(IndexOptionsInvalid, match="IVF,SQ8"):
        IndexOptions(factory=words)


@pytest.mark.parametrize(
    "options", [{"recall": 0.0}, {"recall": 1.1}, {"recall": float("nan")}, {"max_bytes_per_pair": 0}]
)
def test_options_out_of_range(options):
    with pytest.raises(IndexOptionsInvalid) as refusal:
        IndexOptions(**options)
    assert refusal.value.code == "index_options_invalid"


def test_a_memory_of_one_caption_opens_and_is_searched(root, factory):
    """Its centroids are all equal then, and which of them is nearest to a row is a matter of rounding."""
    rows = factory.make_rows(21_000, 64, seed=1, thumbnails=False)
    alike = memory.Rows(rows.image, np.repeat(rows.text[:1], 21_000, axis=0), rows.items)
    assert factory.commit(root, [alike]).indexes["text"].kind == "ivf_sq8"
    with Memory.open(root) as opened:
        assert opened.search(alike.text[:1].astype(np.float32), 10, modality="text").mask.all()


def test_what_does_not_fit_is_refused_and_leaves_nothing(root, factory):
    record = memory.write_segment(root, [factory.make_rows(60)], [memory.UnitRecord("u", 60)])
    for options in (
        IndexOptions(factory="IVF61,SQ8"),
        IndexOptions(factory="RR25,IVF4,RaBitQ"),
        IndexOptions(max_bytes_per_pair=9),
    ):
        with pytest.raises(IndexOptionsInvalid):
            memory.build_index(root, [record], "image", options=options)
    assert not (root / "indexes").exists()


def test_lists_grow_with_the_memory():
    assert [lists_for(rows) for rows in (10, 1000, 100_000, 10**6, 10**9)] == [4, 31, 512, 2048, 65_536]
    assert Family("ivf_rabitq", 2048, 512).bytes_per_row(10**6) < 128


def test_the_kernel_follows_the_processors_flags():
    new = frozenset(["avx2", "fma", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"])
    assert kernel_for(new) == "SkylakeX"
    assert kernel_for(new - {"avx512bw"}) == "Haswell"
    assert kernel_for(frozenset({"sse4_2"})) is None


def test_loading_faiss_leaves_the_environment_as_it_was():
    code = "import os; before = dict(os.environ); import memory; import sys; sys.exit(dict(os.environ) != before)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def lists(root, factory):
    """A memory of 400 pairs in two segments, with lists."""
    parts = [factory.make_rows(300, D, seed=1, thumbnails=False), factory.make_rows(100, D, seed=2, thumbnails=False)]
    return factory.commit(root, parts, options=SQ8)


def test_the_recall_told_is_the_recall_there_is(root, lists):
    """Measured again in the slowest way: each held-out row asked, its own row left out."""
    from memory.indexing.training import split_rows

    for modality in memory.MODALITIES:
        report = json.loads((root / f"indexes/{lists.indexes[modality].id}/report.json").read_text())
        seed = "\0".join((modality, *(segment.id for segment in lists.segments)))
        split = split_rows(400, 8, seed=seed)
        assert not set(split.training.tolist()) & set(split.held_out.tolist())
        with Memory.open(root) as opened:
            rows = opened.rows(modality)
            stored = np.concatenate([segment.side(modality) for segment in opened._use().segments]).astype(np.float32)
            for setting in report["measured"]["settings"]:
                if setting["num_candidates"] < 64:
                    continue
                found = opened.search(
                    rows[split.held_out], 11, modality=modality, nprobe=setting["nprobe"], num_candidates=400
                )
                hits = 0
                for row, ids in zip(split.held_out.tolist(), found.ids.tolist(), strict=True):
                    order = [int(id) for id in np.argsort(-(stored @ rows[row]), kind="stable") if id != row][:10]
                    hits += len(set(order) & set([id for id in ids if id != row][:10]))
                # a search goes on to more lists where those named hold fewer than are asked for
                assert hits / len(split.held_out) / 10 >= setting["recall"] - 0.02


def test_what_is_wanted_is_reached_at_the_least_cost(root, factory):
    measured = {}
    for recall in (0.5, 0.9, 1.0):
        manifest = factory.commit(
            root / str(recall),
            [factory.make_rows(600, D, seed=1)],
            options=IndexOptions(recall=recall, factory="IVF16,SQ8"),
        )
        report = json.loads((root / f"{recall}/indexes/{manifest.indexes['image'].id}/report.json").read_text())
        assert report["measured"]["recall"] >= recall
        measured[recall] = report["measured"]["nprobe"]
    assert measured[0.5] <= measured[0.9] <= measured[1.0]


def test_added_pairs_share_the_lists_and_old_shards_are_linked(root, factory, lists):
    memory.add_rows(root, factory.make_rows(40, D, seed=3), encoder=factory.encoder_record())
    after = memory.read_manifest(root)
    for modality in memory.MODALITIES:
        old, new = (root / f"indexes/{m.indexes[modality].id}" for m in (lists, after))
        for name in ("trained.faiss", "shard-00000.faiss", "shard-00001.faiss"):
            assert (old / name).stat().st_ino == (new / name).stat().st_ino
        before, now = (json.loads((place / "report.json").read_text()) for place in (old, new))
        assert (now["measured"], now["training"]) == (before["measured"], before["training"])
        assert (now["rows"], len(now["shards"])) == (440, 3)
        assert now["shards"][:2] == before["shards"]
    assert memory.verify_memory(root, full=True).ok
    with Memory.open(root) as opened:  # the new pair is its own neighbour
        assert opened.search(opened.rows("image", [430]), 1, modality="image", nprobe=8).ids.tolist() == [[430]]


def test_an_exact_index_takes_its_shards_over_too(root, factory):
    before = factory.commit(root, [factory.make_rows(40, D, seed=1)])
    memory.add_rows(root, factory.make_rows(3, D, seed=3), encoder=factory.encoder_record())
    after = memory.read_manifest(root)
    old, new = (root / f"indexes/{m.indexes['text'].id}/shard-00000.faiss" for m in (before, after))
    assert old.stat().st_ino == new.stat().st_ino
    assert after.indexes["text"] == memory.build_index(root, after.segments, "text")  # as if it were built at once


def test_a_build_that_has_doubled_a_memory_trains_anew(root, factory, lists):
    added = memory.write_segment(root, [factory.make_rows(401, D, seed=3)], [memory.UnitRecord("more", 401)])
    indexes = memory.build_indexes(root, [*lists.segments, added], previous=lists.indexes)
    report = json.loads((root / f"indexes/{indexes['image'].id}/report.json").read_text())
    assert report["training"]["of"] == 801
    assert report["wanted"]["factory"] == "IVF8,SQ8"


def test_reindex_makes_a_version_of_the_same_rows(root, lists):
    done = memory.reindex(root, IndexOptions(factory="IVF4,RaBitQ", recall=0.8))
    assert (done.created, done.after.version, done.after.segments) == (True, 2, lists.segments)
    assert done.after.indexes["text"].factory == f"RR{D},IVF4,RaBitQ"
    again = memory.reindex(root)  # wants what was wanted, and trains the same
    assert (again.created, again.after.version) == (False, 2)
    assert memory.reindex(root, IndexOptions(factory="exact")).after.indexes["image"].kind == "exact"
    back = memory.reindex(root, SQ8)
    assert (back.after.version, back.after.digest) == (4, lists.digest)


def test_compact_and_purge_want_what_was_wanted_and_train_without_what_is_gone(root, lists):
    memory.remove_keys(root, memory.KeyPatterns(["1-1*"]))
    compacted = memory.compact(root).after
    assert compacted.indexes["image"].factory == "IVF8,SQ8"
    memory.purge(root, memory.KeyPatterns(["2-7"]))
    purged = memory.read_manifest(root)
    assert purged.indexes["image"].factory == "IVF8,SQ8"
    trained = {m.indexes["image"].files[-1].sha256 for m in (lists, compacted, purged)}
    assert len(trained) == 3  # no centroid is an average over a row that was purged
    assert memory.verify_memory(root, full=True).ok


@pytest.mark.parametrize("words", ["IVF8,SQ8", "IVF8,RaBitQ", "IVF8,RaBitQfs"])
def test_equal_rows_give_an_equal_digest_with_as_many_threads(tmp_path, factory, words):
    """On some processors products round otherwise where more threads share them: no more is promised."""
    code = """
import sys, memory
root = __import__("pathlib").Path(sys.argv[1])
record = memory.SegmentRecord(*__import__("ast").literal_eval(sys.argv[2]), (), ())
print(memory.build_index(root, [record], "image", options=memory.IndexOptions(factory=sys.argv[3])).id)
"""
    rows = factory.make_rows(3000, 64, seed=4, thumbnails=False)
    ids = set()
    for name in ("one", "other"):
        root = tmp_path / name
        record = memory.write_segment(root, [rows], [memory.UnitRecord("u", 3000)])
        done = subprocess.run(
            [sys.executable, "-c", code, str(root), repr((record.id, record.rows)), words],
            env={**os.environ, "OMP_NUM_THREADS": "3"},
            capture_output=True,
            text=True,
            check=True,
        )
        ids.add(done.stdout)
    assert len(ids) == 1


def test_drift_is_told_and_breaks_nothing(root, factory, lists):
    """Pairs from elsewhere, far outside what the codes were trained on: found all the same, and the memory is sound."""
    far = factory.make_rows(200, D, seed=5)
    one_way = np.abs(far.image.astype(np.float32)) + 2
    far.image[:] = one_way / np.linalg.norm(one_way, axis=1, keepdims=True)
    far.image[:100] = -far.image[:100]
    with Memory.open(root) as opened:
        assert not any(index["drifted"] for index in opened.indices())
    memory.add_rows(root, far, encoder=factory.encoder_record())
    assert memory.verify_memory(root, full=True).ok
    with Memory.open(root) as opened:
        found = opened.search(opened.rows("image", range(400, 600)), 1, modality="image", nprobe=8, num_candidates=600)
        assert (found.similarities > 0.999).all()
    report = {"rows": 10, "training": {"similarity": 0.8}, "shards": [{"rows": 8, "similarity": 0.8}, {"rows": 2}]}
    for similarity, drifted in ((0.8, False), (0.6, True)):
        report["shards"][1]["similarity"] = similarity
        assert has_drifted(report) is drifted


def test_a_setting_that_was_lucky_is_not_chosen():
    """Its recall is 0.99 by no more than chance: the next dearer one is sure of it."""
    lucky, sure, dear = (Setting(n, 16, 0.0, recall, 0.002) for n, recall in ((8, 0.991), (16, 0.993), (32, 0.999)))
    cost = Cost(list_bytes=1000, row_bytes=2 * D)
    assert choose_setting([lucky, sure, dear], 0.99, cost) is sure
    assert choose_setting([lucky, sure, dear], 1.0, cost) is dear
