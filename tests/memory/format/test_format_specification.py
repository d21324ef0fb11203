"""docs/memory-format.md, held: a reader written from it alone opens what the builder made and searches it.

`SpecReader` imports json, numpy and pyarrow, and nothing of ours; the memory is there to be compared with.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

BLOCK = 16_384


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


FIELDS = {
    "format", "version", "parent", "metric", "encoder", "encoded_with", "segments", "indexes", "deletes", "counts",
    "search_defaults", "sources", "files", "self_sha256",
}  # fmt: skip


class SpecReader:
    """A memory, read as the specification says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        name = sorted(path.name for path in (root / "manifests").iterdir())[-1]
        data = (root / "manifests" / name).read_bytes()
        self.manifest = manifest = json.loads(data)
        assert canonical(manifest) == data
        assert set(manifest) - {"removed"} == FIELDS
        assert f"{manifest['version']:08d}.json" == name
        assert (manifest["format"], manifest["metric"]) == (1, "inner_product")
        assert manifest["self_sha256"] == sha256(canonical({k: v for k, v in manifest.items() if k != "self_sha256"}))
        unnamed = ("version", "parent", "self_sha256")
        hashed = {k: v for k, v in manifest.items() if k not in unnamed}
        hashed["encoded_with"] = {k: v for k, v in manifest["encoded_with"].items() if k != "model"}
        self.digest = sha256(canonical(hashed))
        self.dim = manifest["encoder"]["embed_dim"]
        self.files = {path: self._checked(path) for path in manifest["files"]}
        owned = self._segments() | self._indexes() | self._lists()
        assert owned == set(manifest["files"])

    def _checked(self, path: str) -> bytes:
        data = (self.root / path).read_bytes()
        assert {"bytes": len(data), "sha256": sha256(data)} == self.manifest["files"][path], path
        return data

    def _described(self, directory: str, name: str, others: list[str]) -> dict:
        data = self.files[f"{directory}/{name}"]
        assert sha256(data)[:32] == directory.split("/")[1]
        value = json.loads(data)
        assert canonical(value) == data
        assert value["files"] == {other: self.manifest["files"][f"{directory}/{other}"] for other in others}
        return value

    def _segments(self) -> set[str]:
        self.sides: dict[str, list[np.ndarray]] = {"image": [], "text": []}
        self.items: list[dict] = []
        owned = set()
        for segment in self.manifest["segments"]:
            assert segment["base_row"] == len(self.items)
            assert sum(unit["rows"] for unit in segment["units"]) == segment["rows"]
            directory = f"segments/{segment['id']}"
            names = ["image.f16.npy", "text.f16.npy", "items.arrow"]
            told = self._described(directory, "segment.json", names)
            assert set(told) == {"format", "rows", "embed_dim", "units", "files"}
            assert (told["format"], told["rows"], told["embed_dim"]) == (1, segment["rows"], self.dim)
            assert told["units"] == segment["units"]
            for side, name in zip(("image", "text"), names, strict=False):
                self.sides[side].append(self._embeddings(self.files[f"{directory}/{name}"], segment["rows"]))
            self.items += self._table(self.files[f"{directory}/items.arrow"], segment["rows"])
            owned |= {f"{directory}/{name}" for name in [*names, "segment.json"]}
        return owned

    def _embeddings(self, data: bytes, rows: int) -> np.ndarray:
        assert data[:8] == b"\x93NUMPY\x01\x00"
        header = int.from_bytes(data[8:10], "little")
        text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({rows}, {self.dim}), }}"
        assert data[10 : 10 + header].decode().strip() == text
        array = np.frombuffer(data, "<f2", offset=10 + header).reshape(rows, self.dim)
        norms = np.linalg.norm(array.astype(np.float32), axis=1)
        assert (np.abs(norms - 1) <= 0.002).all()
        return array

    def _table(self, data: bytes, rows: int) -> list[dict]:
        reader = pa.ipc.open_file(pa.BufferReader(data))
        told = [(field.name, field.type, field.nullable) for field in reader.schema]
        texts = ("key", "caption", "source", "content_sha256")
        assert told == [*((name, pa.utf8(), False) for name in texts), ("thumbnail", pa.binary(), True)]
        sizes = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
        assert sizes == [min(BLOCK, rows - start) for start in range(0, rows, BLOCK)]
        return reader.read_all().to_pylist()

    def _indexes(self) -> set[str]:
        owned = set()
        for side, index in self.manifest["indexes"].items():
            directory = f"indexes/{index['id']}"
            names = [f"shard-{i:05d}.faiss" for i in range(len(index["shards"]))]
            told = self._described(directory, "shard.json", ["trained.faiss", "report.json", *names])
            assert (told["kind"], told["modality"]) == (index["kind"], side)
            assert (told["metric"], told["embed_dim"], told["format"]) == ("inner_product", self.dim, 1)
            segments = [{"segment": s["id"], "rows": s["rows"]} for s in self.manifest["segments"]]
            assert index["shards"] == told["shards"] == segments
            report = json.loads(self.files[f"{directory}/report.json"])
            assert canonical(report) == self.files[f"{directory}/report.json"]
            if index["kind"] == "exact":
                assert set(index) == {"id", "kind", "shards"}
                assert told["quantiser"] == "fp16"
                assert report == {"kind": "exact", "rows": len(self.items)}
                for name, rows in zip(names, self.sides[side], strict=True):
                    assert self.files[f"{directory}/{name}"].endswith(rows.tobytes())
            else:
                assert set(index) == {"id", "kind", "shards", "factory", "search"}
                self._check_lists(index, told, report)
            owned |= {f"{directory}/{name}" for name in [*names, "shard.json", "report.json", "trained.faiss"]}
        return owned

    def _check_lists(self, index: dict, told: dict, report: dict) -> None:
        assert told["factory"] == report["factory"] == index["factory"]
        assert set(report) == {"kind", "factory", "rows", "wanted", "training", "shards", "measured"}
        assert (report["kind"], report["rows"]) == (index["kind"], len(self.items))
        assert set(report["wanted"]) == {"recall", "max_bytes_per_pair", "factory"}
        assert set(report["training"]) == {"rows", "of", "similarity"}
        assert [{k: s[k] for k in ("segment", "rows")} for s in report["shards"]] == index["shards"]
        measured = report["measured"]
        assert index["search"] == {n: measured[n] for n in ("nprobe", "num_candidates", "margin") if n in measured}
        assert any(setting["recall"] == measured["recall"] for setting in measured["settings"])

    def search_lists(self, query: np.ndarray, k: int, side: str) -> list[int]:
        """With FAISS, as the specification says; the lists are all looked at, and all rows of them ranked."""
        import faiss

        index = self.manifest["indexes"][side]
        directory = self.root / "indexes" / index["id"]
        trained = faiss.read_index(str(directory / "trained.faiss"))
        made = faiss.index_factory(self.dim, index["factory"], faiss.METRIC_INNER_PRODUCT)
        assert (type(trained), trained.ntotal) == (type(made), 0)
        rotated = trained.chain.at(0).apply(query[None]) if index["factory"].startswith("RR") else query[None]
        coarse = faiss.extract_index_ivf(trained).quantizer
        candidates: list[int] = []
        base = 0
        for i, shard in enumerate(index["shards"]):
            opened = faiss.read_index(str(directory / f"shard-{i:05d}.faiss"))
            assert (opened.ntotal, opened.quantizer.ntotal) == (shard["rows"], 0)
            opened.own_fields, opened.quantizer, opened.nprobe = False, coarse, coarse.ntotal
            candidates += [base + int(row) for row in opened.search(rotated, shard["rows"])[1][0]]
            base += shard["rows"]
        assert sorted(candidates) == list(range(len(self.items)))
        return [id for id in self.search(query, len(self.items), side)[0] if id in set(candidates)][:k]

    def _lists(self) -> set[str]:
        owned = {f"deletes/{record['id']}.npy": record["rows"] for record in self.manifest["deletes"]}
        lists = [np.frombuffer(self._npy(path, "<i8", (rows,)), "<i8") for path, rows in owned.items()]
        assert all((np.diff(ids) > 0).all() for ids in lists)
        deleted = [int(id) for ids in lists for id in ids]
        assert len(set(deleted)) == len(deleted)
        self.alive = [id for id in range(len(self.items)) if id not in set(deleted)]
        told = {"items": len(self.alive), "rows": len(self.items), "segments": len(self.manifest["segments"])}
        assert self.manifest["counts"] == told
        self.removed: set[bytes] = set()
        if "removed" in self.manifest:
            record = self.manifest["removed"]
            path = f"removed/{record['id']}.npy"
            data = self._npy(path, "|u1", (record["keys"], 32))
            hashes = [data[start : start + 32] for start in range(0, len(data), 32)]
            assert hashes == sorted(set(hashes))
            self.removed, owned[path] = set(hashes), 0
        return set(owned)

    def _npy(self, path: str, dtype: str, shape: tuple[int, ...]) -> bytes:
        data = self.files[path]
        assert sha256(data)[:32] == Path(path).stem
        header = int.from_bytes(data[8:10], "little")
        text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
        assert data[10 : 10 + header].decode().strip() == text
        return data[10 + header :]

    def search(self, query: np.ndarray, k: int, side: str) -> tuple[list[int], list[np.float32]]:
        rows = np.concatenate(self.sides[side]).astype(np.float64)
        similarities = np.array([np.dot(row, query.astype(np.float64)) for row in rows]).astype(np.float32)
        order = sorted(self.alive, key=lambda id: (-similarities[id], id))[:k]
        return order, [similarities[id] for id in order]


