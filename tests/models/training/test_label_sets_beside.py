"""A fusion trained on single pairs weighs sets of labels, by what is computed beside it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from typer.testing import CliRunner

from memory import Memory
from models.checkpoint import load_fusion, save_fusion
from models.checkpoint_files import read_config
from models.fusion import Fusion, FusionConfig
from models.fusion.label_set import LabelSetWeights, weigh_label_set
from models.training.fitting.single_pairs import with_label_sets
from reco.cli import app

D, THINGS, K = 64, 100, 10


class Shop:
    """Things with one photo and one caption each, and a second photo of each that is asked about."""

    def __init__(self, strength: float, seed: int = 0) -> None:
        dice = torch.Generator().manual_seed(seed)
        centre = torch.zeros(D).index_fill_(0, torch.tensor([0]), 1.0)
        looks, opaque = 0.09 * torch.randn(2, THINGS, D, generator=dice)
        photos = F.normalize(centre + looks + 0.1 * torch.randn(2, THINGS, D, generator=dice), dim=-1)
        self.image, self.asked = photos
        self.text = F.normalize(-centre + strength * looks + (1 - strength) * opaque, dim=-1)


def gate() -> Fusion:
    torch.manual_seed(0)
    return Fusion(FusionConfig("gate", D, k=K)).eval()


def classify(
    fusion: Fusion, shop: Shop, images: torch.Tensor, captions: torch.Tensor
) -> tuple[LabelSetWeights, float, float]:
    """The weights, and the accuracy in percent of the frozen encoder and refined."""
    similarities, rows = (shop.text @ captions.T).topk(K, dim=1)
    found = images[rows], similarities, torch.ones_like(rows, dtype=torch.bool)
    weights = weigh_label_set(fusion, shop.text, *found, captions[rows])
    side = fusion.evidence("text")
    assert weights is not None and side is not None
    texts = side(shop.text, *found, torch.tensor(weights.text))
    scores = shop.asked @ torch.stack([shop.text, texts]).transpose(1, 2)
    frozen, refined = (scores.argmax(dim=2) == torch.arange(THINGS)).float().mean(dim=1) * 100
    return weights, float(frozen), float(refined)


def test_weak_names_gain_by_their_one_photo_and_strong_ones_lose_nothing() -> None:
    weak, strong = Shop(0.35), Shop(1.0, seed=1)
    weights, frozen, refined = classify(with_label_sets(gate(), weak.image, weak.text), weak, weak.image, weak.text)
    assert frozen < 50 and refined > frozen + 10 and weights.unknown < 0.1
    weights, frozen, refined = classify(
        with_label_sets(gate(), strong.image, strong.text), strong, strong.image, strong.text
    )
    assert frozen > 80 and refined >= frozen - 1


def test_mixed_up_captions_and_missing_things_have_no_weight() -> None:
    shop, other = Shop(0.35), Shop(0.35, seed=2)
    fusion = with_label_sets(gate(), shop.image, shop.text)
    mixed_up, _, _ = classify(fusion, shop, shop.image.roll(1, dims=0), shop.text)
    missing, _, _ = classify(fusion, shop, other.image, other.text)
    assert mixed_up.text == mixed_up.image == missing.text == missing.image == 0
    assert mixed_up.unknown > 0.9 and missing.unknown > 0.9


def test_queries_that_stand_alone_are_refined_as_before() -> None:
    shop, plain = Shop(0.5), gate()
    weighed = with_label_sets(plain, shop.image, shop.text)
    similarities, rows = (shop.asked @ shop.image.T).topk(K, dim=1)
    found = shop.text[rows], similarities, torch.ones_like(rows, dtype=torch.bool), shop.image[rows]
    assert torch.equal(weighed.refine("image", shop.asked, *found), plain.refine("image", shop.asked, *found))


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    shop = Shop(0.5)
    fusion = with_label_sets(gate(), shop.image, shop.text)
    encoder = {"architecture": "a", "weights_sha256": "b", "preprocessing": "c", "tokenizer": "d", "embed_dim": D}
    save_fusion(tmp_path, fusion, encoder)
    loaded = load_fusion(tmp_path, encoder)
    assert loaded.config == fusion.config and loaded.config.label_sets
    assert classify(loaded, shop, shop.image, shop.text) == classify(fusion, shop, shop.image, shop.text)


def test_the_design_that_has_it_takes_no_second() -> None:
    with pytest.raises(ValueError, match="by its own sides"):
        FusionConfig("evidence", D, label_sets=True)


@pytest.mark.parametrize(("arguments", "weighs"), [([], True), (["--design", "gate", "--epochs", "1"], False)])
def test_reco_train_computes_it_for_single_pairs(
    make_memory: Callable[..., Memory], tmp_path: Path, arguments: list[str], weighs: bool
) -> None:
    """`auto` does; a design that is asked for is made as it is."""
    shop = Shop(0.35)
    image, text = (side.numpy().astype(np.float32) for side in (shop.image, shop.text))
    keys, captions = zip(*((f"shop/{number}", f"article {number}") for number in range(THINGS)), strict=True)
    memory = make_memory(tmp_path / "memory", image, text, keys=list(keys), captions=list(captions))
    fusion = tmp_path / "fusion"
    done = CliRunner().invoke(app, ["train", str(memory.path), "-o", str(fusion), "--device", "cpu", *arguments])
    told = " ".join(done.output.split())
    assert done.exit_code == 0, told
    assert load_fusion(fusion).config.label_sets == weighs == ("label_sets" in read_config(fusion)["fusion"])
    assert ("beside it, computed from 100 pairs" in told) == weighs
    found: NDArray[np.float32] = memory.rows("text")
    weights = weigh_label_set(load_fusion(fusion), *asked(memory, found))
    assert (weights is not None and weights.text > 0.1) == weighs


def asked(memory: Memory, texts: NDArray[np.float32]) -> tuple[torch.Tensor, ...]:
    found = memory.search(texts, K, modality="text")
    parts = (texts, found.values, found.similarities, found.mask, found.keys)
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
