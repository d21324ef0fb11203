"""Evaluation: what the refined embeddings are worth, beside the frozen encoder and the controls."""

from evaluation.controls import MeanFusion, mlp_fusion, tuned_mean_fusion
from evaluation.zero_shot import ZeroShotTask, accuracy, refined_task

__all__ = ["MeanFusion", "ZeroShotTask", "accuracy", "mlp_fusion", "refined_task", "tuned_mean_fusion"]