def assert_agrees(root: Path, queries: np.ndarray, **parameters: int) -> SpecReader:
    """The reader of the specification and our own see the same memory."""
    from memory import Memory, read_removed

    read = SpecReader(root)
    with Memory.open(root) as opened:
        assert (read.digest, read.manifest["version"]) == (opened.digest, opened.version)
        assert [item["key"] for item in read.items] == opened.keys()
        assert [item["caption"] for item in read.items] == opened.captions()
        assert read.removed == read_removed(root, opened.manifest)
        for side in ("image", "text"):
            k = min(7, len(read.alive))
            found = opened.search(queries, k, modality=side, **parameters)
            for row, query in enumerate(queries):
                ids, similarities = read.search(query, k, side)
                assert found.ids[row].tolist() == ids
                np.testing.assert_allclose(found.similarities[row], similarities, rtol=0, atol=1e-7)
    return read


def test_a_memory_and_what_becomes_of_it(root, factory):
    """Built of two segments, one longer than a block; removed from, compacted, purged, rolled back."""
    import memory

    queries = factory.unit_rows(3, factory.D, 9)
    rows = factory.make_rows(BLOCK + 11, seed=1, thumbnails=False)
    factory.commit(root, [rows, factory.make_rows(30, seed=2)])
    assert "removed" not in assert_agrees(root, queries).manifest
    memory.remove_keys(root, memory.KeyPatterns(["1-1*", "2-5"]))
    read = assert_agrees(root, queries)
    assert hashlib.sha256(b"2-5").digest() in read.removed
    memory.remove_keys(root, memory.KeyPatterns(["2-6"]))
    assert len(assert_agrees(root, queries).manifest["deletes"]) == 2
    before = read_alive(root)
    memory.compact(root)
    assert assert_agrees(root, queries).manifest["deletes"] == []
    assert read_alive(root) == before
    memory.roll_back(root, 1)
    assert len(assert_agrees(root, queries).alive) == BLOCK + 41
    receipt = memory.purge(root, memory.KeyPatterns(["2-7"])).receipt
    assert_agrees(root, queries)
    told = json.loads((root / receipt.path).read_text())
    assert told["keys_sha256"] == [sha256(b"2-7")]
    assert (told["state"], told["digest_after"]) == ("complete", SpecReader(root).digest)


