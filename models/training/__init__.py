"""Training the fusion on cached embeddings: the encoder is frozen, so no encoder runs in the loop."""

from models.training.loop import EpochReport, TrainConfig, train
from models.training.pairs import TrainingPairs

__all__ = ["EpochReport", "TrainConfig", "TrainingPairs", "train"]
