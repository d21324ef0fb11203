"""CLIP's text tower without the padding: the same embeddings, in the time the longest text of the batch needs.

Imports torch and open_clip's CLIP class. The steps are those of `open_clip.CLIP.encode_text`, whose positional
embedding forces the full context; a test holds the two together.
"""

import torch
from open_clip import CLIP


def can_cut(model: torch.nn.Module) -> bool:
    """Whether padding after the end token cannot reach the embedding: causal attention, read at the end token."""
    return type(model) is CLIP and model.text_pool_type == "argmax" and model.attn_mask is not None


def encode_text_cut(model: CLIP, tokens: torch.Tensor, normalize: bool = False) -> torch.Tensor:
    """Encode texts cut to the longest of the batch.

    Args:
        model: one that `can_cut`.
        tokens: (B, L) int64; the end token has the largest id of its row.
        normalize: must be False; here so that the function stands in for `model.encode_text`.

    Returns:
        (B, D) features in the model's dtype, not normalised.
    """
    assert not normalize, "the encoder normalises, in float32"
    ends = tokens.argmax(dim=-1)  # (B,)
    length = int(ends.max()) + 1
    dtype = model.transformer.get_cast_dtype()
    x = model.token_embedding(tokens[:, :length]).to(dtype)  # (B, length, width)
    x = x + model.positional_embedding[:length].to(dtype)
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(tokens), device=tokens.device), ends]  # (B, width)
    projection = model.text_projection
    features: torch.Tensor = x
    if projection is not None:
        features = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
    return features