@pytest.mark.parametrize("words", ["IVF4,SQ8", "IVF4,RaBitQ", "IVF4,RaBitQfs"])
def test_a_memory_with_lists(root, factory, words):
    """Two segments, removed from, then a pair added to the same lists."""
    import memory

    options = memory.IndexOptions(factory=words, recall=1.0)
    first = factory.make_rows(150, seed=1, thumbnails=False)
    factory.commit(root, [first, factory.make_rows(60, seed=2)], options=options)
    memory.remove_keys(root, memory.KeyPatterns(["1-1", "2-5"]))
    memory.add_rows(root, factory.make_rows(1, seed=3), encoder=factory.encoder_record())
    read = assert_agrees(root, factory.unit_rows(3, factory.D, 9), nprobe=4, num_candidates=300)
    assert len(read.manifest["segments"]) == 3
    query = factory.unit_rows(1, factory.D, 8)[0]
    for side in ("image", "text"):
        assert read.search_lists(query, 5, side) == read.search(query, 5, side)[0]


def read_alive(root: Path) -> list[dict]:
    read = SpecReader(root)
    return [read.items[id] for id in read.alive]


def test_a_memory_of_the_builder(tmp_path):
    """From cached embeddings, so that no model runs: keys and captions beyond ASCII, upserted once."""
    from memory_builder import BuildConfig, Origin, build_from_embeddings, open_embeddings

    rng = np.random.default_rng(0)
    arrays = {side: rng.standard_normal((90, 16)).astype(np.float32) for side in ("image", "text")}
    captions = np.array([f"ein grüner Vogel 鳥 {number}" for number in range(90)])
    queries = arrays["image"][:4] / np.linalg.norm(arrays["image"][:4], axis=1, keepdims=True)
    for step in range(2):
        np.savez(tmp_path / "vögel.npz", **arrays, caption=captions, key=np.array([f"k{n}" for n in range(90)]))
        config = BuildConfig((str(tmp_path / "vögel.npz"),), tmp_path / "memory", unit_rows=32, upsert=bool(step))
        readers = open_embeddings(config)
        result = build_from_embeddings(config, readers, Origin.undeclared("some-clip", readers[0].embed_dim))
        assert (result.added, result.replaced) == ((90, 0), (3, 3))[step]
        read = assert_agrees(tmp_path / "memory", queries)
        assert len(read.alive) == 90
        captions[[3, 40, 89]] = "another"


@pytest.mark.parametrize("place", ["manifests", "segments", "indexes", "deletes", "removed"])
def test_the_reader_of_the_specification_notices_damage(root, factory, place):
    import memory

    factory.commit(root, [factory.make_rows(30, seed=2)])
    memory.remove_keys(root, memory.KeyPatterns(["2-1"]))
    for path in [path for path in (root / place).rglob("*") if path.is_file() and path.name != "00000001.json"]:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises((AssertionError, ValueError)):
            SpecReader(root)
        path.write_bytes(data)
    SpecReader(root)
