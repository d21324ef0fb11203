"""The blocks of a packed text tower in one compiled call: the interpreter's lock is let go once a batch.

From Python each of a batch's 300 operations takes that lock again, and beside an event loop that is busy with refusals
each waits for it. Where torch has no TorchScript, the same functions run as they are. Imports torch only.
Shapes: B texts, E ends (B and the last one again), L tokens of the longest, T tokens in all, C width, H heads.
"""

import functools
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.towers.products import linear


class Places:
    """Where each token of a batch of texts is, in the batch (B, L) and in the row of all tokens (T).

    The last token stands there again until T is a number to compute with, and the last text among the ends (E >= B)
    likewise.
    """

    def __init__(self, ends: Tensor, padded_rows: Callable[[int], int]) -> None:
        """Take the place (B,) of each text's end token, its last; and what T and E are to be for so many."""
        lengths = ends + 1  # (B,)
        self.num_texts, self.longest = len(ends), int(lengths.max())
        steps = torch.arange(self.longest)
        places = (steps < lengths[:, None]).nonzero()  # (tokens, 2)
        places = torch.cat([places, places[-1:].expand(padded_rows(len(places)) - len(places), 2)])
        self.rows, self.columns = places.unbind(1)  # (T,) each
        self.padded = self.rows * self.longest + self.columns  # (T,) in the flattened (B, L)
        beyond = lengths.cumsum(0)  # (B,) in T, behind the end of each text
        # (B·L,) in T; places behind a text hold its end again: copying rows is quicker than filling in zeros
        self.spread = ((beyond - lengths)[:, None] + torch.minimum(steps, ends[:, None])).flatten()
        self.texts = torch.arange(padded_rows(len(ends))).clamp_(max=len(ends) - 1)  # (E,) in B
        self.ends = (beyond - 1)[self.texts]  # (E,) in T
        self.seen_by_ends = (steps <= ends[:, None])[:, None, None]  # (B, 1, 1, L)


def _heads(x: Tensor, spread: Tensor, num_texts: int, longest: int, num_heads: int, parts: int) -> Tensor:
    """(T, parts·C) to (parts, B, H, L, C/H), the end token again where a text has ended."""
    return x.index_select(0, spread).view(num_texts, longest, parts, num_heads, -1).permute(2, 0, 3, 1, 4)


def _rest(x: Tensor, attended: Tensor, after: list[Tensor], activation: str, eps: float) -> Tensor:
    """(T, C): what follows attention; `after` are weight and bias of its projection, norm and MLP."""
    x = x + linear(attended, after[0], after[1], "none")
    hidden = linear(F.layer_norm(x, [x.size(1)], after[2], after[3], eps), after[4], after[5], activation)
    return x + linear(hidden, after[6], after[7], "none")


def run_text_blocks(
    x: Tensor,
    spread: Tensor,
    padded: Tensor,
    ends: Tensor,
    texts: Tensor,
    seen_by_ends: Tensor,
    longest: int,
    befores: list[list[Tensor]],
    afters: list[list[Tensor]],
    num_heads: int,
    activation: str,
    eps: float,
) -> Tensor:
    """All blocks: tokens (T, C) to the end token of each text (E, C).

    Args:
        x: (T, C); a token sees itself and what is before it in its own text.
        spread, padded, ends, texts, seen_by_ends, longest: of `Places`.
        befores: of each block, weight and bias of its first norm and of queries, keys and values together; of the last
            one those of the queries apart.
        afters: of each block, see `_rest`.
        num_heads: H.
        activation: of the MLP, in oneDNN's words.
        eps: of the norms.
    """
    num_texts, width = seen_by_ends.size(0), [x.size(1)]
    for before, after in zip(befores[:-1], afters[:-1]):  # noqa: B905 - TorchScript's zip has no strict
        normed = F.layer_norm(x, width, before[0], before[1], eps)
        qkv = _heads(linear(normed, before[2], before[3], "none"), spread, num_texts, longest, num_heads, 3)
        # Padding stands behind every token of its text, where a causal token does not look.
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)  # (B, H, L, C/H)
        attended = attended.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, padded)  # (T, C)
        x = _rest(x, attended, after, activation, eps)
    before = befores[-1]
    normed = F.layer_norm(x, width, before[0], before[1], eps)
    kv = _heads(linear(normed, before[4], before[5], "none"), spread, num_texts, longest, num_heads, 2)
    q = linear(normed[ends], before[2], before[3], "none")[:num_texts].view(num_texts, 1, num_heads, -1).transpose(1, 2)
    attended = F.scaled_dot_product_attention(q, kv[0], kv[1], attn_mask=seen_by_ends)  # (B, H, 1, C/H)
    return _rest(x[ends], attended.transpose(1, 2).flatten(2)[:, 0][texts], afters[-1], activation, eps)


@functools.cache
def compiled() -> Callable[..., Tensor]:
    """`run_text_blocks`, compiled if torch can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and nothing else gives the lock back for a whole batch
        try:
            run: Callable[..., Tensor] = torch.jit.script(run_text_blocks)
        except (AttributeError, OSError, RuntimeError):  # OSError: there is no source to compile
            return run_text_blocks
    return run
