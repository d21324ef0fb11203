"""The field guide on disk: folders of pictures with captions, as any user of RECO would have them.

    guide/known guide/training guide/validation guide/birds   what the first memory holds
    newcomers/unseen newcomers/unseen_genera                  species that are added later
    quiz/<group>                                              pictures without captions, to test with

A folder is drawn under a temporary name and renamed when whole, so a killed run draws only what is missing.
"""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from pathlib import Path

from demo.shots import Shot, nameless_shot, species_shot
from demo.species import GROUPS, Group, Species, species_of

PAIRS_PER_SPECIES: dict[Group, int] = {
    "known": 20,
    "training": 10,
    "validation": 20,
    "unseen": 20,
    "unseen_genera": 20,
}
NUM_BIRDS = 2000  # pairs that name no species
QUIZ_PER_SPECIES = 10
QUIZ_GROUPS: tuple[Group, ...] = ("known", "validation", "unseen", "unseen_genera")
GUIDE, NEWCOMERS, QUIZ = "guide", "newcomers", "quiz"
_CHUNK = 64


@dataclass(frozen=True)
class Collection:
    """One folder of shots; a quiz has no captions."""

    folder: str
    shots: tuple[Shot, ...]
    captions: bool = True


def collections() -> Iterator[Collection]:
    """Every folder of the world, in the order it is drawn."""
    for group in GROUPS:
        parent = NEWCOMERS if group in ("unseen", "unseen_genera") else GUIDE
        yield Collection(f"{parent}/{group}", _shots(group, f"{parent}/{group}", PAIRS_PER_SPECIES[group]))
    birds = tuple(nameless_shot(f"{GUIDE}/birds", number) for number in range(NUM_BIRDS))
    yield Collection(f"{GUIDE}/birds", birds)
    for group in QUIZ_GROUPS:
        yield Collection(f"{QUIZ}/{group}", quiz_shots(group), captions=False)


def quiz_shots(group: Group) -> tuple[Shot, ...]:
    """The test pictures of a group: species by species, `QUIZ_PER_SPECIES` each."""
    return _shots(group, f"{QUIZ}/{group}", QUIZ_PER_SPECIES)


def draw_world(directory: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Draw what is not there yet.

    Args:
        directory: gets the folders.
        progress: called with pictures done and pictures in all (of those that had to be drawn).

    Returns:
        How many pictures were drawn.
    """
    missing = [part for part in collections() if not (directory / part.folder).exists()]
    total, done = sum(len(part.shots) for part in missing), 0
    with _drawers() as pool:
        for collection in missing:
            target = directory / collection.folder
            partial = target.with_name(f"{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            shots = collection.shots
            chunks = [shots[start : start + _CHUNK] for start in range(0, len(shots), _CHUNK)]
            for count in pool.map(_draw, chunks, [partial] * len(chunks), [collection.captions] * len(chunks)):
                done += count
                if progress is not None:
                    progress(done, total)
            partial.rename(target)
    return total


@contextmanager
def _drawers() -> Iterator[ProcessPoolExecutor]:
    """Processes that draw, and end with this one, however it ends.

    They leave Ctrl-C to their parent: a terminal sends it to all, and each would tell of it.
    """
    # spawn: the parent may hold threads of torch, which a fork would break
    drawers = os.cpu_count() or 1
    with ProcessPoolExecutor(drawers, get_context("spawn"), _end_with_parent) as pool:
        with _interrupts_held():
            for _ in range(drawers):
                pool.submit(os.getpid)  # each starts one more, which inherits what is blocked
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C while work is handed out would wait for all of it


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that begin here never see Ctrl-C; of this one's main thread it interrupts what comes after.

    Blocking it is not enough: another thread, such as a progress bar's, takes the signal, and Python raises in the main
    thread all the same, in the middle of starting a process that then waits for its orders.
    """
    resource_tracker.ensure_running()  # else the first process starts it, and that unblocks the signal again
    held: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    listens = is_main and signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None)  # a background job does not
    handler = signal.signal(signal.SIGINT, lambda number, frame: held.append(number)) if listens else None
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if listens:
            signal.signal(signal.SIGINT, handler)
    if held:
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A parent that is killed tells nobody, and its pool would wait for work without end."""
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _draw(shots: tuple[Shot, ...], folder: Path, captions: bool) -> int:
    for shot in shots:
        stem = folder / Path(shot.key).name
        stem.with_suffix(".png").write_bytes(shot.png())
        if captions:
            stem.with_suffix(".txt").write_text(shot.caption + "\n", encoding="utf-8")
    return len(shots)


def _shots(group: Group, collection: str, count: int) -> tuple[Shot, ...]:
    species: tuple[Species, ...] = species_of(group)
    return tuple(species_shot(one, collection, number) for one in species for number in range(count))
