"""SIGKILL at any moment, then the same call again: the same memory as an unbroken build, and little done twice.

Each build runs in a fork of this process, which has torch and the encoder loaded already.
"""

import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import pytest
import torch
from pyarrow import ipc

from memory import Memory, latest_version, verify_memory
from memory.format.work_files import is_known
from memory_builder import BuildConfig, BuildInterrupted, build
from memory_builder.engines import local
from memory_builder.readers import Piece
from memory_builder.readers.folder import FolderReader
from models.encoder import Encoder

KILLS = 12
ROWS, UNIT_ROWS = 300, 20


@pytest.fixture(autouse=True)
def _one_thread_each() -> Iterator[None]:
    """A fork has only the thread that forked: thread pools of the libraries must not exist in it."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    faiss.omp_set_num_threads(before[1])


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child, which exits with 0, with 3 after an interruption, or with 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BuildInterrupted:
        status = 3
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Exit status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def config(corpus: Path, memory: Path, unit_rows: int = UNIT_ROWS) -> BuildConfig:
    return BuildConfig((str(corpus),), memory, unit_rows=unit_rows, batch_size=10, workers=2, max_error_rate=0.2)


def digest(memory: Path) -> str:
    with Memory.open(memory) as opened:
        return opened.digest


def leftovers(memory: Path) -> list[Path]:
    """Temporary files, and units that a version holds already."""
    return [path for path in memory.rglob("*") if path.name.startswith(".tmp")] + list(
        (memory / "work/units").iterdir()
    )


def unnamed(memory: Path) -> list[str]:
    """Files of the work folder that a purge would know nothing about."""
    paths = [path.relative_to(memory).as_posix() for path in (memory / "work").rglob("*") if path.is_file()]
    return [path for path in paths if ".tmp-" not in path and not is_known(path)]


def rows_encoded(memory: Path) -> int:
    lines = (memory / "work/build-log.jsonl").read_text().splitlines()
    return sum(json.loads(line)["rows"] for line in lines)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> Path:
    """300 pairs, a few of them unusable."""
    photos = write_folder(tmp_path_factory.mktemp("corpus") / "photos", range(ROWS))
    for number in (17, 150, 299):
        (photos / f"{number // 10:03d}/{number:05d}.jpg").write_bytes(b"no image")
    return photos


def test_X02_killed_at_random_moments(corpus: Path, place: Path, encoder: Encoder) -> None:
    whole = place / "whole"
    began = time.monotonic()
    assert wait(fork(lambda: build(config(corpus, whole), encoder))) == 0
    duration = time.monotonic() - began
    expected = digest(whole)

    dice = random.Random(20)
    memory = place / "memory"
    kills = finished = 0
    while kills < KILLS or not finished:
        # One memory is killed again and again until it is whole; then a new one is begun.
        child = fork(lambda: build(config(corpus, memory), encoder))
        if kills < KILLS:
            time.sleep(duration * dice.random() / 4)
            os.kill(child, signal.SIGKILL)
        status = wait(child)
        assert status in (0, -signal.SIGKILL)
        assert unnamed(memory) == []
        kills += status == -signal.SIGKILL
        if latest_version(memory) is not None:
            finished += 1
            assert digest(memory) == expected
            rerun = build(config(corpus, memory), encoder)
            assert (rerun.created, rerun.rows, rerun.present, rerun.rejected_earlier) == (False, ROWS, ROWS - 3, 3)
            assert leftovers(memory) == []
            shutil.rmtree(memory)


class Killer:
    """Kills this process at the n-th of the calls that make a write durable, or visible, or undo one."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def install(self) -> None:
        """For a child process only."""
        for name in ("fsync", "link", "rename", "replace", "unlink", "rmdir"):
            setattr(os, name, self._around(getattr(os, name)))
        for name in ("rename", "replace", "unlink"):
            setattr(Path, name, self._around(getattr(Path, name)))

    def _around(self, call: Callable[..., object]) -> Callable[..., object]:
        def killing(*arguments: object, **options: object) -> object:
            self.calls += 1
            if self.calls == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return killing


