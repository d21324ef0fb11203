"""Fusion: the small trained modules that refine a query with the other modality of its neighbours."""

from models.fusion.config import DESIGNS, Design, FusionConfig
from models.fusion.fusion import Fusion

__all__ = ["DESIGNS", "Design", "Fusion", "FusionConfig"]
