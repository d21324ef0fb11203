"""CLIP's two towers on a CPU, of packed blocks: open_clip's features in less time, by no approximation.

Imports torch and open_clip's classes. A test holds the towers to open_clip's own.
Shapes: B items, L tokens an item, T tokens in all, C width, D embedding dim, S pixels a side.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from open_clip import CLIP
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from models.towers.packed_block import PackedBlock, is_plain
from models.towers.products import Product, padded_rows
from models.towers.text_blocks import Places, compiled

Tower = Callable[..., Tensor]


def is_plain_image_tower(visual: Any) -> bool:
    """Whether an image tower is as OpenAI's CLIP has it: plain blocks, read at the class token, projected."""
    return (
        type(visual) is VisionTransformer
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and not visual.output_tokens
        and visual.proj is not None
        and all(map(is_plain, visual.transformer.resblocks))
    )


class PackedPatches:
    """Pixels to tokens: a convolution over patches that do not overlap is a product, and as one it is faster."""

    def __init__(self, visual: Any, dtype: torch.dtype) -> None:
        """Pack the convolution of an image tower that `is_plain_image_tower`; the rest stays the tower's."""
        weight = visual.conv1.weight  # (C, 3, P, P)
        self._product = Product(weight.flatten(1), torch.zeros(len(weight)), dtype)
        self._visual = visual

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, L, C), the class token first; what fills no patch is left out, as by the convolution."""
        visual, (rows, columns), (height, width) = self._visual, self._visual.grid_size, self._visual.patch_size
        patches = pixels[..., : rows * height, : columns * width].reshape(-1, 3, rows, height, columns, width)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, L - 1, 3·P·P)
        first = visual.class_embedding.expand(len(pixels), 1, -1)
        x: Tensor = visual.ln_pre(torch.cat([first, self._product(patches)], 1) + visual.positional_embedding)
        return x


def pack_image_tower(model: nn.Module, dtype: torch.dtype) -> Tower | None:
    """The image tower of a float32 model, packed for `dtype`, taken out of the model; None if it is of another kind.

    What is not packed stays the model's: cast it to `dtype` before the tower is called.
    """
    visual: Any = getattr(model, "visual", None)
    if not is_plain_image_tower(visual):
        return None
    patches = PackedPatches(visual, dtype)
    blocks = _take_blocks(visual.transformer, dtype)

    def encode_image(pixels: Tensor, normalize: bool = False) -> Tensor:
        """Features (B, D), not normalised, of pixels (B, 3, S, S) in the tower's dtype."""
        assert not normalize, "the encoder normalises, in float32"
        x = patches(pixels)
        for block in blocks[:-1]:
            x = block.all_tokens(x)
        features: Tensor = visual.ln_post(blocks[-1].first_tokens(x)) @ visual.proj
        return features

    return encode_image


def pack_text_tower(model: nn.Module, dtype: torch.dtype) -> Tower | None:
    """The text tower of a float32 model; otherwise as `pack_image_tower`."""
    clip: Any = model
    if not (
        type(clip) is CLIP
        and clip.text_pool_type == "argmax"
        and clip.attn_mask is not None
        and isinstance(clip.text_projection, Tensor)
        and all(map(is_plain, clip.transformer.resblocks))
    ):
        return None
    num_heads, eps = clip.transformer.resblocks[0].attn.num_heads, clip.ln_final.eps
    blocks = _take_blocks(clip.transformer, dtype)
    run, round_up = compiled(), partial(padded_rows, dtype=dtype)

    @cache
    def parts() -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Of all blocks, before and after attention: once, when the model has been cast, and with it the norms."""
        befores, afters = zip(*(block.text_parts() for block in blocks), strict=True)
        return list(befores), list(afters)

    def encode_text(tokens: Tensor, normalize: bool = False) -> Tensor:
        """Features (B, D), not normalised, of tokens (B, L) int64; what follows an end token has no part in them."""
        assert not normalize, "the encoder normalises, in float32"
        places = Places(tokens.argmax(dim=-1), round_up)  # the end token has the largest id of its row
        x = clip.token_embedding(tokens[places.rows, places.columns])  # (T, C)
        x = x + clip.positional_embedding[places.columns]
        befores, afters = parts()
        where = places.spread, places.padded, places.ends, places.texts, places.seen_by_ends, places.longest
        x = run(x, *where, befores, afters, num_heads, blocks[0].activation, eps)  # (E, C)
        features: Tensor = clip.ln_final(x) @ clip.text_projection
        return features[: places.num_texts]

    return encode_text


def _take_blocks(transformer: Any, dtype: torch.dtype) -> list[PackedBlock]:
    """Pack a tower's blocks and leave it none: the weights are not kept twice."""
    blocks = transformer.resblocks
    transformer.resblocks = nn.ModuleList().eval()
    return [PackedBlock(block, dtype, last=block is blocks[-1]) for block in blocks]
