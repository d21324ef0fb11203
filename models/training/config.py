"""How to train, as one frozen value that is checked where it is made. `recipes.py` has complete ones."""

from dataclasses import dataclass

from models.fusion import FusionConfig

_SHARES = ("warm_up", "neighbour_dropout", "random_k", "miss", "memory_share", "name_noise_share")


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        fusion: what to train.
        epochs: passes over the pairs.
        batch_size: pairs a step; also the number of wrong answers a pair is told from.
        learning_rate: peak of a cosine with `warm_up` of it linear.
        weight_decay: on matrices only.
        neighbour_dropout: share of candidates left out at random each time, as if the memory were smaller.
        random_k: share of queries with a random number of neighbours from 1..k, so that any k may be used later.
        miss: share of queries that get neighbours from far down the list only, as if the memory did not know them.
        miss_rank: from which candidate on a miss draws.
        memory_share: each batch sees a random share of the memory, from this one up to 1; the same items are hidden
            from both sides.
        name_noise: largest sigma by which texts are moved, as if the encoder did not know the names; 0 for never.
        name_noise_share: share of the caption groups whose texts are moved, where any are.
        patience: stop after so many epochs without a better validation loss; 0 to go through all.
        amp: compute the fusion in bfloat16 where that is safe; its weights and the loss stay float32.
        seed: of the weights, the order and all draws.

    Raises:
        ValueError: a number is out of its range.
    """

    fusion: FusionConfig
    epochs: int = 20
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    warm_up: float = 0.05
    neighbour_dropout: float = 0.1
    random_k: float = 0.3
    miss: float = 0.1
    miss_rank: int = 40
    memory_share: float = 1.0
    name_noise: float = 0.0
    name_noise_share: float = 0.6
    patience: int = 0
    amp: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        for name, least in (("epochs", 1), ("batch_size", 2), ("miss_rank", 0), ("patience", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is at least {least}, not {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is a number above 0, not {self.learning_rate}: a run would learn nothing")
        for name in ("weight_decay", "name_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a number from 0, not {getattr(self, name)}")
        if self.memory_share == 0:
            raise ValueError("memory_share is 0: no batch would see any of the memory")