def build_killed_at(step: int, settings: BuildConfig, encoder: Encoder) -> int:
    """Build in a child that dies before the `step`-th call; its exit status."""

    def work() -> None:
        Killer(step).install()
        build(settings, encoder)

    return wait(fork(work))


def count_steps(settings: BuildConfig, encoder: Encoder, count: Path) -> int:
    """Build in a child that dies at no call, and count them."""

    def work() -> None:
        killer = Killer(0)
        killer.install()
        build(settings, encoder)
        count.write_text(str(killer.calls))

    assert wait(fork(work)) == 0
    return int(count.read_text())


def test_X01_killed_before_each_durable_step(place: Path, encoder: Encoder, write_folder: Callable[..., Path]) -> None:
    photos, memory = write_folder(place / "photos", range(6)), place / "memory"
    (photos / "000/00003.jpg").write_bytes(b"no image")
    settings = config(photos, memory, unit_rows=4)
    steps = count_steps(settings, encoder, place / "steps")
    expected = digest(memory)
    assert steps > 60
    # All steps of the commit and of the clean-up behind it, and a sample of those before: all of them take minutes.
    for step in [*sorted(random.Random(1).sample(range(1, steps - 15), 16)), *range(steps - 15, steps + 1)]:
        shutil.rmtree(memory)
        assert build_killed_at(step, settings, encoder) == -signal.SIGKILL
        before = latest_version(memory)
        result = build(settings, encoder)
        assert result.digest == expected, f"step {step}"
        assert (before is None) == result.created
        assert leftovers(memory) == [], f"step {step}"
        assert rows_encoded(memory) <= 6, f"step {step}: a finished unit was done again"
    assert verify_memory(memory).ok


def test_X01_growing_a_memory_survives_a_kill(place: Path, encoder: Encoder, write_folder: Callable[..., Path]) -> None:
    first, more = write_folder(place / "first", range(4)), write_folder(place / "more", range(100, 104))
    start, whole = place / "start", place / "whole"
    old = build(config(first, start), encoder).digest
    shutil.copytree(start, whole)
    expected = build(config(more, whole), encoder).digest
    dice = random.Random(3)
    for step in sorted(dice.sample(range(1, 60), 8)):
        memory = place / f"memory{step}"
        shutil.copytree(start, memory)
        assert build_killed_at(step, config(more, memory), encoder) == -signal.SIGKILL
        assert digest(memory) in (old, expected)
        build(config(more, memory), encoder)
        assert digest(memory) == expected
        assert latest_version(memory) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_X08_asked_to_stop(
    tmp_path: Path, encoder: Encoder, write_folder: Callable[..., Path], number: signal.Signals
) -> None:
    photos, memory = write_folder(tmp_path / "photos", range(100)), tmp_path / "memory"
    child = fork(lambda: build(config(photos, memory), encoder))
    while not list(memory.glob("work/units/*/unit.json")):
        time.sleep(0.01)
    os.kill(child, number)
    asked = time.monotonic()
    assert wait(child) == 3
    assert time.monotonic() - asked < 5
    assert latest_version(memory) is None
    done = len(list(memory.glob("work/units/*/unit.json")))
    result = build(config(photos, memory), encoder)
    assert 1 <= result.units_resumed == done < result.units
    assert result.added == 100


