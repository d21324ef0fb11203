"""CLIP's text tower without the padding: the same embeddings, in the time the longest text of the batch needs.

Imports torch and open_clip's CLIP class. The steps are those of `open_clip.CLIP.encode_text`, whose positional
embedding forces the full context; a test holds the two together.
"""

import torch
from open_clip import CLIP


def can_cut(model: torch.nn.Module) -> bool:
    """Whether padding after the end token cannot reach the embedding: causal attention, read at the end token."""
    return type(model) is CLIP and model.text_pool_type == "argmax" and model.attn_mask is not None


def cut(tokens: torch.Tensor, multiple: int = 1) -> torch.Tensor:
    """The tokens up to the longest text's end.

    Args:
        tokens: (B, L) int64; the end token has the largest id of its row.
        multiple: of which the length is to be, as far as L goes.
    """
    longest = int(tokens.argmax(dim=-1).max()) + 1
    return tokens[:, : -(-longest // multiple) * multiple]


def encode_text_cut(model: CLIP, tokens: torch.Tensor, normalize: bool = False) -> torch.Tensor:
    """Encode texts that may be `cut`.

    Args:
        model: one that `can_cut`.
        tokens: (B, length) int64; the end token has the largest id of its row.
        normalize: must be False; here so that the function stands in for `model.encode_text`.

    Returns:
        (B, D) features in the model's dtype, not normalised.
    """
    assert not normalize, "the encoder normalises, in float32"
    ends = tokens.argmax(dim=-1)  # (B,)
    length = tokens.shape[1]
    dtype = model.transformer.get_cast_dtype()
    x = model.token_embedding(tokens).to(dtype)  # (B, length, width)
    x = x + model.positional_embedding[:length].to(dtype)
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(tokens), device=tokens.device), ends]  # (B, width)
    projection = model.text_projection
    features: torch.Tensor = x
    if projection is not None:
        features = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
    return features
