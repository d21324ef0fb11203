"""Rows and encoders that are made up: what a memory needs where nothing is encoded. Imported by child processes too."""

from typing import Any

import numpy as np


def unit_rows(n: int, embed_dim: int, seed: int) -> np.ndarray:
    """Random directions (n, D) float32, unit norm; a seed gives the same rows always."""
    rows = np.random.default_rng(seed).standard_normal((n, embed_dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def encoder_record(embed_dim: int) -> dict[str, Any]:
    """The record of an encoder that does not exist."""
    probes = np.eye(embed_dim)[:2].tolist()
    return {
        "architecture": "tiny",
        "weights_sha256": "ab" * 32,
        "preprocessing": {"size": 32, "mean": [0.5, 0.5, 0.5]},
        "tokenizer": {"kind": "simple", "sha256": "cd" * 32, "context_length": 16},
        "embed_dim": embed_dim,
        "probes": {"image": probes, "text": probes},
    }
