"""One linear layer of a tower on a CPU, y = act(x Wᵀ + b), by the library that is quickest there.

oneDNN takes W packed for it, once, and fuses the activation: it is quickest in bfloat16, and with AVX-512. In float32
with AVX2 alone MKL is, by a fifth for many rows; for few it would leave threads idle, so each has its own part of W.
Imports torch only. Shapes: T rows (tokens), I inputs, O outputs, P parts of W.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_FEW_ROWS = 256  # MKL's own threads do as well with more, and the parts need not be put side by side
_MOST_PARTS, _NARROWEST = 32, 64  # of outputs; narrower parts cost MKL more than threads that wait
_ROWS, _STEPS = 4, 16  # of what a number of rows is a multiple, and numbers between two powers of two, at most


class Product:
    """A linear layer whose weight lies as this CPU's quickest library wants it."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, activation: str = "none") -> None:
        """Take W (O, I) and b (O,), of any float dtype.

        Args:
            weight, bias: of the layer.
            dtype: to compute in, one that `has_products`.
            activation: none, gelu or swish, in oneDNN's words.
        """
        weight = weight.detach().to(dtype).contiguous()
        self._weight = _in_parts(weight) if by_mkl(dtype) else torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self._bias = bias.detach().to(dtype).contiguous()
        self._activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return linear(x, self._weight, self._bias, self._activation)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Weight and bias, as `linear` takes them."""
        return self._weight, self._bias


def linear(x: Tensor, weight: Tensor, bias: Tensor, activation: str, few_rows: int = _FEW_ROWS) -> Tensor:
    """y = act(x Wᵀ + b), (..., I) to (..., O); W packed for oneDNN, or (P, O/P, I).

    TorchScript compiles it as well, which knows no globals: `few_rows` is none to set.
    """
    if weight.is_mkldnn:
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
        return packed
    parts, inputs = weight.size(0), weight.size(2)
    rows = x.numel() // inputs
    if parts == 1 or rows >= few_rows:
        y = F.linear(x, weight.flatten(0, 1), bias)
    else:
        everywhere = x.reshape(1, rows, inputs).expand(parts, rows, inputs)
        by_part = torch.baddbmm(bias.view(parts, 1, -1), everywhere, weight.transpose(1, 2))  # (P, T, O/P)
        y = by_part.transpose(0, 1).reshape(list(x.shape[:-1]) + [bias.size(0)])  # noqa: RUF005 - TorchScript has no *
    if activation == "gelu":
        torch.ops.aten.gelu_(y)
    elif activation == "swish":
        torch.ops.aten.silu_(y)
    return y


def has_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this machine and torch have what `Product` is made of."""
    return (
        device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and (by_mkl(dtype) or _onednn_packs(dtype))
    )


def by_mkl(dtype: torch.dtype) -> bool:
    """Whether products of this dtype are MKL's on this CPU. The rule looks at no clock: a build's bits depend on it."""
    return (
        dtype == torch.float32
        and torch.backends.mkl.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    )


def padded_rows(rows: int, dtype: torch.dtype) -> int:
    """How many rows to compute for some, where their number changes from batch to batch.

    oneDNN makes and keeps a kernel for each new number, of half a megabyte and more for each of a tower's products, and
    is quickest with multiples of four: a number is rounded up to one, and a larger one by a sixteenth at most.
    """
    if by_mkl(dtype):
        return rows
    step = max(_ROWS, (1 << rows.bit_length()) // (2 * _STEPS))
    return -(-rows // step) * step


@cache
def _onednn_packs(dtype: torch.dtype) -> bool:
    """Ask oneDNN itself: which CPUs it packs bfloat16 for changes with its version, and on the others it raises."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    square = torch.zeros(16, 16, dtype=dtype)
    try:
        Product(square, square[0], dtype)(square)
    except RuntimeError:
        return False
    return True


def _in_parts(weight: Tensor) -> Tensor:
    """(O, I) to (P, O/P, I), a view: as many parts as keep all of torch's threads busy for the same time."""
    outputs, threads = len(weight), torch.get_num_threads()
    most = max(1, min(_MOST_PARTS, outputs // _NARROWEST))
    fitting = [parts for parts in range(1, most + 1) if outputs % parts == 0]
    parts = min(fitting, key=lambda parts: (-(-parts // threads) / parts, parts))
    return weight.view(parts, outputs // parts, -1)
