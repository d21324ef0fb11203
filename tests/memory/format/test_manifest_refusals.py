"""Manifests: what goes in comes back; all else is refused before a file it names is opened (F8, F9)."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

import memory
from memory import Memory, content_digest, read_manifest
from memory.format.manifest import serialise
from memory.format.manifest_parser import parse_manifest


def edit_raw(root, change):
    path = root / "manifests/00000001.json"
    path.write_bytes(change(path.read_bytes()))


def refused(root) -> str:
    with pytest.raises(memory.ManifestInvalid) as refusal:
        Memory.open(root)
    assert refusal.value.code == "manifest_invalid"
    return str(refusal.value)


def test_round_trip(built):
    manifest = read_manifest(built)
    data = serialise(manifest)
    assert data == (built / "manifests/00000001.json").read_bytes()
    assert parse_manifest(data, version=1) == manifest
    assert manifest.counts == {"items": 68, "rows": 70, "segments": 2}
    assert manifest.base_rows == (0, 40)


def test_equal_contents_have_an_equal_digest(tmp_path, factory):
    parts = [factory.make_rows(20, seed=1), factory.make_rows(10, seed=2)]
    first = factory.commit(tmp_path / "a", parts)
    factory.commit(tmp_path / "b", parts[:1])
    later = factory.commit(tmp_path / "b", parts, parent=1)
    assert (first.version, later.version) == (1, 2)
    assert first.digest == later.digest == content_digest(later)
    assert first.digest != read_manifest(tmp_path / "b", 1).digest
    assert first.files == later.files  # every byte of every file


def test_a_renamed_model_makes_the_same_contents_and_another_precision_does_not(built):
    manifest = read_manifest(built)
    digests = [
        replace(manifest, encoded_with={"device": "cpu", "dtype": dtype, **name}).digest
        for dtype, name in (
            ("f", {}),
            ("f", {"model": "my-clip"}),
            ("f", {"model": "moved"}),
            ("g", {"model": "moved"}),
        )
    ]
    assert digests[0] == digests[1] == digests[2] != digests[3]
    other = {**manifest.encoder, "weights_sha256": "0" * 64}
    assert replace(manifest, encoder=other).digest != manifest.digest


def test_nothing_of_this_host_or_hour_is_hashed(built):
    """A cheap tripwire: no path, host name or year in any JSON of the memory."""
    import platform
    import time

    for path in [*built.rglob("*.json")]:
        text = path.read_text()
        assert str(built) not in text
        assert platform.node() not in text or len(platform.node()) < 4
        assert f'"{time.gmtime().tm_year}-' not in text


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: b"\0" * len(data),
        lambda data: data[:-40],
        lambda data: b"[]\n",
        lambda data: b"[" * 100_000,
        lambda data: data.replace(b'"metric":', b'"metric":"x","metric":'),
        lambda data: data.replace(b'"k":10', b'"k":11'),
        lambda data: data.replace(b'"k":10', b'"k":1e1'),
        lambda data: data.replace(b'"k":10', b'"k":NaN'),
        lambda data: data.replace(b'"k":10', b'"k":1e999'),
        lambda data: data.replace(b'"k":10', b'"k":' + b"9" * 5000),
        lambda data: data.replace(b'"format":1', b'"format": 1'),
        lambda data: data + b" ",
        lambda data: b"\xff" + data,
    ],
)
def test_F08_damaged_json_is_refused(built, change):
    edit_raw(built, change)
    refused(built)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda m: m.update(format=2), "format 2"),
        (lambda m: m.update(format=True), "format"),
        (lambda m: m.pop("segments"), "'segments' is missing"),
        (lambda m: m.update(more=1), "unknown field 'more'"),
        (lambda m: m.update(metric="l2"), "metric"),
        (lambda m: m.update(version=2), "version 2"),
        (lambda m: m.update(parent=1), "not older"),
        (lambda m: m.update(parent="0"), "parent"),
        (lambda m: m.update(search_defaults={}), "search_defaults"),
        (lambda m: m.update(encoded_with={"device": "cpu"}), "encoded_with"),
        (lambda m: m["counts"].update(items=69), "counts"),
        (lambda m: m["encoder"].pop("weights_sha256"), "weights_sha256"),
        (lambda m: m["encoder"]["probes"]["image"][0].pop(), "probes"),
        (lambda m: m["segments"][0].update(rows=True), "rows"),
        (lambda m: m["segments"][0].update(rows=-1), "rows"),
        (lambda m: m["segments"][0].update(rows=10**30), "rows"),
        (lambda m: m["segments"][0].update(more=1), "unknown field"),
        (lambda m: m["segments"][0]["units"].clear(), "units"),
        (lambda m: m["indexes"]["image"].update(kind="ivf"), "kind"),
        (lambda m: m["indexes"].pop("text"), "'text' is missing"),
        (lambda m: m["indexes"]["image"]["shards"].pop(), "shards"),
        (lambda m: m["indexes"]["image"]["shards"].reverse(), "shards"),
        (lambda m: m["files"].popitem(), "not in 'files'"),
    ],
)
def test_F08_well_formed_nonsense_is_refused(built, factory, edit, told):
    factory.tamper(built, edit)
    assert told in refused(built)


@pytest.mark.parametrize("base_row", [0, 39, 41, -1])
def test_F09_overlapping_or_gapping_base_rows_are_refused(built, factory, base_row):
    factory.tamper(built, lambda m: m["segments"][1].update(base_row=base_row))
    refused(built)


def test_F09_the_same_segment_twice_is_refused(built, factory):
    def twice(m):
        m["segments"].append({**m["segments"][0], "base_row": 70})

    factory.tamper(built, twice)
    assert "named twice" in refused(built)


@pytest.mark.parametrize("path", ["../../etc/x", "/abs", "segments/../../x", "segments/x/../y", "HEAD", "", "a\0b"])
def test_F09_paths_outside_the_format_are_refused(built, factory, path):
    record = {"bytes": 1, "sha256": "0" * 64}
    factory.tamper(built, lambda m: m["files"].update({path: record}))
    refused(built)


@pytest.mark.parametrize("name", ["../" * 3 + "etc", "/etc/passwd", "A" * 32, "0" * 31, "0" * 32])
def test_F09_ids_of_another_form_are_refused(built, factory, name):
    factory.tamper(built, lambda m: m["segments"][0].update(id=name))
    refused(built)


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "directory symlink"])
def test_F09_what_is_no_plain_file_is_refused(built, kind):
    path = next(built.glob("segments/*/text.f16.npy"))
    aside = built / "aside"
    if kind == "directory symlink":
        path.parent.rename(aside)
        path.parent.symlink_to(aside)
    else:
        path.rename(aside)
    if kind == "symlink":
        path.symlink_to(aside)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    refused(built)


def test_F09_a_manifest_that_is_no_plain_file_is_refused(built):
    path = built / "manifests/00000001.json"
    path.rename(built / "aside")
    path.symlink_to(built / "aside")
    refused(built)


def test_F08_a_huge_manifest_is_refused_without_reading_it(built):
    with (built / "manifests/00000001.json").open("r+b") as file:
        file.truncate(1 << 30)
    assert "larger than" in refused(built)


def test_other_names_are_not_versions(built):
    for name in ("00000009.json.tmp", ".tmp-1-0123456789abcdef", "9.json", "000000009.json", "latest.json"):
        (built / "manifests" / name).write_bytes(b"")
    assert memory.list_versions(built) == [1]
    assert Memory.open(built).version == 1


def test_a_damaged_newest_version_is_no_reason_to_serve_an_older_one(built, factory):
    factory.commit(built, [factory.make_rows(5, seed=9)], parent=1)
    (built / "manifests/00000002.json").write_bytes(b"{}\n")
    assert "name one" in refused(built)
    assert Memory.open(built, version=1).num_rows == 70


def test_missing_memories_and_versions_are_told_apart(built, tmp_path):
    with pytest.raises(memory.MemoryNotFound):
        Memory.open(tmp_path / "nowhere")
    with pytest.raises(memory.VersionNotFound, match="it has 1"):
        Memory.open(built, version=7)


@pytest.mark.parametrize(
    "edit",
    [
        lambda e: e.update(architecture="other"),
        lambda e: e.update(weights_sha256="00" * 32),
        lambda e: e["preprocessing"].update(size=33),
        lambda e: e["tokenizer"].update(sha256="00" * 32),
        lambda e: e.update(embed_dim=12),
        lambda e: e.update(more="x"),
        lambda e: e.pop("tokenizer"),
        lambda e: e.pop("probes"),
        lambda e: e["probes"]["text"].pop(),
        lambda e: e["probes"]["image"][1].__setitem__(0, 0.05),  # cosine 0.99875
        lambda e: e["probes"]["image"][1].__setitem__(0, float("nan")),
        lambda e: e["probes"]["image"].__setitem__(1, [0.0] * 24),
    ],
)
def test_F13_another_encoder_is_refused(built, factory, edit):
    record = factory.encoder_record()
    edit(record)
    with pytest.raises(memory.EncoderMismatch) as refusal:
        Memory.open(built, encoder=record)
    assert refusal.value.code == "encoder_mismatch"


def test_F13_the_mismatch_names_what_differs(built, factory):
    record = {**factory.encoder_record(), "architecture": "ViT-B-32"}
    with pytest.raises(memory.EncoderMismatch, match=r"built with tiny.*architecture: memory tiny, here ViT-B-32"):
        Memory.open(built, encoder=record)


def test_the_same_encoder_on_another_device_is_welcome(built, factory):
    record = json.loads(json.dumps(factory.encoder_record()))
    record["probes"]["image"][1][0] = 0.02  # cosine 0.9998
    with Memory.open(built, encoder=record) as opened:
        assert opened.encoder["probes"] != record["probes"]


def test_describe_is_plain_json_without_probes(built):
    told = Memory.open(built).describe()
    assert json.loads(json.dumps(told)) == told
    assert "probes" not in told["encoder"]
    assert (told["version"], told["items"], told["rows"]) == (1, 68, 70)
    assert told["bytes"] == sum(file.bytes for file in read_manifest(built).files)
    assert [(index["modality"], index["kind"], index["num_shards"]) for index in told["indices"]] == [
        ("image", "exact", 2),
        ("text", "exact", 2),
    ]
    assert [index["recall"] for index in told["indices"]] == [None, None]
    assert np.isclose(told["embed_dim"], 24)
