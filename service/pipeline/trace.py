"""Where the seconds of one request went. Depends on the batcher's and the engine's words."""

from dataclasses import dataclass, field
from typing import Any

from service.pipeline.batch import Batch, Done
from service.pipeline.engine import Tokenised

_PATH = ("decode", "tokenize", "queue", "encode", "weigh", "retrieve", "fuse")


@dataclass
class Trace:
    """The seconds of one request, by stage: its longest wait, each batch it took part in once, its texts."""

    prepared: dict[str, float] = field(default_factory=dict)  # decode of images, tokenize of texts
    queue: float = 0.0
    weigh: float | None = None
    texts: list[Tokenised] = field(default_factory=list)
    batches: dict[int, Batch] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Of all texts; counted when somebody asks, for most never do."""
        return sum(text.num_tokens for text in self.texts)

    def prepare(self, stage: str, seconds: float) -> None:
        self.prepared[stage] = max(self.prepared.get(stage, 0.0), seconds)

    def add(self, done: Done[Any]) -> None:
        self.queue = max(self.queue, done.queue_seconds)
        self.batches[id(done.batch)] = done.batch

    def seconds(self) -> dict[str, float]:
        """Seconds of the stages that took place, in the order of the path."""
        total = {**self.prepared, "queue": self.queue}
        if self.weigh is not None:
            total["weigh"] = self.weigh
        for batch in self.batches.values():
            for stage, value in batch.seconds.items():
                total[stage] = total.get(stage, 0.0) + value
        return dict(sorted(total.items(), key=lambda stage: _PATH.index(stage[0])))
