"""Fine-tuning the whole encoder beside training the fusion only: accuracy and seconds, on the demo's world.

    python -m benchmarks.finetune_vs_fusion --world reco-demo --seeds 3

Both learn from the same pairs, those of the known and the training species. Draws the world if it is not there (a
minute), then takes about three minutes a seed on one core. Writes benchmarks/results/finetune-vs-fusion.json.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from benchmarks.measured_on import measured_on
from demo.clip import tiny_clip_directory
from demo.corpus import GUIDE, NEWCOMERS, draw_world
from demo.measure import COLUMNS, TRAINING_KEYS, VALIDATION_KEYS, Quiz, Row, num_classes
from demo.measure import Lessons as FusionLessons
from demo.species import species_of
from memory import Memory
from memory_builder import BuildConfig, build
from memory_builder.readers import ReaderOptions
from models.encoder import Encoder
from models.fusion import Fusion
from models.sources.opening import OpenedModel, open_model
from models.sources.saving import save_model
from models.towers.cut_text import encode_text_cut
from models.training import TrainingPairs, train
from models.training.dataset.entities import by_names
from models.training.dataset.entity_pairs import EntityPairs
from models.training.dataset.split import split_by_key
from models.training.finetuning.finetune import FinetuneConfig, default_learning_rate, finetune
from models.training.fitting.evidence import fit_evidence
from models.training.recipes import fusion_config, recipe
from reco.captioned_corpus import Lessons, Selection, read_lessons, read_rows

log = logging.getLogger("finetune_vs_fusion")

RESULTS = Path(__file__).parent / "results" / "finetune-vs-fusion.json"
Result = TypeVar("Result")


class Clock:
    """Seconds by what they were spent on, in the order of the seeds.

    `cpu_seconds` are of all threads, and hardly depend on what else the machine does; `seconds` do.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.cpu_seconds: dict[str, list[float]] = {}

    def __call__(self, what: str, work: Callable[[], Result]) -> Result:
        """Do some work, and note how long it took."""
        start, cpu_start = time.monotonic(), time.process_time()
        result = work()
        self.seconds.setdefault(what, []).append(round(time.monotonic() - start, 2))
        self.cpu_seconds.setdefault(what, []).append(round(time.process_time() - cpu_start, 2))
        log.info("%s: %.1f s, %.1f s of CPU", what, self.seconds[what][-1], self.cpu_seconds[what][-1])
        return result


class Side:
    """An encoder with a memory of its own, before and after the newcomers, and the quiz in its own embeddings."""

    def __init__(self, world: Path, model: Path, memory: Path, clock: Clock) -> None:
        encoder = Encoder.open(str(model), dtype="float32")
        for corpus in (GUIDE, NEWCOMERS):
            config = BuildConfig((str(world / corpus),), memory, thumbnail_px=0)
            clock(f"build the memory: {corpus}", partial(build, config, encoder))
        self.before, self.after = (Memory.open(memory, version=version) for version in (1, 2))
        self.quiz = Quiz(world, encoder)
        self.lessons = FusionLessons(self.before)

    def score(self, fusion: Fusion | None) -> dict[str, float]:
        """Accuracy by column."""
        return self.quiz.score(self.after, fusion)


