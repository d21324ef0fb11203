"""Fusion checkpoints: they come back as saved, name their encoder, and are refused when anything is wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import CONFIG, WEIGHTS, checkpoint_id, load_fusion, save_fusion
from models.errors import CheckpointError
from models.fusion import DESIGNS, Design, Fusion, FusionConfig

ENCODER = {
    "architecture": "tiny",
    "weights_sha256": "0" * 64,
    "preprocessing": {"size": 64},
    "tokenizer": {"sha256": "1" * 64},
    "embed_dim": 128,
    "probes": {"image": [], "text": []},
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_fusion(tmp_path / "fusion", Fusion(FusionConfig("copy", 128)), ENCODER)
    return tmp_path / "fusion"


def refused(directory: Path, encoder: dict[str, object] | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_fusion(directory, encoder)
    return caught.value.code


@pytest.mark.parametrize("design", DESIGNS)
def test_a_checkpoint_comes_back_as_it_was(design: Design, tmp_path: Path) -> None:
    torch.manual_seed(3)
    fusion = Fusion(FusionConfig(design, 128, k=7))
    name = save_fusion(tmp_path, fusion, ENCODER, {"seed": 3})
    loaded = load_fusion(tmp_path, ENCODER)
    assert loaded.config == fusion.config
    assert not loaded.training
    for key, value in fusion.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, atol=0, rtol=0)
    assert name == checkpoint_id(tmp_path)
    assert len(name) == 16


def test_equal_fusions_have_equal_ids_and_other_weights_another(tmp_path: Path) -> None:
    fusion = Fusion(FusionConfig("gate", 128))
    one = save_fusion(tmp_path / "one", fusion, ENCODER)
    same = save_fusion(tmp_path / "two", fusion, ENCODER)
    fusion.image.step.data += 1e-3  # type: ignore[union-attr]
    other = save_fusion(tmp_path / "three", fusion, ENCODER)
    assert one == same
    assert one != other


@pytest.mark.parametrize("part", ["architecture", "weights_sha256", "preprocessing", "tokenizer", "embed_dim"])
def test_another_encoder_is_refused_by_name_of_what_differs(saved: Path, part: str) -> None:
    with pytest.raises(CheckpointError, match=part) as caught:
        load_fusion(saved, {**ENCODER, part: "other"})
    assert caught.value.code == "encoder_mismatch"


def test_probe_vectors_do_not_tie_a_fusion_to_a_device(saved: Path) -> None:
    load_fusion(saved, {**ENCODER, "probes": {"image": [[1.0]], "text": []}})


def test_a_missing_checkpoint_is_said_so(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == "checkpoint_not_found"


def test_a_save_cut_short_is_no_checkpoint(saved: Path) -> None:
    (saved / CONFIG).unlink()
    assert refused(saved) == "checkpoint_not_found"


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "{}", '{"format": 2}', "\x00"])
def test_a_broken_config_is_refused(saved: Path, text: str) -> None:
    (saved / CONFIG).write_text(text)
    assert refused(saved) == "checkpoint_invalid"


def test_F17_changed_weights_are_refused(saved: Path) -> None:
    data = bytearray((saved / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (saved / WEIGHTS).write_bytes(data)
    assert refused(saved) == "checkpoint_invalid"


def rehashed(directory: Path) -> None:
    """Give the config the hash of the weights as they are now: only the deeper checks are left."""
    import hashlib

    config = json.loads((directory / CONFIG).read_text())
    config["weights_sha256"] = hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    (directory / CONFIG).write_text(json.dumps(config))


def test_F18_missing_extra_misshapen_and_infinite_tensors_are_refused(saved: Path) -> None:
    good = load_file(saved / WEIGHTS)
    spoiled = {
        "missing": {key: value for key, value in good.items() if key != "logit_scale"},
        "extra": {**good, "surprise": torch.zeros(1)},
        "misshapen": {**good, "logit_scale": torch.zeros(2)},
        "infinite": {**good, "logit_scale": torch.tensor(float("nan"))},
    }
    for tensors in spoiled.values():
        save_file(tensors, saved / WEIGHTS)
        rehashed(saved)
        assert refused(saved) == "checkpoint_invalid"


def test_F16_a_pickle_by_the_same_name_is_refused(saved: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, saved / WEIGHTS)
    rehashed(saved)
    assert refused(saved) == "checkpoint_invalid"
