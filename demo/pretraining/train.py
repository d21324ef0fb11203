"""Train the tiny CLIP of the demo: open_clip's own classes, the plain contrastive loss, minutes on a CPU.

    python -m demo.pretraining.train WORK_DIR FIRST_DIR
    python -m demo.pretraining.train WORK_DIR OUT_DIR --start FIRST_DIR --epochs 4 --learning-rate 1e-3

WORK_DIR keeps the drawn pictures (0.4 GB); OUT_DIR becomes a model directory as `Encoder.open` reads it. Weights are
not reproducible bit for bit across CPUs, so the ones that ship carry a SHA-256 and are tested by what they can do.
"""

import argparse
import hashlib
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.merges import WORDS, Merge, broken_apart, learn_merges, write_merges
from demo.pretraining.material import captions, draw_all
from demo.randomness import Dice

log = logging.getLogger("pretraining")

IMAGE_PX = 64
CONTEXT_LENGTH = 40
MOST_MERGES = 2000
BATCH = 256
WARM_UP, WEIGHT_DECAY = 100, 0.1
BROKEN_SHARE, BROKEN_DROP = 0.15, 0.3  # share of captions with broken words, and of their merges skipped
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


class Captions:
    """All captions as token ids, each also in a version with words broken apart. Shape (N, C, L) int64 each."""

    def __init__(self, count: int, merges: list[Merge], tokenizer: open_clip.SimpleTokenizer) -> None:
        texts = [captions(number) for number in range(count)]
        words = sorted({word for group in texts for text in group for word in WORDS.findall(text.lower())})
        dice = Dice("broken words")
        self._tokenizer = tokenizer
        self._whole = dict(zip(words, broken_apart(words, merges, dice, 0.0), strict=True))
        versions = [broken_apart(words, merges, dice, BROKEN_DROP) for _ in range(12)]
        self._broken = [dict(zip(words, version, strict=True)) for version in versions]
        self._texts = texts

    def batch(self, rows: NDArray[np.int64], dice: np.random.Generator) -> Tensor:
        """One caption for each row: (B, L) int64, L the longest of the batch."""
        batch = []
        for row in rows:
            text = self._texts[row][dice.integers(len(self._texts[row]))]
            broken = dice.random() < BROKEN_SHARE
            table = self._broken[dice.integers(len(self._broken))] if broken else self._whole
            symbols = [symbol for word in WORDS.findall(text.lower()) for symbol in table[word]]
            ids = [self._tokenizer.encoder[symbol] for symbol in symbols[: CONTEXT_LENGTH - 2]]
            batch.append([self._tokenizer.sot_token_id, *ids, self._tokenizer.eot_token_id])
        longest = max(map(len, batch))
        return torch.tensor([ids + [0] * (longest - len(ids)) for ids in batch])


def main() -> None:
    """Draw, learn the merges, train, save."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the cosine")
    parser.add_argument("--start", type=Path, help="a model directory to go on from, with a new cosine")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = draw_all(options.work / f"pictures-{IMAGE_PX}.npy", IMAGE_PX)
    log.info("%d pictures", len(pictures))
    merges = learn_merges((text for number in range(len(pictures)) for text in captions(number)), MOST_MERGES)
    write_merges(options.out / "bpe.txt.gz", merges)
    tokenizer = open_clip.SimpleTokenizer(str(options.out / "bpe.txt.gz"), context_length=CONTEXT_LENGTH)
    log.info("%d merges, vocabulary %d", len(merges), tokenizer.vocab_size)
    config = _config(tokenizer.vocab_size)
    torch.manual_seed(0)
    model = CLIP(**config["model_cfg"]).to(memory_format=torch.channels_last)
    if options.start:
        model.load_state_dict(load_file(options.start / "open_clip_model.safetensors"))
    texts = Captions(len(pictures), merges, tokenizer)
    train(model, pictures, texts, options.epochs, options.learning_rate)
    save(model, config, options.out)


def train(model: CLIP, pictures: NDArray[np.uint8], texts: Captions, epochs: int, learning_rate: float) -> None:
    """AdamW with warm-up and one cosine; the logit scale is clamped to 100 as CLIP does it."""
    matrices = [p for p in model.parameters() if p.ndim >= 2 and p is not model.token_embedding.weight]
    others = [p for p in model.parameters() if p.ndim < 2] + [model.token_embedding.weight]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    dice = np.random.default_rng(epochs)  # another order when training goes on
    steps = epochs * (len(pictures) // BATCH)
    started = time.monotonic()
    for step in range(steps):
        if step % (len(pictures) // BATCH) == 0:
            order = dice.permutation(len(pictures))
        rows = order[step % (len(pictures) // BATCH) * BATCH :][:BATCH]
        rate = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate
        loss, hits = contrastive_step(model, augmented(pictures[np.sort(rows)], dice), texts.batch(np.sort(rows), dice))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 20 == 0 or step == steps - 1:
            left = (time.monotonic() - started) / (step + 1) * (steps - step - 1)
            log.info("step %d/%d loss %.3f top-1 %.3f, %.0f s left", step, steps, loss.item(), hits, left)


def contrastive_step(model: CLIP, images: Tensor, text_tokens: Tensor) -> tuple[Tensor, float]:
    """The symmetric contrastive loss of a batch, and its top-1 from image to text.

    Padding behind the last token changes nothing under a causal mask, so texts run at the batch's longest.
    """
    length = text_tokens.shape[1]
    tokens = model.token_embedding(text_tokens) + model.positional_embedding[:length]  # (B, L, W)
    tokens = model.ln_final(model.transformer(tokens, attn_mask=model.attn_mask[:length, :length]))
    ends = tokens[torch.arange(len(tokens)), text_tokens.argmax(dim=-1)]
    text = F.normalize(ends @ model.text_projection, dim=-1)
    image = F.normalize(model.visual(images), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T  # (B, B)
    target = torch.arange(len(logits))
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, float((logits.argmax(dim=1) == target).float().mean())


def augmented(pixels: NDArray[np.uint8], dice: np.random.Generator) -> Tensor:
    """Flip, shift by up to 4 px, change the light, add noise; then CLIP's normalisation. (B, 3, H, W) float32."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    count = len(images)
    flips = torch.from_numpy(dice.random(count) < 0.5)
    images[flips] = images[flips].flip(-1)
    shift = dice.integers(-4, 5, 2)
    images = images.roll((int(shift[0]), int(shift[1])), dims=(2, 3))
    gain = torch.from_numpy(dice.uniform(0.9, 1.1, (count, 1, 1, 1))).float()
    offset = torch.from_numpy(dice.uniform(-0.03, 0.03, (count, 1, 1, 1))).float()
    noise = torch.randn_like(images) * torch.from_numpy(dice.uniform(0, 0.03, (count, 1, 1, 1))).float()
    images = (images * gain + offset + noise).clamp(0, 1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return ((images - mean) / std).to(memory_format=torch.channels_last)


def save(model: CLIP, config: dict[str, dict[str, object]], out: Path) -> None:
    """Half-precision weights, open_clip's config, and the SHA-256 of both and of the merges."""
    model.eval()
    halves = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(halves, out / "open_clip_model.safetensors", metadata={"format": "pt"})
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    names = ("bpe.txt.gz", "open_clip_config.json", "open_clip_model.safetensors")
    sums = [f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}" for name in names]
    (out / "SHA256SUMS").write_text("\n".join(sums) + "\n")


def _config(vocab_size: int) -> dict[str, dict[str, object]]:
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": IMAGE_PX, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocab_size,
                "width": 96,
                "heads": 4,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


if __name__ == "__main__":
    main()
