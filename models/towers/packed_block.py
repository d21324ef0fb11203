"""One residual attention block of CLIP on a CPU: the same numbers as open_clip's, with less work and faster products.

Weights lie as the CPU's quickest products want them (products), texts carry no padding through the linear layers
(text_blocks), and where one token of an item is read, the last block computes that one only. Imports torch and
open_clip's classes.
Shapes: B items, L tokens an item, C width, H heads.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from models.towers.products import Product

_QUICK_GELU = 1.702
_FEW_TOKENS = 64


class PackedBlock:
    """A `ResidualAttentionBlock` that `is_plain`, with packed weights."""

    def __init__(self, block: ResidualAttentionBlock, dtype: torch.dtype, *, last: bool) -> None:
        """Pack a block.

        Args:
            block: in float32: what is folded into a weight is folded before the cast. Its norms are kept as they are
                and move with their model.
            dtype: to compute in.
            last: only one token of each item is wanted from it.
        """
        attention, mlp = block.attn, block.mlp
        self._num_heads, self._last = attention.num_heads, last
        self._ln_1, self._ln_2 = block.ln_1, block.ln_2
        weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, attention.embed_dim
        if last:
            self._query = Product(weight[:width], bias[:width], dtype)
            self._key_value = Product(weight[width:], bias[width:], dtype)
        else:
            self._query_key_value = Product(weight, bias, dtype)
        self._out = Product(attention.out_proj.weight, attention.out_proj.bias, dtype)
        # x·sigmoid(1.702x) is swish(1.702x) / 1.702, which oneDNN fuses: the factor goes into the weights around it.
        quick = isinstance(mlp.gelu, QuickGELU)
        scale = _QUICK_GELU if quick else 1.0
        self.activation = "swish" if quick else "gelu"
        self._up = Product(mlp.c_fc.weight * scale, mlp.c_fc.bias * scale, dtype, self.activation)
        self._down = Product(mlp.c_proj.weight / scale, mlp.c_proj.bias, dtype)

    def all_tokens(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, L, C); every token sees every token."""
        q, k, v = self._heads(self._query_key_value(self._ln_1(x)), 3)  # (B, H, L, C/H)
        return self._rest(x, joined(attend(q, k, v)))

    def first_tokens(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, C): the first token of each item, which sees all of them."""
        normed = self._ln_1(x)
        k, v = self._heads(self._key_value(normed), 2)
        (q,) = self._heads(self._query(normed[:, :1]), 1)  # (B, H, 1, C/H)
        return self._rest(x[:, 0], joined(F.scaled_dot_product_attention(q, k, v))[:, 0])

    def text_parts(self) -> tuple[list[Tensor], list[Tensor]]:
        """Its tensors as `run_text_blocks` takes them: before attention, and after it."""
        first = [self._query, self._key_value] if self._last else [self._query_key_value]
        before = [self._ln_1.weight, self._ln_1.bias, *(tensor for product in first for tensor in product.tensors)]
        after = [*self._out.tensors, self._ln_2.weight, self._ln_2.bias, *self._up.tensors, *self._down.tensors]
        return before, after

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, L, parts·C) to `parts` of (B, H, L, C/H)."""
        batch, length = x.shape[:2]
        return x.view(batch, length, parts, self._num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self._out(attended)
        return x + self._down(self._up(self._ln_2(x)))


def is_plain(block: Any) -> bool:
    """Whether a block is as OpenAI's CLIP has it: no scaling of its branches, no other norm or activation."""
    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and all(type(norm) is LayerNorm and norm.bias is not None for norm in (block.ln_1, block.ln_2))
        and isinstance(block.ls_1, nn.Identity)
        and isinstance(block.ls_2, nn.Identity)
        and block.attn.in_proj_bias is not None
        and (type(block.mlp.gelu) is QuickGELU or _is_exact_gelu(block.mlp.gelu))
    )


def _is_exact_gelu(activation: nn.Module) -> bool:
    return type(activation) is nn.GELU and activation.approximate == "none"


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention without a mask, (B, H, L, C/H) each, in products over all heads where an item has few tokens.

    torch's fused kernel is made for long sequences: for the 50 tokens of ViT-B/32 it takes about 1.8 times as long.
    """
    if q.shape[-2] > _FEW_TOKENS:
        return F.scaled_dot_product_attention(q, k, v)
    similarities = (q @ k.transpose(-1, -2)).float().mul_(q.shape[-1] ** -0.5)  # (B, H, L, L)
    return similarities.softmax(-1).to(v.dtype) @ v


def joined(heads: Tensor) -> Tensor:
    """(B, H, L, C/H) to (B, L, C)."""
    return heads.transpose(1, 2).flatten(2)
