"""One attention block of CLIP's image tower in 8-bit integers on a CPU: fitted on pictures, and faster for it.

Each product takes 8-bit activations and weights and accumulates in 32 bits (oneDNN, VNNI instructions). Weights have a
scale for each output. Activations have one range each, measured on pictures; what comes out of a norm also a factor for
each channel, which moves into the norm's weights and costs nothing (SmoothQuant, Xiao et al. 2023, eq. 4 with α = 0.5).
The residual stream, the norms and the attention itself are not in 8 bits. Imports torch and open_clip's classes.
Shapes: B items, L tokens an item, T = B·L, C width, F the MLP's width, H heads.
"""

import copy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

from models.towers.packed_block import attend, joined

_QUICK_GELU = 1.702
_MIDDLE = 128  # the byte that stands for 0 in a range with both signs


class Range(NamedTuple):
    """How a byte is read: (byte - zero) * step."""

    step: float
    zero: int

    @classmethod
    def of(cls, smallest: float, largest: float) -> "Range":
        """The finest that holds both and 0."""
        smallest, largest = min(smallest, 0.0), max(largest, 1e-6)
        step = (largest - smallest) / 255
        return cls(step, round(-smallest / step))

    @classmethod
    def around_zero(cls, largest: float) -> "Range":
        """For values of both signs, at most that large."""
        return cls(max(largest, 1e-6) / 127, _MIDDLE)


class Measured:
    """A block in float32, and the ranges of what its products take, over all it has seen."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self.block = block
        self.normed_1 = self.normed_2 = torch.zeros(block.attn.embed_dim)  # (C,), largest magnitude
        self.attended = self.hidden_min = self.hidden_max = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, L, C), as the block computes it."""
        attention, mlp = self.block.attn, self.block.mlp
        normed = self.block.ln_1(x)
        self.normed_1 = torch.maximum(self.normed_1, normed.abs().amax((0, 1)))
        packed = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
        attended = _attend(packed, attention.num_heads)
        self.attended = max(self.attended, float(attended.abs().max()))
        x = x + attention.out_proj(attended)
        normed = self.block.ln_2(x)
        self.normed_2 = torch.maximum(self.normed_2, normed.abs().amax((0, 1)))
        hidden = mlp.gelu(mlp.c_fc(normed))  # (B, L, F)
        self.hidden_min, self.hidden_max = (
            min(self.hidden_min, float(hidden.min())),
            max(self.hidden_max, float(hidden.max())),
        )
        return x + mlp.c_proj(hidden)  # type: ignore[no-any-return]


