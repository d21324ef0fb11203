"""The Ray engine on real Rays: one machine, three simulated ones, and what is lost of them: `make ray`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memory import Memory, read_manifest
from memory.format.work_files import BUILD_LOG
from memory_builder import BuildConfig, CorpusError, EngineError, build
from models.encoder import Encoder
from models.errors import EncoderError

ray = pytest.importorskip("ray", reason="ray is not installed: make ray")
from ray.cluster_utils import Cluster  # noqa: E402

from memory_builder.engines.ray import EncoderSource, RayEngine, connected  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

PAIRS = 400
UNIT_ROWS = 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, write_shard: Callable[..., Path]) -> Path:
    """A tar, with an image that is rejected."""
    return write_shard(tmp_path_factory.mktemp("corpus") / "pairs.tar", range(PAIRS))


@pytest.fixture(scope="module")
def expected(corpus: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the local engine's memory."""
    return build(settings(corpus, tmp_path_factory.mktemp("local") / "memory"), encoder).digest


def settings(corpus: Path, memory: Path, **changes: Any) -> BuildConfig:
    return BuildConfig((str(corpus),), memory, unit_rows=UNIT_ROWS, batch_size=8, workers=1, **changes)


def engine(config: BuildConfig, encoder: Encoder, directory: Path, **changes: Any) -> RayEngine:
    source = EncoderSource(str(directory), None, "cpu", "float32")
    return RayEngine(config, source, encoder.fingerprint.record(), **changes)


class Neighbour:
    """Other work on the cluster."""

    def there(self) -> None: ...


def occupy(cores: int) -> Any:
    other = ray.remote(Neighbour).options(num_cpus=cores).remote()
    ray.get(other.there.remote())
    return other


@contextmanager
def cluster(nodes: int, cores: int = 1) -> Iterator[tuple[Cluster, list[Any]]]:
    """Machines of one core each beside a head that has none, all on this one."""
    together = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        machines = [together.add_node(num_cpus=cores) for _ in range(nodes)]
        with connected(together.address):
            yield together, machines
    finally:
        together.shutdown()


def finished(memory: Path) -> list[str]:
    """Ids of the units in the order in which they were finished."""
    log = memory / BUILD_LOG
    return [json.loads(line)["unit"] for line in log.read_text().splitlines()] if log.exists() else []


def family(pid: int) -> list[int]:
    """A process, and all that come from it."""
    threads = Path(f"/proc/{pid}/task").glob("*")
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return [pid, *(one for child in children for one in family(child))]


class At:
    """Does something once, when so many units are finished; as the progress of a build."""

    def __init__(self, memory: Path, units: int, act: Callable[[], object]) -> None:
        self._memory, self._units, self._act = memory, units, act
        self.acted = False
        self.rows = self.rejected = 0

    def stage(self, name: str) -> None: ...

    def start(self, total_rows: int) -> None: ...

    def kept(self, units: int, rows: int, images: int) -> None: ...

    def advance(self, rows: int, rejected: int) -> None:
        self.rows, self.rejected = self.rows + rows, self.rejected + rejected
        if not self.acted and len(finished(self._memory)) >= self._units:
            self.acted = True
            self._act()

    def lanes(self, seconds: Any) -> None: ...

    def done(self) -> None: ...


def check_whole(memory: Path, expected: str) -> None:
    """The memory is the local engine's, and each unit is in it once."""
    manifest = read_manifest(memory)
    units = [unit.id for segment in manifest.segments for unit in segment.units]
    assert manifest.digest == expected
    assert len(units) == len(set(units)) == PAIRS / UNIT_ROWS
    with Memory.open(memory) as opened:
        assert opened.num_items == PAIRS


