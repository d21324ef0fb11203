"""What the tiny CLIP learns from: drawings of the known species and of nameless birds, each with four captions.

No other species' name and no other species' looks occur here: CLIP must not know what the demo calls unseen.
"""

import io
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.captions import caption, caption_kind
from demo.drawing import draw, rasterise, scene_of
from demo.randomness import Dice
from demo.shots import IMAGE_PX
from demo.species import Attributes, nameless_bird, species_of

NUM_PICTURES = 36_000
CAPTIONS_PER_PICTURE = 4


def picture(number: int, size_px: int) -> NDArray[np.uint8]:
    """Picture `number`, (size_px, size_px, 3) uint8 RGB, drawn large and reduced as the encoder does it."""
    key, _, attributes = _subject(number)
    png = rasterise(draw(attributes, scene_of(attributes, key), IMAGE_PX), IMAGE_PX)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BICUBIC))


def captions(number: int) -> list[str]:
    """The captions of picture `number`; training draws one of them each epoch."""
    key, name, attributes = _subject(number)
    scene = scene_of(attributes, key)
    dice = Dice("kinds", key)
    shares = {"name": 0.5, "both": 0.3, "description": 0.2} if name else {"description": 0.7}
    kinds = [caption_kind(dice, **{"name": 0.0, "both": 0.0, **shares}) for _ in range(CAPTIONS_PER_PICTURE)]
    return [caption(kind, name, attributes, scene, f"{key}/{i}") for i, kind in enumerate(kinds)]


def draw_all(path: Path, size_px: int) -> NDArray[np.uint8]:
    """All pictures as one memory-mapped array (NUM_PICTURES, size_px, size_px, 3); drawn once, kept at `path`."""
    if not path.exists():
        partial_path = path.with_suffix(".partial.npy")
        shape = (NUM_PICTURES, size_px, size_px, 3)
        pictures = np.lib.format.open_memmap(partial_path, mode="w+", dtype=np.uint8, shape=shape)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            drawn = pool.map(partial(picture, size_px=size_px), range(NUM_PICTURES), chunksize=200)
            for number, pixels in enumerate(drawn):
                pictures[number] = pixels
        pictures.flush()
        partial_path.rename(path)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return mapped


def _subject(number: int) -> tuple[str, str, Attributes]:
    """Key, name (empty for a nameless bird) and looks: even numbers are known species in turn."""
    key = f"pretraining/{number:05d}"
    if number % 2:
        return key, "", nameless_bird(key)
    known = species_of("known")
    species = known[number // 2 % len(known)]
    return key, species.name, species.attributes
