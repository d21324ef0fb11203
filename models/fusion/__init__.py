"""Fusion: the small trained modules that refine a query with the other modality of its neighbours.

fusion, config                a module a side; its size and kind
evidence                      the default design, fitted at once
stand_alone, label_set        how far it follows the memory: for one query, for a set of labels
damped_product                the whitened inner product that it compares by
faithful                      the paper's design
copy, gate, features          two small ones, and what they know of a neighbour

Imports torch only.
"""

from models.designs import DESIGNS, Design
from models.fusion.config import FusionConfig
from models.fusion.fusion import Fusion

__all__ = ["DESIGNS", "Design", "Fusion", "FusionConfig"]
