"""The examples against a real service, in an environment that has what they show RECO together with: `make examples`.

RECO_TEST_EXAMPLES names that environment's Python; the notebook runs in ours.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import SPECIES, Reader
from pages import ROOT

from demo.species import Species

EXAMPLES = ROOT / "examples"
PYTHON = os.environ.get("RECO_TEST_EXAMPLES")
pytestmark = [pytest.mark.examples, pytest.mark.timeout(600)]
needs_python = pytest.mark.skipif(PYTHON is None, reason="RECO_TEST_EXAMPLES is not set: `make examples` sets it")


@pytest.fixture(scope="module")
def served(reader: Reader) -> Reader:
    """The quickstart's service."""
    reader.run("bash", "reco build photos/ -o my-memory\nreco train my-memory -o my-fusion --names names.txt")
    reader.serve("reco serve --memory my-memory --fusion my-fusion")
    return reader


def example(served: Reader, name: str, *arguments: str) -> str:
    url = served.here("http://127.0.0.1:8000")
    command = [PYTHON, str(EXAMPLES / name), url, *arguments]
    done = subprocess.run(command, cwd=served.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_python
@pytest.mark.parametrize("name", ["langchain_embeddings.py", "llamaindex_embeddings.py"])
def test_the_openai_classes_serve(served: Reader, name: str) -> None:
    red, grey = example(served, name).strip("[]\n").split()
    assert float(red) > float(grey)  # a red songbird is nearer to a red bird than to a grey duck


@needs_python
def test_a_gallery_that_is_never_embedded_again(served: Reader) -> None:
    """A species' own pictures come sooner when its text is refined, and for no species later."""
    told = example(served, "qdrant_gallery.py", "test-images/", *(f"a photo of a {one.name}" for one in SPECIES))
    plain, refined = ([how_soon(part, one) for one in SPECIES] for part in told.split("refined query, same gallery"))
    assert sum(refined) > sum(plain)
    assert all(with_memory >= without for with_memory, without in zip(refined, plain, strict=True))


def how_soon(told: str, species: Species) -> float:
    """One over the place of the first photo under a species' text that is its own; 0 if none of the five is."""
    listed = told.split(f"a photo of a {species.name}\n", 1)[1].split("a photo of a ", 1)[0]
    own = [f"test-images/{species.slug}/" in line for line in listed.splitlines()]
    return 1 / (own.index(True) + 1) if True in own else 0.0


def test_the_notebook_runs(tmp_path: Path) -> None:
    """Its cells as one script: no kernel is needed, for nothing in them asks for one but the display of pictures."""
    cells = json.loads((EXAMPLES / "photos_to_plots.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    code = code.replace("from IPython.display import Image, display", "Image = display = lambda *_, **__: None")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "both" in done.stdout
    assert (tmp_path / "photos-to-plots" / "fusion" / "evaluation" / "gallery.html").is_file()
