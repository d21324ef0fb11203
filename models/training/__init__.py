"""Training the fusion on cached embeddings: the encoder is frozen, so no encoder runs in the loop."""

from models.training.config import TrainConfig
from models.training.exclusion import SearchSettings
from models.training.loop import Surroundings, train
from models.training.pairs import TrainingPairs
from models.training.resume import EpochReport

__all__ = ["EpochReport", "SearchSettings", "Surroundings", "TrainConfig", "TrainingPairs", "train"]