class Int8Linear:
    """y = act(x Wᵀ + b) of x in bytes."""

    def __init__(self, weight: Tensor, bias: Tensor, taken: Range, activation: str = "none") -> None:
        scales = weight.abs().amax(1).clamp_(min=1e-8) / 127  # (outputs,)
        self._weight = torch.ops.onednn.qlinear_prepack((weight / scales[:, None]).round().to(torch.int8), None)
        self._scales, self._zeros = scales.float(), torch.zeros(len(scales), dtype=torch.int32)
        self._bias = bias.detach().float().contiguous()
        self._taken, self._activation = taken, activation

    def __call__(self, x: Tensor) -> Tensor:
        """(T, inputs) uint8 to (T, outputs) bfloat16."""
        return self._product(x, 1.0, 0, torch.bfloat16)

    def in_bytes(self, x: Tensor, given: Range) -> Tensor:
        """(T, inputs) uint8 to (T, outputs) uint8 of that range; what is beyond it is cut."""
        return self._product(x, given.step, given.zero, torch.uint8)

    def add_to(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product and what is already there, (T, outputs) bfloat16, in its place."""
        taken = (x, self._taken.step, self._taken.zero)
        given: tuple[Any, ...] = (1.0, 0, torch.bfloat16, 1.0, 0, "sum", 1.0, "none", [], "")
        y: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            *taken, self._weight, self._scales, self._zeros, residual, self._bias, *given
        )
        return y

    def _product(self, x: Tensor, step: float, zero: int, dtype: torch.dtype) -> Tensor:
        taken = (x, self._taken.step, self._taken.zero)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            *taken, self._weight, self._scales, self._zeros, self._bias, step, zero, dtype, self._activation, [], "none"
        )
        return y


class NormToBytes:
    """A layer norm whose output leaves as bytes, for the product behind it."""

    def __init__(self, norm: nn.LayerNorm, largest: Tensor, weight: Tensor) -> None:
        """Fit the norm.

        Args:
            largest: (C,) largest magnitude of each channel of its output.
            weight: (outputs, C) of the product that takes it; `self.weight` is what that becomes.
        """
        factors = (largest.clamp(min=1e-5) / weight.abs().amax(0).clamp(min=1e-5)).sqrt()  # (C,), α = 0.5
        self.weight = weight * factors
        self.given = Range.around_zero(float((largest / factors).max()))
        self._norm = copy.deepcopy(norm).float()
        self._norm.weight.div_(factors * self.given.step)
        self._norm.bias.div_(factors * self.given.step).add_(self.given.zero + 0.5)  # the cast below rounds down

    def __call__(self, x: Tensor) -> Tensor:
        """(T, C) bfloat16 to (T, C) uint8."""
        return self._norm(x.float()).clamp_(0, 255).to(torch.uint8)  # type: ignore[no-any-return]


class Int8Block:
    """A `ResidualAttentionBlock` that `is_plain`, fitted."""

    def __init__(self, measured: Measured) -> None:
        attention, mlp = measured.block.attn, measured.block.mlp
        quick = isinstance(mlp.gelu, QuickGELU)
        scale = _QUICK_GELU if quick else 1.0  # as in packed_block: x·sigmoid(1.702x) by oneDNN's swish
        self._num_heads = attention.num_heads
        self._ln_1 = NormToBytes(measured.block.ln_1, measured.normed_1, attention.in_proj_weight)
        self._query_key_value = Int8Linear(self._ln_1.weight, attention.in_proj_bias, self._ln_1.given)
        self._attended = Range.around_zero(measured.attended)
        self._out = Int8Linear(attention.out_proj.weight, attention.out_proj.bias, self._attended)
        self._ln_2 = NormToBytes(measured.block.ln_2, measured.normed_2, mlp.c_fc.weight)
        activation = "swish" if quick else "gelu"
        self._up = Int8Linear(self._ln_2.weight * scale, mlp.c_fc.bias * scale, self._ln_2.given, activation)
        self._hidden = Range.of(scale * measured.hidden_min, scale * measured.hidden_max)
        self._down = Int8Linear(mlp.c_proj.weight / scale, mlp.c_proj.bias, self._hidden)

    def all_tokens(self, x: Tensor) -> Tensor:
        """(B, L, C) bfloat16 to (B, L, C), in its place; every token sees every token."""
        tokens = x.view(-1, x.shape[-1])  # (T, C)
        packed = self._query_key_value(self._ln_1(tokens)).view(*x.shape[:2], -1)
        attended = _attend(packed, self._num_heads).flatten(0, 1)  # (T, C)
        in_bytes = attended.mul_(1 / self._attended.step).round_().add_(self._attended.zero).clamp_(0, 255)
        tokens = self._out.add_to(in_bytes.to(torch.uint8), tokens)
        hidden = self._up.in_bytes(self._ln_2(tokens), self._hidden)  # (T, F)
        return self._down.add_to(hidden, tokens).view(x.shape)


def _attend(packed: Tensor, num_heads: int) -> Tensor:
    """Queries, keys and values (B, L, 3C) to (B, L, C)."""
    batch, length = packed.shape[:2]
    q, k, v = packed.view(batch, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, L, C/H)
    return joined(attend(q, k, v))
