"""The identity of an encoder: equal for the same, different for any difference that changes embeddings."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.encoder import Encoder
from models.fingerprint import hash_weights, probe_images
from models.images.decoding import decode_image
from models.sources.opening import _architecture_of


def open_directory(directory: Path) -> Encoder:
    return Encoder.open(str(directory), device="cpu", dtype="float32")


@pytest.fixture
def directory(encoder_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoder_dir, tmp_path / "twin"))


def test_the_record_is_plain_json_with_the_contracts_keys(encoder: Encoder) -> None:
    record = encoder.fingerprint.record()
    assert json.loads(json.dumps(record)) == record
    assert list(record) == [
        "architecture",
        "weights_sha256",
        "preprocessing",
        "tokenizer",
        "embed_dim",
        "probes",
    ]
    assert set(record["tokenizer"]) == {"kind", "sha256", "context_length"}
    assert record["embed_dim"] == 128
    assert record["preprocessing"]["size"] == [64, 64]
    assert record["preprocessing"]["rules"] == 1
    assert encoder.fingerprint.encoded_with() == {"device": "cpu", "dtype": "float32"}
    assert len(encoder.fingerprint.id) == 16


def test_probes_are_embeddings_of_both_kinds(encoder: Encoder) -> None:
    probes = encoder.fingerprint.record()["probes"]
    for modality in ("image", "text"):
        vectors = np.array(probes[modality])
        assert vectors.shape == (2, 128)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
        assert float(vectors[0] @ vectors[1]) < 0.9999  # two probes, not one twice
        assert np.array_equal(vectors, vectors.round(6))


def test_probe_images_are_fixed() -> None:
    pixels = [hashlib.sha256(decode_image(data).tobytes()).hexdigest()[:16] for data in probe_images()]
    assert pixels == PROBE_PIXELS


# Changing a probe makes every memory another encoder's.
PROBE_PIXELS = ["b656aa3817ce303f", "1ad424a4d5e120ce"]


def test_the_same_files_elsewhere_are_the_same_encoder(encoder: Encoder, directory: Path) -> None:
    twin = open_directory(directory)
    assert twin.fingerprint.record() == encoder.fingerprint.record()
    assert twin.fingerprint.id == encoder.fingerprint.id
    assert str(directory) not in json.dumps(twin.fingerprint.record())


def change_weight(directory: Path) -> None:
    path = directory / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["visual.conv1.weight"][0, 0, 0, 0] += 1e-3
    save_file(weights, path)


def change_mean(directory: Path) -> None:
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"]["mean"][0] += 0.01
    path.write_text(json.dumps(config))


def change_resize_mode(directory: Path) -> None:
    path = directory / "open_clip_config.json"
    path.write_text(path.read_text().replace("shortest", "squash"))


def change_merges(directory: Path) -> None:
    path = directory / "bpe.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    lines[1], lines[2] = lines[2], lines[1]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def change_activation(directory: Path) -> None:
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["quick_gelu"] = True
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (change_weight, "weights_sha256"),
        (change_mean, "preprocessing"),
        (change_resize_mode, "preprocessing"),
        (change_merges, "tokenizer"),
        (change_activation, "architecture"),
    ],
)
def test_each_difference_shows_in_its_field(
    encoder: Encoder, directory: Path, change: Callable[[Path], None], field: str
) -> None:
    change(directory)
    other = open_directory(directory).fingerprint
    same, changed = encoder.fingerprint.record(), other.record()
    assert [key for key in same if key != "probes" and same[key] != changed[key]] == [field]
    assert other.id != encoder.fingerprint.id


def test_a_float16_file_is_the_weights_it_holds() -> None:
    draw = torch.Generator().manual_seed(3)
    state = {"b": torch.randn(4, 5, generator=draw).half(), "a": torch.tensor(3), "c": torch.tensor(0.5)}
    whole = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    assert hash_weights(state) == hash_weights(whole) == hash_weights(dict(reversed(whole.items())))


def test_the_hash_sees_names_shapes_and_values() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    others = [
        {"a": torch.arange(6.0).reshape(3, 2), "b": torch.zeros(2)},
        {"a": torch.arange(6.0).reshape(2, 3), "c": torch.zeros(2)},
        {"a": torch.arange(6.0).reshape(2, 3)},
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([0.0, 1e-30])},
        {"a": torch.arange(6).reshape(2, 3), "b": torch.zeros(2)},
    ]
    hashes = {hash_weights(state), *map(hash_weights, others)}
    assert len(hashes) == 6
    assert hash_weights({"a": state["a"].T.contiguous().T, "b": state["b"]}) == hash_weights(state)


def test_a_saved_copy_of_a_named_architecture_keeps_its_name() -> None:
    config = open_clip.get_model_config("ViT-B-32")
    assert _architecture_of(config) == "ViT-B-32"
    config["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": "/somewhere/bpe.txt.gz"}
    assert _architecture_of(config) == "ViT-B-32"  # where the merges lie is not what they are
    config["embed_dim"] = 513
    assert _architecture_of(config).startswith("custom-")
