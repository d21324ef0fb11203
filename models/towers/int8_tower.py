"""CLIP's image tower in 8-bit integers: fitted on a few pictures, and admitted only if others keep their embeddings.

Imports torch and open_clip's classes. Shapes: N pictures, B items, D embedding dim, S pixels a side.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import EncoderError
from models.towers.int8_block import Int8Block, Measured
from models.towers.packed_block import PackedBlock
from models.towers.packed_towers import PackedPatches, Tower, is_plain_image_tower
from models.towers.products import has_products

MIN_PICTURES, MAX_PICTURES = 32, 512
MIN_COSINE = 0.99  # of each picture that the tower was not fitted on, to the same picture in float32
_PART = 16  # pictures computed together, in float32: what bounds the memory this takes


def has_int8() -> bool:
    """Whether this machine and torch have the products, and those of bfloat16 that stand around them."""
    capabilities = torch.cpu.get_capabilities()
    return (
        hasattr(torch.ops.onednn, "qlinear_pointwise")
        and any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
        and has_products(torch.device("cpu"), torch.bfloat16)
    )


@torch.inference_mode()
def fit_int8_tower(model: torch.nn.Module, pixels: Tensor) -> tuple[Tower, float]:
    """The image tower of a float32 model in 8 bits; the model is left as it is.

    Args:
        pixels: (N, 3, S, S) float32, of pictures like those it will see: every other one fits the ranges, the rest is
            what the tower is held to.

    Returns:
        The tower, and the smallest cosine of its features to the model's own over the pictures held out.

    Raises:
        EncoderError: int8_unavailable, int8_pictures, int8_inaccurate.
    """
    visual: Any = getattr(model, "visual", None)
    if not has_int8():
        raise EncoderError("int8_unavailable", "This CPU or this torch has no 8-bit products. Leave int8 off.")
    if not is_plain_image_tower(visual):
        raise EncoderError("int8_unavailable", "Only CLIP's own image towers are computed in 8 bits. Leave int8 off.")
    if len(pixels) < MIN_PICTURES:
        raise EncoderError(
            "int8_pictures", f"8 bits are fitted on at least {MIN_PICTURES} pictures, and these are {len(pixels)}."
        )
    visual = copy.deepcopy(visual)
    seen, held_out = pixels[::2], pixels[1::2]
    expected = torch.cat([visual(part) for part in held_out.split(_PART)])  # (N/2, D)
    blocks = [Measured(block) for block in visual.transformer.resblocks[:-1]]
    for part in seen.split(_PART):
        x = visual._embeds(part)
        for block in blocks:
            x = block(x)
    tower = _tower(visual, [Int8Block(block) for block in blocks])
    features = torch.cat([tower(part).float() for part in held_out.split(_PART)])
    smallest = float(F.cosine_similarity(features, expected).min())
    if not smallest >= MIN_COSINE:
        raise EncoderError(
            "int8_inaccurate",
            f"In 8 bits a picture keeps only cosine {smallest:.4f} to its embedding; {MIN_COSINE} is asked of each. "
            "Leave int8 off, or fit it on more pictures, and more like those you embed.",
        )
    return tower, smallest


def _tower(visual: Any, blocks: list[Int8Block]) -> Tower:
    last = PackedBlock(visual.transformer.resblocks[-1], torch.bfloat16, last=True)
    visual.transformer.resblocks = torch.nn.ModuleList().eval()
    patches = PackedPatches(visual, torch.bfloat16)
    visual.bfloat16()

    def encode_image(pixels: Tensor, normalize: bool = False) -> Tensor:
        """Features (B, D), not normalised, of pixels (B, 3, S, S) of any dtype."""
        assert not normalize, "the encoder normalises, in float32"
        x = patches(pixels.bfloat16())
        for block in blocks:
            x = block.all_tokens(x)
        features: Tensor = visual.ln_post(last.first_tokens(x)) @ visual.proj
        return features

    return encode_image