def main() -> None:
    """Compare, and write the results."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)  # open_clip tells much at this level
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--world", type=Path, default=Path("reco-demo"), help="folder of the demo's pictures")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args()
    draw_world(options.world)
    torch.set_num_threads(1)  # the cores are shared: threads that wait for each other would measure the others
    with TemporaryDirectory() as work:
        compared = compare(options.world, Path(work), list(range(options.seeds)))
    told = {
        **measured_on(),
        "threads": 1,
        "command": f"python -m benchmarks.finetune_vs_fusion --world reco-demo --seeds {options.seeds}",
        "classes": {column: num_classes(groups) for column, groups in COLUMNS.items()},
        **compared,
    }
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def compare(world: Path, work: Path, seeds: list[int]) -> dict[str, Any]:
    """Accuracies in percent by method, column and seed, and the seconds."""
    clock, rows = Clock(), dict[str, Row]()

    def add(method: str, scores: dict[str, float]) -> None:
        rows.setdefault(method, Row(method)).add(scores)
        log.info("%s %s", method, {column: round(score, 1) for column, score in scores.items()})

    source = open_model(str(tiny_clip_directory()), None)
    records, _ = read_rows([str(world / GUIDE)], ReaderOptions())
    selection = Selection(TRAINING_KEYS, VALIDATION_KEYS)
    pairs = clock("read and decode the pairs", partial(read_lessons, records, source, selection))
    frozen = Side(world, tiny_clip_directory(), work / "memory", clock)
    add("frozen CLIP", frozen.score(None))
    losses = []
    for seed in seeds:
        clock("encode the pairs once, no gradient", partial(encode, source, pairs))
        model = work / f"model-{seed}"
        losses.append(clock("fine-tune the encoder", partial(tune, pairs, FinetuneConfig(seed=seed), model)))
        tuned = Side(world, model, work / f"memory-{seed}", clock)
        add("fine-tuned CLIP", tuned.score(None))
        faithful = clock("train the fusion: faithful", partial(train_faithful, frozen.before, seed))
        add("frozen CLIP, memory, faithful", frozen.score(faithful))
        evidence = clock("fit the fusion: evidence", partial(frozen.lessons.fit, seed))
        add("frozen CLIP, memory, evidence", frozen.score(evidence))
        add("fine-tuned CLIP, memory, evidence", tuned.score(tuned.lessons.fit(seed)))
        for side, name in ((frozen, "frozen CLIP"), (tuned, "fine-tuned CLIP")):
            add(f"{name}, memory, evidence of other species", side.score(fit_elsewhere(side.before, seed)))
    config = {**asdict(FinetuneConfig()), "learning_rate": default_learning_rate(source.model), "seed": seeds}
    return {
        "pairs": {"training": len(pairs.training), "validation": len(pairs.validation)},
        "finetuning": config,
        "faithful_epochs": recipe("faithful", frozen.before.embed_dim).epochs,
        "validation_losses": [[round(loss, 3) for loss in one] for one in losses],
        "top1_percent": {method: row.accuracies for method, row in rows.items()},
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
    }


def tune(pairs: Lessons, config: FinetuneConfig, directory: Path) -> tuple[float, ...]:
    """Fine-tune the demo's encoder and write it: the validation losses."""
    opened = open_model(str(tiny_clip_directory()), None)
    losses = finetune(opened.model, pairs.training, pairs.validation, config)
    save_model(directory, opened, {})
    return losses


@torch.inference_mode()
def encode(opened: OpenedModel, pairs: Lessons) -> None:
    """Both towers over all training pairs, as an epoch of training does, without a gradient."""
    model: Any = opened.model.eval()
    for packed, tokens, _ in pairs.training.batches(FinetuneConfig().batch_size, torch.Generator().manual_seed(0)):
        model.encode_image(pairs.training.codec.unpack(packed).contiguous(memory_format=torch.channels_last))
        encode_text_cut(model, tokens)


def fit_elsewhere(memory: Memory, seed: int) -> Fusion:
    """The evidence design on the validation species: pairs that fine-tuning did not learn from."""
    names = [species.name for species in species_of("validation")]
    pairs = EntityPairs.from_memory(memory, by_names(memory.captions(), names))
    return fit_evidence(pairs, fusion_config("evidence", memory.embed_dim), seed)


def train_faithful(memory: Memory, seed: int) -> Fusion:
    """The paper's layer on the same pairs, their neighbours searched here."""
    ids = split_by_key(memory, TRAINING_KEYS, VALIDATION_KEYS)
    pairs, validation = (TrainingPairs.from_memory(memory, part) for part in ids)
    return train(pairs, recipe("faithful", memory.embed_dim, seed=seed), validation)


if __name__ == "__main__":
    main()
