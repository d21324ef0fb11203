"""The quiz: which of a group's species does a picture show? Its pictures and prompts, embedded by the encoder."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from demo.captions import PROMPTS
from demo.corpus import QUIZ, QUIZ_PER_SPECIES, quiz_shots
from demo.species import Group, species_of
from evaluation.zero_shot import ZeroShotTask
from models.encoder import Encoder
from models.texts.prompts import class_means, compose

_BATCH = 128


def quiz_task(directory: Path, encoder: Encoder, *groups: Group) -> ZeroShotTask:
    """The task of telling all species of `groups` apart, from the pictures drawn in `directory`.

    A species' text is the mean of its prompts' embeddings, normalised again.
    """
    images, texts = [], []
    for group in groups:
        folder = directory / QUIZ / group
        pictures = [(folder / Path(shot.key).name).with_suffix(".png") for shot in quiz_shots(group)]
        images.append(embed_pictures(pictures, encoder))
        texts.append(embed_names([species.name for species in species_of(group)], encoder))
    class_texts = np.concatenate(texts)
    labels = np.repeat(np.arange(len(class_texts)), QUIZ_PER_SPECIES)
    return ZeroShotTask(np.concatenate(images), labels, class_texts)


def embed_pictures(paths: list[Path], encoder: Encoder) -> NDArray[np.float32]:
    """Embeddings (N, D) float32, unit norm, of picture files."""
    parts = []
    for start in range(0, len(paths), _BATCH):
        pixels = [encoder.preprocess(path.read_bytes()) for path in paths[start : start + _BATCH]]
        parts.append(encoder.encode_image(torch.stack(pixels)))
    return np.concatenate(parts)


def embed_names(names: list[str], encoder: Encoder) -> NDArray[np.float32]:
    """Embeddings (C, D) float32, unit norm, of species' names under all prompts."""
    prompts = compose(names, PROMPTS)
    parts = [
        encoder.encode_text(encoder.tokenize(prompts[start : start + _BATCH]).ids)
        for start in range(0, len(prompts), _BATCH)
    ]
    return class_means(np.concatenate(parts), len(PROMPTS))


def quiz_question(directory: Path) -> tuple[Path, str, list[str]]:
    """A picture of an unseen species, its name, and its relatives' names to choose from, the right one included.

    An example, chosen to show what the table counts: CLIP takes this bird for a relative, the memory does not.
    """
    species = next(one for one in species_of("unseen") if one.name == "brannock's fennow")
    relatives = [one.name for one in species_of("known", "unseen") if one.genus == species.genus]
    return directory / QUIZ / "unseen" / f"{species.slug}-009.png", species.name, relatives
