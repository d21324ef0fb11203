"""`/classify` finds a label by the captions that name it, where the encoder takes another thing's for nearer."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.fusion import FusionConfig
from models.training.dataset.entity_pairs import EntityPairs
from models.training.fitting.evidence import fit_evidence
from service.pipeline.engine import Engine

THINGS, PAIRS, K = 12, 2, 4
CODES = [f"article {code}" for code in range(7000, 7000 + THINGS)]


def unit(rows: Any) -> Any:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def catalogue(
    encoder: Encoder, write_pairs: Any, make_settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    """Captions are codes: to the text tower next to the same, in an order of chance; images tell the things apart."""
    captions = [f"{code}, seen from the side" for code in CODES for _ in range(PAIRS)]
    dice = np.random.default_rng(0)
    base = encoder.encode_text(encoder.tokenize([f"a photo of a {CODES[0]}."]).ids)
    dim = base.shape[1]
    texts = unit(base + 0.3 * unit(dice.normal(size=(len(captions), dim))))

    def pictures(things: int, pairs: int) -> Any:
        looks = dice.normal(size=(things, dim)).repeat(pairs, axis=0)
        return unit(centre + looks + 0.4 * dice.normal(size=looks.shape))

    centre = dice.normal(size=dim)
    memory = write_pairs(tmp_path_factory.mktemp("memory"), encoder, captions, pictures(THINGS, PAIRS), texts)
    entity = torch.arange(60).repeat_interleave(6)  # what the fusion is fitted on: captions that the tower tells apart
    told = unit(base + unit(dice.normal(size=(60, dim))))[entity]
    pairs = EntityPairs(torch.from_numpy(pictures(60, 6)), torch.from_numpy(told), entity)
    fusion = fit_evidence(pairs, FusionConfig("evidence", dim, k=K), alone=False)
    checkpoint = tmp_path_factory.mktemp("fusion")
    save_fusion(checkpoint, fusion, encoder.fingerprint.record())
    return Engine.open(make_settings(memory=str(memory), fusion=str(checkpoint)))


def test_codes_that_the_encoder_cannot_tell_are_found_by_their_letters(
    serve: Any, catalogue: Engine, photo_bytes: dict[str, bytes]
) -> None:
    image = base64.b64encode(photo_bytes["jpeg"]).decode()

    def trust(client: httpx.Client, labels: list[str]) -> Any:
        return client.post("/classify", json={"images": [image], "labels": labels}).json()["trust"]

    with serve(engine=catalogue) as service:
        named = trust(service.client, CODES)
        otherwise = trust(service.client, [code.replace("article", "item") for code in CODES])
    assert named["unknown_labels"] <= 0.2 and named["text"] > 0.2
    assert otherwise["text"] == 0 and otherwise["unknown_labels"] == 1
