"""The strict way back from a manifest's bytes: what `manifest.serialise` would not have written is refused.

Imports of ours: encoder_record, errors, families, manifest, neighbours, strict_json. No file is opened here.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from memory.errors import ManifestInvalid
from memory.format.encoder_record import check_encoder_record
from memory.format.families import EXACT, KINDS, parse_factory
from memory.format.manifest import (
    FORMAT,
    INDEX_FILES,
    METRIC,
    SEGMENT_FILES,
    DeleteRecord,
    FileRecord,
    IndexRecord,
    Manifest,
    RemovedRecord,
    SearchParameters,
    SegmentRecord,
    ShardRecord,
    UnitRecord,
    deletes_path,
    index_directory,
    removed_path,
    segment_directory,
    self_sha256,
    shard_name,
)
from memory.format.strict_json import Fields, parse_object
from memory.neighbours import MODALITIES, Modality

MAX_CANDIDATES: Final = 65_536
MAX_MARGIN: Final = 2.0  # similarities are of -1 to 1
MAX_MANIFEST_BYTES: Final = 64 << 20  # 1e9 pairs in 2,000 segments need about 5 MB
_CONTENT_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNIT_ID = re.compile(r"[0-9A-Za-z_.:-]{1,128}")


def parse_manifest(data: bytes, *, version: int) -> Manifest:
    """Read a manifest file, refusing anything `serialise` would not have written.

    Args:
        data: the file's bytes.
        version: the number in the file's name.

    Raises:
        ManifestInvalid: naming the first thing that is wrong.
    """
    where = f"manifest {version}"
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes")
    value = parse_object(data, where)
    if value.get("format") != FORMAT or type(value["format"]) is not int:
        raise ManifestInvalid(
            f"{where}: format {value.get('format')!r} is not {FORMAT}, the only one this program reads"
        )
    if value.pop("self_sha256", None) != self_sha256(value):
        raise ManifestInvalid(f"{where}: its own hash does not match: it was edited or damaged after it was written")
    manifest = _parse_fields(Fields(value, where))
    if manifest.version != version:
        raise ManifestInvalid(f"{where} says it is version {manifest.version}")
    return manifest


class _Files:
    """The manifest's file table, handed out to the records that own the files; none may be left over."""

    def __init__(self, records: tuple[FileRecord, ...], where: str) -> None:
        self._rest = {record.path: record for record in records}
        self._where = where

    def take(self, paths: list[str]) -> tuple[FileRecord, ...]:
        taken = []
        for path in sorted(paths):
            if path not in self._rest:
                raise ManifestInvalid(f"{self._where}: {path} belongs to it but is not in 'files', or is named twice")
            taken.append(self._rest.pop(path))
        return tuple(taken)

    def done(self) -> None:
        # Paths are never free text: each is derived from an id of fixed form, so '../', '/abs' and friends
        # end here.
        if self._rest:
            raise ManifestInvalid(f"{self._where}: 'files' names {min(self._rest)!r}, which no part of it owns")


def _parse_fields(top: Fields) -> Manifest:
    top.take("format")
    files = _Files(top.table("files", _parse_file), top.where)
    if top.string("metric") != METRIC:
        raise ManifestInvalid(f"{top.where}: metric is not {METRIC!r}")
    encoder = check_encoder_record(top.mapping("encoder"))
    bases: list[int] = []
    segments = top.array("segments", lambda item: _parse_segment(item, files, bases))
    per_modality = Fields(top.mapping("indexes"), f"{top.where}.indexes")
    indexes: dict[Modality, IndexRecord] = {
        modality: _parse_index(per_modality, modality, segments, files, int(encoder["embed_dim"]))
        for modality in MODALITIES
    }
    per_modality.done()
    deletes = top.array("deletes", lambda item: _parse_delete(item, files))
    removed = _parse_removed(top, files) if top.has("removed") else None
    files.done()
    parent = top.take("parent")
    if parent is not None and (type(parent) is not int or parent < 1):
        raise ManifestInvalid(f"{top.where}: 'parent' is neither null nor a version")
    sources = top.take("sources")
    if sources is not None and not isinstance(sources, dict):
        raise ManifestInvalid(f"{top.where}: 'sources' is neither null nor an object")
    counts = top.mapping("counts")
    manifest = Manifest(
        version=top.integer("version", least=1),
        encoder=encoder,
        encoded_with=_parse_encoded_with(top),
        segments=segments,
        indexes=indexes,
        deletes=deletes,
        removed=removed,
        search_defaults=_parse_search_defaults(top),
        sources=sources,
        parent=parent,
    )
    top.done()
    _check_whole(manifest, tuple(bases), counts, top.where)
    return manifest


def _check_whole(manifest: Manifest, bases: tuple[int, ...], counts: Mapping[str, Any], where: str) -> None:
    if bases != manifest.base_rows:
        raise ManifestInvalid(f"{where}: base rows {bases} overlap or leave gaps; {manifest.base_rows} expected")
    if manifest.parent is not None and manifest.parent >= manifest.version:
        raise ManifestInvalid(f"{where}: parent {manifest.parent} is not older than version {manifest.version}")
    if counts != manifest.counts or manifest.counts["items"] < 0:
        raise ManifestInvalid(f"{where}: 'counts' disagree with the segments and deletes")


