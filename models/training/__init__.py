"""Training the fusion on cached embeddings: the encoder is frozen, so no encoder runs in the loop.

Its folders build on each other one way (tests/test_house.py):

    dataset/      what is learned from
    fitting/      the design that is fitted at once
    gradients/    the designs that are trained epoch after epoch
    finetuning/   the encoder itself, to compare with
    config, recipes, progress     how to train, and complete ways to; who is told how far it is
    choice, pair_choice           a design chosen by what is held out, for entities and for single pairs
"""

from models.training.config import TrainConfig
from models.training.dataset.exclusion import SearchSettings
from models.training.dataset.pairs import TrainingPairs
from models.training.gradients.loop import Surroundings, train
from models.training.gradients.resume import EpochReport

__all__ = ["EpochReport", "SearchSettings", "Surroundings", "TrainConfig", "TrainingPairs", "train"]
