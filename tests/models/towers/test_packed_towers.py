"""Packed towers give open_clip's own features; its towers, with padding and all tokens, are the slow twin."""

from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from models.towers import packed_towers, products
from models.towers.packed_towers import pack_image_tower, pack_text_tower
from models.towers.products import has_products
from models.towers.text_blocks import Places, compiled, run_text_blocks

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not has_products(CPU, torch.float32), reason="needs an x86 CPU with AVX2")
no_bfloat16 = pytest.mark.skipif(not has_products(CPU, torch.bfloat16), reason="oneDNN packs no bfloat16 on this CPU")
BFLOAT16 = pytest.param(torch.bfloat16, marks=no_bfloat16)


@pytest.fixture(params=[False, True], ids=["onednn", "mkl"])
def either_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in float32 by oneDNN, and by MKL: whichever this CPU would take."""
    monkeypatch.setattr(products, "by_mkl", lambda dtype: dtype == torch.float32 and request.param)


def tiny_clip(*, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **more: Any) -> Any:
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 3, "head_width": 16, **(vision or {})},
        "text_cfg": {"context_length": 20, "vocab_size": 100, "width": 48, "heads": 3, "layers": 3, **(text or {})},
        **more,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = open_clip.CLIP(**config).eval().requires_grad_(False)
        for parameter in model.parameters():  # biases and norms start as zeros and ones, which hides mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def pixels() -> torch.Tensor:
    return torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tokens() -> torch.Tensor:
    """Texts of 0 to 18 words between start (98) and end (99); one is a row of padding only."""
    rows = torch.zeros(7, 20, dtype=torch.long)
    for row, words in enumerate((3, 18, 0, 7, 7, 1)):
        rows[row, : words + 2] = torch.tensor([98, *range(5 + row, 5 + row + words), 99])
    return rows


def cosines(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return F.cosine_similarity(one.float(), other.float())


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16])
@pytest.mark.usefixtures("either_library")
@torch.inference_mode()
def test_features_equal_open_clips(quick_gelu: bool, dtype: torch.dtype) -> None:
    theirs = tiny_clip(quick_gelu=quick_gelu)
    ours = tiny_clip(quick_gelu=quick_gelu)
    image, text = pack_image_tower(ours, dtype), pack_text_tower(ours, dtype)
    assert image is not None
    assert text is not None
    ours.to(dtype)
    expected = theirs.encode_image(pixels()), theirs.encode_text(tokens())
    actual = image(pixels().to(dtype)), text(tokens())
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == dtype
        assert one.shape == other.shape
        assert cosines(one, other).min() >= (0.99999 if dtype == torch.float32 else 0.999)
        if dtype == torch.float32:
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("vision", [{"image_size": [32, 48]}, {"image_size": 37}, {"patch_size": [8, 16]}])
@torch.inference_mode()
def test_patches_are_those_of_the_convolution(vision: dict[str, Any]) -> None:
    """In a picture that is no square, that is no multiple of a patch, and of patches that are none."""
    theirs, ours = tiny_clip(vision=vision), tiny_clip(vision=vision)
    image, images = pack_image_tower(ours, torch.float32), torch.randn(3, 3, *theirs.visual.image_size)
    assert image is not None
    torch.testing.assert_close(image(images), theirs.encode_image(images), atol=2e-5, rtol=1e-4)


@pytest.mark.usefixtures("either_library")
@torch.inference_mode()
def test_a_row_does_not_depend_on_its_batch() -> None:
    model = tiny_clip()
    image, text = pack_image_tower(model, torch.float32), pack_text_tower(model, torch.float32)
    assert image is not None
    assert text is not None
    images, texts = image(pixels()), text(tokens())
    for row in range(7):
        torch.testing.assert_close(image(pixels()[row : row + 1])[0], images[row], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(text(tokens()[row : row + 1])[0], texts[row], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, BFLOAT16])
@pytest.mark.usefixtures("either_library")
@torch.inference_mode()
def test_compiled_text_blocks_give_what_the_functions_themselves_give(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(compiled(), torch.jit.ScriptFunction), "or each operation takes the interpreter's lock"
    one, other = tiny_clip(), tiny_clip()
    text = pack_text_tower(one, dtype)
    monkeypatch.setattr(packed_towers, "compiled", lambda: run_text_blocks)
    plain = pack_text_tower(other, dtype)
    assert text is not None
    assert plain is not None
    for model in (one, other):
        model.to(dtype)
    for rows in (tokens(), tokens()[:1], tokens()[2:5], tokens()):  # TorchScript recompiles after what it has seen
        torch.testing.assert_close(text(rows), plain(rows), rtol=0, atol=0)


def test_weights_are_not_kept_twice() -> None:
    model = tiny_clip()
    pack_image_tower(model, torch.float32)
    pack_text_tower(model, torch.float32)
    left = {name for name, _ in model.named_parameters()}
    assert not [name for name in left if "resblocks" in name]


@pytest.mark.parametrize(
    ("vision", "text"),
    [
        ({"pool_type": "avg"}, {"pool_type": "last"}),
        ({"ls_init_value": 0.1}, {"ls_init_value": 0.1}),
        ({"attentional_pool": True}, {"no_causal_mask": True}),
        ({"layers": [1, 1, 1, 1], "width": 16}, {"proj_bias": True}),
        ({"norm_kwargs": {"elementwise_affine": False}}, {"norm_kwargs": {"elementwise_affine": False}}),
        ({"norm_kwargs": {"bias": False}}, {"norm_kwargs": {"bias": False}}),
    ],
    ids=["pooling", "layer_scale", "attention", "other_kinds", "norms_without_weights", "norms_without_bias"],
)
def test_towers_of_another_kind_are_left_alone(vision: dict[str, Any], text: dict[str, Any]) -> None:
    model = tiny_clip(vision=vision, text=text)
    assert pack_image_tower(model, torch.float32) is None
    assert pack_text_tower(model, torch.float32) is None
    assert len(model.transformer.resblocks) == 3


def test_texts_of_ever_new_lengths_come_in_few_shapes() -> None:
    dice = torch.Generator().manual_seed(0)
    tokens = set()
    for _ in range(100):
        ends = torch.randint(1, 77, (12,), generator=dice)
        places = Places(ends, lambda rows: -(-rows // 16) * 16)
        tokens.add(len(places.rows))
        real = int((ends + 1).sum())
        assert real <= len(places.rows) < real + 16
        assert (places.rows[real:] == 11).all()  # the last token again: nothing of another text
        assert (places.columns[real:] == ends[-1]).all()
        assert places.texts.tolist() == [*range(12), 11, 11, 11, 11]
        assert places.ends[-1] == real - 1
        spread = places.spread.view(12, -1)  # behind its end a text has the end again
        steps = torch.arange(places.longest)
        assert (places.rows[spread] == torch.arange(12)[:, None]).all()
        assert (places.columns[spread] == torch.minimum(steps, ends[:, None])).all()
    assert all(count % 16 == 0 for count in tokens)
