"""The plot of what was measured of an index of lists: drawn from the memory's own report, wherever it is wanted."""

from pathlib import Path

import numpy as np
import pytest
from seeded_rows import unit_rows
from typer.testing import CliRunner, Result

from memory import IndexOptions
from memory_builder import BuildConfig, Origin, build_from_embeddings, open_embeddings
from reco.cli import app


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("indexed")
    np.savez(root / "set.npz", image=unit_rows(2000, 16, 1), text=unit_rows(2000, 16, 2))
    config = BuildConfig((str(root / "set.npz"),), root / "memory", index=IndexOptions(factory="IVF8,SQ8"))
    readers = open_embeddings(config)
    build_from_embeddings(config, readers, Origin.undeclared("some-clip", 16))
    return root / "memory"


def plot(memory: Path, path: object) -> Result:
    return CliRunner().invoke(app, ["memory", "info", str(memory), "--plot", str(path)])


def test_it_is_drawn_as_png_and_svg_in_a_folder_that_is_made(indexed: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = plot(indexed, tmp_path / "not there" / "recall.png")
    assert done.exit_code == 0, done.output
    assert sorted(one.name for one in (tmp_path / "not there").iterdir()) == ["recall.png", "recall.svg"]
    refused = plot(indexed, "/proc/plots/recall.png")
    assert refused.exit_code == 1
    assert getattr(refused.exception, "code", "") == "output_refused"