def test_X08_a_stop_is_heard_while_a_source_is_scanned(
    tmp_path: Path, encoder: Encoder, write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, scan, seen = write_folder(tmp_path / "photos", range(100)), FolderReader.pieces, list[Piece]()

    def pieces(reader: FolderReader, unit_rows: int) -> Iterator[Piece]:
        for piece in scan(reader, unit_rows):
            seen.append(piece)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield piece

    monkeypatch.setattr(FolderReader, "pieces", pieces)
    with pytest.raises(BuildInterrupted):
        build(config(photos, tmp_path / "memory"), encoder)
    assert len(seen) == 2


def test_X08_batches_of_a_unit_in_hand_are_kept(
    tmp_path: Path, encoder: Encoder, write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, memory = write_folder(tmp_path / "photos", range(100)), tmp_path / "memory"
    (photos / "000/00003.jpg").write_bytes(b"no image")
    settings = config(photos, memory, unit_rows=100)
    encoded: list[int] = []
    encode_image = encoder.encode_image

    def encode(pixels: torch.Tensor) -> object:
        encoded.append(len(pixels))
        if len(encoded) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return encode_image(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(encoder, "encode_image", encode)
        with pytest.raises(BuildInterrupted):
            build(settings, encoder)
    assert latest_version(memory) is None
    before = sum(encoded)
    assert before < 100
    (begun,) = memory.glob("work/units/*/begun-*.arrow")
    assert unnamed(memory) == []
    shutil.copytree(memory, tmp_path / "damaged")
    monkeypatch.setattr(encoder, "encode_image", lambda pixels: (encoded.append(len(pixels)), encode_image(pixels))[1])
    result = build(settings, encoder)
    assert sum(encoded) == 99, "no image is encoded twice, and none is left out"
    assert leftovers(memory) == []
    assert result.digest == build(config(photos, tmp_path / "whole", unit_rows=100), encoder).digest

    damaged = tmp_path / "damaged" / begun.relative_to(memory)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert build(config(photos, tmp_path / "damaged", unit_rows=100), encoder).digest == result.digest


def test_X02_a_kill_costs_of_a_unit_what_was_done_since_it_was_last_kept(
    place: Path, encoder: Encoder, write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, memory = write_folder(place / "photos", range(100)), place / "memory"
    settings = config(photos, memory, unit_rows=100)
    monkeypatch.setattr(local, "_KEPT_EVERY_S", 0.0)
    encoded: list[int] = []
    encode_image = encoder.encode_image

    def killed(pixels: torch.Tensor) -> object:
        encoded.append(len(pixels))
        if len(encoded) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode_image(pixels)

    def build_until_killed() -> None:
        monkeypatch.setattr(encoder, "encode_image", killed)
        build(settings, encoder)

    assert wait(fork(build_until_killed)) == -signal.SIGKILL
    # Two where it was killed before the older one went: the newer holds all of that, too.
    kept = max(ipc.open_file(begun).read_all().num_rows for begun in memory.glob("work/units/*/begun-*.arrow"))
    assert 0 < kept < 100
    monkeypatch.setattr(encoder, "encode_image", lambda pixels: (encoded.append(len(pixels)), encode_image(pixels))[1])
    result = build(settings, encoder)
    assert sum(encoded) == 100 - kept
    assert leftovers(memory) == []
    assert result.digest == build(config(photos, place / "whole", unit_rows=100), encoder).digest


def test_X08_the_error_names_the_signal_and_handlers_are_given_back(
    corpus: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, encode_image = signal.getsignal(signal.SIGTERM), encoder.encode_image

    calls = itertools.count()  # its next is one step, whichever lane takes it

    def encode(pixels: torch.Tensor) -> object:
        if next(calls) == 0:  # by the clock, the signal would end the tests where a build is quicker
            os.kill(os.getpid(), signal.SIGTERM)
        return encode_image(pixels)

    monkeypatch.setattr(encoder, "encode_image", encode)
    with pytest.raises(BuildInterrupted) as caught:
        build(config(corpus, tmp_path / "memory"), encoder)
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_build_in_a_thread_leaves_signals_alone(
    tmp_path: Path, encoder: Encoder, write_folder: Callable[..., Path]
) -> None:
    results = []
    small = write_folder(tmp_path / "photos", range(3))
    thread = threading.Thread(target=lambda: results.append(build(config(small, tmp_path / "memory"), encoder)))
    thread.start()
    thread.join()
    assert results[0].added == 3
