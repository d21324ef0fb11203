"""The image tower in 8 bits keeps open_clip's embeddings, or is refused."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from models.encoder import Encoder
from models.errors import EncoderError
from models.towers.int8_tower import MIN_PICTURES, fit_int8_tower, has_int8

needs_products = pytest.mark.skipif(not has_int8(), reason="needs a CPU with 8-bit products (VNNI or AMX)")

VISION = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 4, "head_width": 16}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 48, "heads": 3, "layers": 1}


def tiny_clip(**more: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = open_clip.CLIP(embed_dim=32, vision_cfg=VISION, text_cfg=TEXT, **more).eval().requires_grad_(False)
        for parameter in model.parameters():  # biases and norms start as zeros and ones, which hides mistakes
            parameter.add_(0.05 * torch.randn_like(parameter))
        # One channel that is far out of line, as trained towers have: the factors of each channel are there for it.
        model.visual.transformer.resblocks[1].ln_2.weight[7] *= 30
    return model


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@needs_products
@pytest.mark.parametrize("quick_gelu", [False, True])
@torch.inference_mode()
def test_features_are_near_open_clips(quick_gelu: bool) -> None:
    model = tiny_clip(quick_gelu=quick_gelu)
    before = copy.deepcopy(model.state_dict())
    tower, smallest = fit_int8_tower(model, pixels(64))
    assert smallest >= 0.99
    others = pixels(9, seed=1)  # an odd number, none of them seen before
    features = tower(others)
    assert F.cosine_similarity(features.float(), model.encode_image(others)).min() >= 0.99
    assert not torch.equal(features.float(), model.encode_image(others))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "the model is whole"


@needs_products
@torch.inference_mode()
def test_a_row_does_not_depend_on_its_batch() -> None:
    tower, _ = fit_int8_tower(tiny_clip(), pixels(64))
    others = pixels(5, seed=1)
    together = tower(others).float()
    alone = torch.cat([tower(row[None]) for row in others]).float()
    assert F.cosine_similarity(together, alone).min() >= 0.9999


@pytest.mark.parametrize(
    ("products", "count", "vision", "code", "told"),
    [
        (True, 5, VISION, "int8_pictures", f"at least {MIN_PICTURES} pictures, and these are 5"),
        (False, 64, VISION, "int8_unavailable", "This CPU or this torch has no 8-bit products. Leave int8 off"),
        (True, 64, RESNET, "int8_unavailable", "Only CLIP's own image towers"),
    ],
    ids=["few pictures", "an older CPU", "another tower"],
)
def test_what_cannot_be_fitted_is_refused_on_every_machine(
    products: bool, count: int, vision: dict[str, Any], code: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.towers.int8_tower.has_int8", lambda: products)
    model = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=TEXT).eval()
    with pytest.raises(EncoderError, match=told) as refused:
        fit_int8_tower(model, pixels(count))
    assert refused.value.code == code


@needs_products
def test_a_tower_that_moves_pictures_too_far_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.towers.int8_tower.MIN_COSINE", 0.99999)
    with pytest.raises(EncoderError, match=r"keeps only cosine 0\.99") as refused:
        fit_int8_tower(tiny_clip(), pixels(64))
    assert refused.value.code == "int8_inaccurate"


def photos(count: int) -> list[bytes]:
    files = []
    for number in range(count):
        dice = np.random.default_rng(number)
        noise = Image.fromarray(dice.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((160, 120))
        file = io.BytesIO()
        noise.save(file, "JPEG")
        files.append(file.getvalue())
    return files


def write_model(directory: Path) -> str:
    model = tiny_clip()
    shape = {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXT}
    look = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": shape, "preprocess_cfg": look}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    return str(directory)


@needs_products
def test_the_encoder_stays_what_it_is(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    plain = Encoder.open(model, device="cpu")
    fitted = Encoder.open(model, device="cpu", int8_pictures=photos(40))
    assert plain.int8_cosine is None
    assert fitted.int8_cosine is not None
    assert fitted.fingerprint == plain.fingerprint, "a memory and a fusion of the one are those of the other"
    rows = torch.stack([fitted.preprocess(photo) for photo in photos(48)[40:]])
    cosines = (fitted.encode_image(rows) * plain.encode_image(rows)).sum(1)
    assert 0.98 <= cosines.min() < 1
