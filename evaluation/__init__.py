"""Evaluation: what the refined embeddings are worth, beside the frozen encoder and the controls."""

from evaluation.array_memory import ArrayMemory, SearchesNeighbours
from evaluation.bootstrap import Bootstrap
from evaluation.controls import MeanFusion, mlp_fusion, tuned_mean_fusion
from evaluation.refinement import MODES, SCORINGS, Sides, refined, refined_sides
from evaluation.retrieval import RetrievalTask, best_ranks, ranks
from evaluation.zero_shot import ZeroShotTask, accuracy, predictions, refined_task

__all__ = [
    "MODES",
    "SCORINGS",
    "ArrayMemory",
    "Bootstrap",
    "MeanFusion",
    "RetrievalTask",
    "SearchesNeighbours",
    "Sides",
    "ZeroShotTask",
    "accuracy",
    "best_ranks",
    "mlp_fusion",
    "predictions",
    "ranks",
    "refined",
    "refined_sides",
    "refined_task",
    "tuned_mean_fusion",
]