def _parse_file(path: str, item: Fields) -> FileRecord:
    return FileRecord(path, item.integer("bytes", least=1), item.string("sha256", _SHA256))


def _parse_unit(item: Fields) -> UnitRecord:
    return UnitRecord(item.string("id", _UNIT_ID), item.integer("rows"))


def _parse_segment(item: Fields, files: _Files, bases: list[int]) -> SegmentRecord:
    segment_id, rows = item.string("id", _CONTENT_ID), item.integer("rows", least=1)
    bases.append(item.integer("base_row"))
    units = item.array("units", _parse_unit)
    if sum(unit.rows for unit in units) != rows:
        raise ManifestInvalid(f"{item.where}: its units hold {sum(unit.rows for unit in units)} rows, it says {rows}")
    directory = segment_directory(segment_id)
    owned = files.take([f"{directory}/{name}" for name in SEGMENT_FILES])
    _check_content_id(segment_id, f"{directory}/segment.json", owned)
    return SegmentRecord(segment_id, rows, units, owned)


def _parse_index(
    per_modality: Fields, modality: Modality, segments: tuple[SegmentRecord, ...], files: _Files, embed_dim: int
) -> IndexRecord:
    item = Fields(per_modality.take(modality), f"{per_modality.where}.{modality}")
    index_id, kind = item.string("id", _CONTENT_ID), item.string("kind")
    if kind not in KINDS:
        raise ManifestInvalid(f"{item.where}: index kind {kind!r} is none that this program reads: {', '.join(KINDS)}")
    shards = item.array("shards", lambda s: ShardRecord(s.string("segment", _CONTENT_ID), s.integer("rows", least=1)))
    rows = sum(segment.rows for segment in segments)
    factory, search = (EXACT, None) if kind == EXACT else _parse_lists(item, kind, rows=rows, embed_dim=embed_dim)
    item.done()
    if [(s.segment, s.rows) for s in shards] != [(s.id, s.rows) for s in segments]:
        raise ManifestInvalid(f"{item.where}: its shards are not those of the segments, in their order")
    directory = index_directory(index_id)
    names = [*INDEX_FILES, *(shard_name(i) for i in range(len(shards)))]
    owned = files.take([f"{directory}/{name}" for name in names])
    _check_content_id(index_id, f"{directory}/shard.json", owned)
    return IndexRecord(index_id, kind, shards, owned, factory, search)


def _parse_lists(item: Fields, kind: str, *, rows: int, embed_dim: int) -> tuple[str, SearchParameters]:
    """What an index of lists says beyond the exact one."""
    factory = item.string("factory")
    family = parse_factory(factory, rows=max(1, rows), embed_dim=embed_dim)
    if family is None or (family.kind, family.factory) != (kind, factory):
        raise ManifestInvalid(f"{item.where}: factory {factory!r} is none of kind {kind!r} for {rows} rows")
    search = Fields(item.take("search"), f"{item.where}.search")
    parameters = SearchParameters(
        search.integer("nprobe", least=1, most=family.lists),
        search.integer("num_candidates", least=1, most=MAX_CANDIDATES),
        search.number("margin", least=0.0, most=MAX_MARGIN) if search.has("margin") else None,
    )
    search.done()
    return factory, parameters


def _parse_delete(item: Fields, files: _Files) -> DeleteRecord:
    deletes_id, rows = item.string("id", _CONTENT_ID), item.integer("rows", least=1)
    owned = files.take([deletes_path(deletes_id)])
    _check_content_id(deletes_id, owned[0].path, owned)
    return DeleteRecord(deletes_id, rows, owned)


def _parse_removed(top: Fields, files: _Files) -> RemovedRecord:
    item = Fields(top.take("removed"), f"{top.where}.removed")
    removed_id, keys = item.string("id", _CONTENT_ID), item.integer("keys", least=1)
    item.done()
    owned = files.take([removed_path(removed_id)])
    _check_content_id(removed_id, owned[0].path, owned)
    return RemovedRecord(removed_id, keys, owned)


def _check_content_id(name: str, described_by: str, files: tuple[FileRecord, ...]) -> None:
    record = next(file for file in files if file.path == described_by)
    if not record.sha256.startswith(name):
        raise ManifestInvalid(f"{described_by}: its hash is not the one its directory is named after")


def _parse_encoded_with(top: Fields) -> dict[str, Any]:
    value = top.mapping("encoded_with")
    if not all(isinstance(value.get(name), str) for name in ("device", "dtype")):
        raise ManifestInvalid(f"{top.where}: 'encoded_with' must name device and dtype")
    return value


def _parse_search_defaults(top: Fields) -> dict[str, Any]:
    value = top.mapping("search_defaults")
    if type(value.get("k")) is not int or value["k"] < 0:
        raise ManifestInvalid(f"{top.where}: 'search_defaults' must hold k, at least 0")
    return value
