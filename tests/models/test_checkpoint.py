"""Fusion checkpoints: they come back as saved, name their encoder, and are refused when anything is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from power_loss import losing_power
from safetensors.torch import load_file, save_file

from models.checkpoint import load_fusion, open_fusion, save_fusion
from models.checkpoint_files import CONFIG, checkpoint_id, read_config
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


HERE = Path(__file__).parent
AROUND = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}", "OMP_NUM_THREADS": "1"}


def fusion_of(seed: int) -> Fusion:
    torch.manual_seed(seed)
    return Fusion(FusionConfig("faithful", 128))


def weights_of(directory: Path) -> Path:
    [path] = directory.glob("*.safetensors")
    return path


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


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
    elsewhere = load_fusion(saved, {**ENCODER, "probes": {"image": [[1.0]], "text": []}})
    here = load_fusion(saved, ENCODER).state_dict()
    assert all(torch.equal(weight, here[name]) for name, weight in elsewhere.state_dict().items())


def test_a_missing_checkpoint_is_said_so(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == "checkpoint_not_found"


def test_a_save_cut_short_is_no_checkpoint(saved: Path) -> None:
    (saved / CONFIG).unlink()
    assert refused(saved) == "checkpoint_not_found"


def test_F17_weights_that_the_config_names_and_are_not_there_are_refused(saved: Path) -> None:
    weights_of(saved).rename(saved / f"fusion-{'0' * 16}.safetensors")
    assert refused(saved) == "checkpoint_invalid"


def test_a_checkpoint_of_the_former_name_is_read_and_replaced(saved: Path) -> None:
    name, weights = checkpoint_id(saved), weights_of(saved)
    weights.rename(saved / "fusion.safetensors")
    assert open_fusion(saved, ENCODER).id == name
    save_fusion(saved, fusion_of(2), ENCODER)
    assert weights_of(saved).name != "fusion.safetensors"


def test_another_fusion_takes_the_place_of_the_one_before_and_leaves_nothing_of_it(saved: Path) -> None:
    before = checkpoint_id(saved)
    name = save_fusion(saved, fusion_of(2), ENCODER)
    assert name == open_fusion(saved).id != before
    assert files(saved) == [CONFIG, weights_of(saved).name]


def test_X01_a_save_killed_at_every_step_leaves_the_old_fusion_or_the_new(place: Path) -> None:
    old = save_fusion(place / "template", fusion_of(1), ENCODER, {"seed": 1})
    new = save_fusion(place / "new", fusion_of(2), ENCODER, {"seed": 2})
    command = [sys.executable, HERE / "saving_child.py", "crash", place / "template", place / "killed"]
    done = subprocess.run(command, capture_output=True, text=True, env=AROUND, check=True, timeout=240)
    steps, status = map(int, done.stdout.split())
    assert (steps >= 5, status) == (True, 0)
    found = [open_fusion(place / "killed" / str(step), ENCODER).id for step in range(1, steps + 1)]
    assert found == sorted(found, key=[old, new].index)
    assert {*found} == {old, new}
    for step in range(1, steps + 1):
        assert save_fusion(place / "killed" / str(step), fusion_of(2), ENCODER, {"seed": 2}) == new


def test_X03_power_is_lost_at_every_fsync_of_a_save(place: Path) -> None:
    directory, found = place / "fusion", set()
    old = save_fusion(directory, fusion_of(1), ENCODER)
    with losing_power(directory, place / "after") as lost:
        new = save_fusion(directory, fusion_of(2), ENCODER)
    assert len(lost) >= 10
    for place in lost:
        found.add(open_fusion(place, ENCODER).id)
    assert found == {old, new}
    assert [open_fusion(place, ENCODER).id for place in lost[-2:]] == [new, new], "what was reported is there"


def test_a_reader_beside_a_save_gets_weights_and_id_of_one_fusion(place: Path) -> None:
    directory = place / "fusion"
    seeds = {}
    for seed in (2, 1):
        name = save_fusion(directory, fusion_of(seed), ENCODER, {"seed": seed})
        seeds[name] = seed
    command = [sys.executable, HERE / "saving_child.py", "turns", directory]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=AROUND) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            met = set()
            for _ in range(300):
                fusion, name, config = open_fusion(directory, ENCODER)
                assert config["trained"]["seed"] == seeds[name]
                torch.testing.assert_close(fusion.state_dict(), fusion_of(seeds[name]).state_dict(), atol=0, rtol=0)
                met.add(name)
        finally:
            child.kill()
    assert len(met) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "{}", '{"format": 2}', "\x00"])
def test_a_broken_config_is_refused(saved: Path, text: str) -> None:
    (saved / CONFIG).write_text(text)
    assert refused(saved) == "checkpoint_invalid"


def test_brackets_within_brackets_are_refused(saved: Path) -> None:
    (saved / CONFIG).write_text("[" * 200_000)
    assert refused(saved) == "checkpoint_invalid"


@pytest.mark.parametrize("part", ["fusion", "encoder", "trained"])
@pytest.mark.parametrize("told", ["tiny", None, 3, []])
def test_parts_of_a_config_that_are_no_objects_are_refused(saved: Path, part: str, told: object) -> None:
    config = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps(config | {part: told}))
    assert refused(saved, ENCODER) == refused(saved) == "checkpoint_invalid"
    with pytest.raises(CheckpointError, match=f"{part} in .* is no JSON object"):
        read_config(saved)


@pytest.mark.parametrize("told", [{"head_dim": 0}, {"k": 2.5}, {"k": True}, {"embed_dim": None}, {"label_sets": "no"}])
def test_sizes_of_a_config_that_are_none_are_refused(saved: Path, told: dict[str, object]) -> None:
    config = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps(config | {"fusion": config["fusion"] | told}))
    assert refused(saved, ENCODER) == "checkpoint_invalid"


def test_F17_changed_weights_are_refused(saved: Path) -> None:
    data = bytearray(weights_of(saved).read_bytes())
    data[-1] ^= 1
    weights_of(saved).write_bytes(data)
    assert refused(saved) == "checkpoint_invalid"


def rehashed(directory: Path) -> None:
    """Give the config the hash of the weights as they are now: only the deeper checks are left."""
    import hashlib

    config = json.loads((directory / CONFIG).read_text())
    config["weights_sha256"] = hashlib.sha256(weights_of(directory).read_bytes()).hexdigest()
    weights_of(directory).rename(directory / f"fusion-{config['weights_sha256'][:16]}.safetensors")
    (directory / CONFIG).write_text(json.dumps(config))


def test_F18_missing_extra_misshapen_and_infinite_tensors_are_refused(saved: Path) -> None:
    good = load_file(weights_of(saved))
    spoiled = {
        "missing": {key: value for key, value in good.items() if key != "logit_scale"},
        "extra": {**good, "surprise": torch.zeros(1)},
        "misshapen": {**good, "logit_scale": torch.zeros(2)},
        "infinite": {**good, "logit_scale": torch.tensor(float("nan"))},
    }
    for tensors in spoiled.values():
        save_file(tensors, weights_of(saved))
        rehashed(saved)
        assert refused(saved) == "checkpoint_invalid"


def test_F16_a_pickle_by_the_same_name_is_refused(saved: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, weights_of(saved))
    rehashed(saved)
    assert refused(saved) == "checkpoint_invalid"
