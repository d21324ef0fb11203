"""Engines do units in any order, on any number of workers; the memory is the plan's."""

import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from memory import Memory
from memory_builder import BuildConfig, CorpusError, EngineError, build
from memory_builder.encoding.mapper import Checkpoint
from memory_builder.engines import Job, LocalEngine
from memory_builder.engines.code_identity import code_identity
from memory_builder.engines.ray import connected
from memory_builder.known_keys import KnownKeys
from memory_builder.planning.plan import Unit
from models.encoder import Encoder
from reco.cli import app


class Backwards:
    """An engine whose workers finish in the least convenient order: the last unit first."""

    def finish(self, units: Sequence[Unit], job: Job, checkpoint: Checkpoint) -> Generator[str, None, None]:
        yield from LocalEngine().finish(units[::-1], job, checkpoint)


@pytest.fixture
def corpora(tmp_path: Path, write_folder: Callable[..., Path]) -> tuple[str, ...]:
    """A folder with rows that are rejected, and a table whose every image is named in two units."""
    photos = write_folder(tmp_path / "photos", range(45))
    (photos / "001/00012.jpg").write_bytes(b"no image")
    rows = [{"path": f"photos/000/{n % 10:05d}.jpg", "caption": f"number {n}"} for n in range(20)]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(photos), str(tmp_path / "table.jsonl")


def config(corpora: tuple[str, ...], memory: Path) -> BuildConfig:
    return BuildConfig(corpora, memory, unit_rows=10, batch_size=8, max_error_rate=1)


def test_the_memory_does_not_depend_on_the_order_in_which_units_finish(
    corpora: tuple[str, ...], tmp_path: Path, encoder: Encoder
) -> None:
    expected = build(config(corpora, tmp_path / "forwards"), encoder)
    found = build(config(corpora, tmp_path / "backwards"), encoder, engine=Backwards())
    assert found == expected
    assert expected.rejected == {"image_format_unsupported": 1, "duplicate_key": 10}
    ledgers = [(tmp_path / name / "work/rejected.jsonl").read_text() for name in ("forwards", "backwards")]
    assert ledgers[0] == ledgers[1]
    with Memory.open(tmp_path / "backwards") as memory:
        assert memory.captions()[-10:] == [f"number {n}" for n in range(10)], "the first of a key is kept"


def test_units_of_a_broken_build_serve_whatever_their_order(
    corpora: tuple[str, ...], tmp_path: Path, encoder: Encoder
) -> None:
    expected = build(config(corpora, tmp_path / "whole"), encoder)
    settings = config(corpora, tmp_path / "memory")

    class Failing(Backwards):
        """Dies when half of the units are done."""

        def finish(self, units: Sequence[Unit], job: Job, checkpoint: Checkpoint) -> Generator[str, None, None]:
            yield from super().finish(units[len(units) // 2 :], job, checkpoint)
            raise CorpusError("source_unreadable", "the disk is gone")

    with pytest.raises(CorpusError):
        build(settings, encoder, engine=Failing())
    result = build(settings, encoder)
    assert (result.units_resumed, result.units_encoded) == (4, 3)
    assert result.digest == expected.digest
    again = build(settings, encoder)
    assert (again.created, again.present, again.rejected_earlier) == (False, 54, 11)


def test_a_later_unit_that_is_done_first_is_waited_beside_not_spun_upon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    units: Any = [SimpleNamespace(id="slow", seconds=0.5), SimpleNamespace(id="quick", seconds=0.0)]
    monkeypatch.setattr("memory_builder.engines.local._Leader.lead", lambda self, unit: time.sleep(unit.seconds))
    mapper: Any = nullcontext(SimpleNamespace(units_at_once=2))
    known = KnownKeys({}, removed=frozenset(), upsert=False)
    done = list(LocalEngine().finish(units, Job(tmp_path, known, mapper), lambda rows, rejected: told.append(rows)))
    assert done == ["slow", "quick"]
    assert len(told) < 20, "the building thread looked about five times, and left the interpreter to the lanes between"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--engine", "spark"), "it is one of local, ray"),
        (("--ray-address", "auto"), "--ray-address is for --engine ray"),
        (("--engine", "ray", "--plan"), "leave --plan, --worker and --embeddings out"),
        (("--engine", "ray", "--worker", "0/2"), "leave --plan, --worker and --embeddings out"),
    ],
)
def test_an_engine_that_cannot_be_meant_is_a_wrong_command(
    corpora: tuple[str, ...], tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(app, ["build", *corpora, "-o", str(tmp_path / "memory"), *options])
    assert done.exit_code == 2
    assert told in done.output
    assert not (tmp_path / "memory").exists()


def test_ray_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"engine_missing: .* pip install 'reco-clip\[ray\]'"), connected(None):
        pass


def test_another_line_of_code_is_another_reco(tmp_path: Path) -> None:
    """The identity that machines compare, of a tree of our own."""

    def identity() -> str:
        spec = importlib.util.spec_from_file_location("copied", tmp_path / "memory_builder/engines/code_identity.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return str(module.code_identity())

    (tmp_path / "memory_builder/engines").mkdir(parents=True)
    shutil.copy(code_identity.__code__.co_filename, tmp_path / "memory_builder/engines")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/towers.py").write_text("x = 1\n")
    first = identity()
    assert identity() == first
    (tmp_path / "models/towers.py").write_text("x = 2\n")
    assert identity() != first
    (tmp_path / "models/towers.py").write_text("x = 1\n")
    (tmp_path / "unrelated.py").write_text("y = 1\n")
    assert identity() == first
    assert code_identity().startswith("0.")
