"""The demo from nothing to a served memory: draw, build, train, add the newcomers, measure. Each step may be
repeated: what is done is not done again."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from demo.clip import tiny_clip_directory
from demo.corpus import GUIDE, NEWCOMERS, draw_world
from demo.measure import Lessons, Quiz, Row, measure
from demo.report import write_evaluation
from demo.samples import write_samples
from memory import Memory, VersionNotFound, list_versions
from memory_builder import BuildConfig, Progress, build
from models.checkpoint import open_fusion, save_fusion
from models.encoder import Encoder
from models.errors import CheckpointError
from models.fusion import Fusion

BEFORE, AFTER = 1, 2  # versions of the demo's memory: without and with the newcomers


class Narrator(Protocol):
    """Shows the story to a person."""

    def step(self, title: str) -> None:
        """A step begins."""

    def drawn(self, done: int, total: int) -> None:
        """So many pictures are drawn."""

    def controlled(self, done: int, total: int) -> None:
        """So many epochs of the controls are trained."""

    @property
    def building(self) -> Progress:
        """Where the builder reports to."""


@dataclass(frozen=True)
class Demo:
    """The finished demo: where its parts lie, and the table."""

    model: Path
    memory: Path
    fusion: Path
    samples: Path
    rows: list[Row]


def tell(directory: Path, seeds: tuple[int, ...], narrator: Narrator, *, table: bool = True) -> Demo:
    """Run the whole demo.

    Args:
        directory: gets `guide`, `newcomers`, `quiz`, `samples`, `memory` and a `fusion` for each seed.
        seeds: of the fusion's training; the first one's is served.
        narrator: shows progress.
        table: measure at the end; without it there are no rows, and no controls are trained.
    """
    memory = directory / "memory"
    _check_versions(memory)
    narrator.step("1  Draw a field guide: birds that exist nowhere, with captions")
    draw_world(directory, narrator.drawn)
    model = tiny_clip_directory()
    encoder = Encoder.open(str(model))
    narrator.step("2  Build the memory from the guide's folder")
    _build(directory / GUIDE, memory, BEFORE, encoder, narrator)
    before = Memory.open(memory, version=BEFORE, encoder=encoder.fingerprint.record())
    quiz = Quiz(directory, encoder)
    lessons = Lessons(before)
    fusions: dict[int, Fusion] = {}
    for seed in seeds:
        narrator.step(f"3  Train the fusion on the guide, seed {seed}: CLIP stays frozen")
        fusions[seed] = _fusion(directory / f"fusion-{seed}", before, lessons, seed)
    narrator.step("4  Add the newcomers to the memory: species that nothing was trained on")
    _build(directory / NEWCOMERS, memory, AFTER, encoder, narrator)
    after = Memory.open(memory, version=AFTER, encoder=encoder.fingerprint.record())
    rows: list[Row] = []
    if table:
        narrator.step("5  Ask: which species is it? Frozen CLIP beside the memory, and beside the controls")
        rows = measure(quiz, before, after, fusions, lessons, report=narrator.controlled)
    narrator.step(f"{6 if table else 5}  Evaluate it as `reco eval -o` would: what the page's third view shows")
    served = directory / f"fusion-{seeds[0]}"
    write_evaluation(directory, served, quiz, after, fusions[seeds[0]], rows=rows)
    return Demo(model, memory, served, write_samples(directory), rows)


def _check_versions(memory: Path) -> None:
    """Refuse a memory that has lost what the demo compares, before minutes are spent on it.

    Raises:
        VersionNotFound: `reco memory gc` has dropped the version without the newcomers.
    """
    there = list_versions(memory)
    if there and BEFORE not in there:
        raise VersionNotFound(
            f"{memory} keeps version {there[-1]} and not {BEFORE}, of before the newcomers, which the demo measures "
            "against: serve it as serve.env beside it says, or run the demo in another folder (--directory)"
        )


def _build(corpus: Path, memory: Path, version: int, encoder: Encoder, narrator: Narrator) -> None:
    if version not in list_versions(memory):
        build(BuildConfig((str(corpus),), memory), encoder, narrator.building)


def _fusion(directory: Path, memory: Memory, lessons: Lessons, seed: int) -> Fusion:
    """The seed's fusion: as saved by an earlier run on this memory, or fitted now: it takes less than a second.

    An earlier run may have been another version's, of which nothing can be taken up, or have met a full disk.
    """
    with suppress(CheckpointError):
        saved = open_fusion(directory, memory.encoder)
        if saved.config.get("trained", {}).get("memory_digest") == memory.digest:
            return saved.fusion
    fusion = lessons.fit(seed)
    save_fusion(directory, fusion, memory.encoder, {"memory_digest": memory.digest, "seed": seed})
    return fusion