def test_a_lost_machine_costs_nothing_and_a_new_one_is_given_work(
    corpus: Path, expected: str, encoder: Encoder, encoder_dir: Path, tmp_path: Path
) -> None:
    config = settings(corpus, tmp_path / "memory")
    with cluster(3) as (together, machines):

        def lose_one() -> None:
            together.remove_node(machines[1], allow_graceful=False)
            together.add_node(num_cpus=1)

        watch = At(config.memory, PAIRS // UNIT_ROWS // 3, lose_one)
        result = build(config, encoder, watch, engine=engine(config, encoder, encoder_dir))
    assert watch.acted
    assert (watch.rows, watch.rejected) == (PAIRS, 0), "no row is counted twice"
    assert result.digest == expected
    check_whole(config.memory, expected)


def test_a_killed_worker_costs_its_units_only_one_more_try(
    corpus: Path, expected: str, encoder: Encoder, encoder_dir: Path, tmp_path: Path
) -> None:
    config = settings(corpus, tmp_path / "memory")

    def kill_a_worker() -> None:
        workers = [pid for pid in family(os.getpid()) if b"UnitWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(workers[0], signal.SIGKILL)

    with connected(None, cpus=1):
        watch = At(config.memory, 3, kill_a_worker)
        result = build(config, encoder, watch, engine=engine(config, encoder, encoder_dir))
    assert watch.acted
    check_whole(config.memory, expected)
    assert result.units_encoded == PAIRS / UNIT_ROWS


def test_a_killed_command_goes_on_where_it_was(corpus: Path, expected: str, encoder_dir: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    program = Path(sys.executable).with_name("reco")
    command = [program, "build", corpus, "-o", "memory", "--model", encoder_dir]  # `memory` is a room of ours, too
    command += ["--engine", "ray", "--workers", "1", "--unit-rows", str(UNIT_ROWS), "--batch-size", "8"]
    command += ["--dtype", "float32", "--device", "cpu"]
    with (tmp_path / "log").open("wb") as log:
        broken = subprocess.Popen(command, cwd=tmp_path, stderr=log, start_new_session=True)
    end = time.monotonic() + 120
    while len(finished(memory)) < 3:
        assert broken.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < end, (tmp_path / "log").read_text()
        time.sleep(0.1)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    done = set(finished(memory))
    again = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    check_whole(memory, expected)
    assert not done.intersection(finished(memory)[len(done) :]), "what was finished is not done again"


def test_what_stops_a_unit_stops_the_build_as_it_would_here(
    corpus: Path, encoder: Encoder, encoder_dir: Path, tmp_path: Path, write_shard: Callable[..., Path]
) -> None:
    changing = write_shard(tmp_path / "pairs.tar", range(PAIRS))
    config = settings(changing, tmp_path / "memory")
    with connected(None, cpus=1):
        watch = At(config.memory, 1, lambda: write_shard(changing, range(PAIRS + 1)))
        with pytest.raises(CorpusError) as refused:
            build(config, encoder, watch, engine=engine(config, encoder, encoder_dir))
        assert refused.value.code == "source_changed"
        elsewhere = settings(corpus, tmp_path / "other")
        with pytest.raises(EncoderError, match="config_missing"):
            build(elsewhere, encoder, engine=engine(elsewhere, encoder, tmp_path))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"])
def test_where_no_ray_answers_is_told_at_once(address: str) -> None:
    with pytest.raises(EngineError, match="engine_unreachable"), connected(address):
        pass


def test_a_cluster_without_a_core_to_offer_is_told(
    encoder: Encoder, encoder_dir: Path, corpus: Path, tmp_path: Path
) -> None:
    config = settings(corpus, tmp_path / "memory")
    with cluster(0), pytest.raises(EngineError, match="engine_empty"):
        build(config, encoder, engine=engine(config, encoder, encoder_dir))


def test_a_worker_that_sees_another_folder_is_refused(tmp_path: Path, encoder_dir: Path) -> None:
    from memory_builder.engines.ray.worker import Assignment, UnitWorker
    from memory_builder.known_keys import KnownKeys

    config = BuildConfig(("corpus",), tmp_path / "memory")
    source = EncoderSource(str(encoder_dir), None, "cpu", "float32")
    before = Path.cwd()
    try:
        with pytest.raises(EngineError, match="engine_paths"):
            UnitWorker().open(Assignment(config, source, KnownKeys({}), (), str(tmp_path), ".tmp-1-0"))
    finally:
        os.chdir(before)


def test_a_machine_that_others_use_too_gives_what_they_leave(
    corpus: Path, expected: str, encoder: Encoder, encoder_dir: Path, tmp_path: Path
) -> None:
    config = replace(settings(corpus, tmp_path / "memory"), workers=0)
    with cluster(1, cores=2):
        other = occupy(1)
        build(config, encoder, engine=engine(config, encoder, encoder_dir))
        ray.get(other.there.remote())
    check_whole(config.memory, expected)


def test_a_cluster_that_others_fill_is_told_and_waited_for(
    corpus: Path, expected: str, encoder: Encoder, encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memory_builder.engines.ray import recruiting

    monkeypatch.setattr(recruiting, "_TELL_S", 2.0)
    config = settings(corpus, tmp_path / "memory")
    with cluster(1):
        other, told = occupy(1), list[str]()

        def say(sentence: str) -> None:
            told.append(sentence)
            ray.kill(other)

        build(config, encoder, engine=engine(config, encoder, encoder_dir, say=say))
        assert len(told) == 1
        assert "other work" in told[0]
        check_whole(config.memory, expected)

        monkeypatch.setattr(recruiting, "_GIVE_UP_S", 4.0)
        other = occupy(1)
        again = settings(corpus, tmp_path / "again")
        with pytest.raises(EngineError, match=r"engine_empty.*other work"):
            build(again, encoder, engine=engine(again, encoder, encoder_dir))


def test_a_machine_with_another_reco_is_refused(
    encoder: Encoder, encoder_dir: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memory_builder.engines.ray import crew

    monkeypatch.setattr(crew, "code_identity", lambda: "0.1.0, code 000000000000")
    config = settings(corpus, tmp_path / "memory")
    with cluster(1), pytest.raises(EngineError, match=r"has RECO .*, code [0-9a-f]{12}, and this command is RECO"):
        build(config, encoder, engine=engine(config, encoder, encoder_dir))
    assert finished(config.memory) == []
