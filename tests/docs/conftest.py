"""A folder as the reader of the quickstart has it: photos with captions, test images, names, foreign embeddings."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from served_process import free_port, wait_until_ready

from demo.clip import tiny_clip_directory
from demo.shots import species_shot
from demo.species import species_of
from models.encoder import Encoder

SPECIES = species_of("unseen")[:8]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Reader"]:
    """Somebody who follows a page in a folder of their own."""
    someone = Reader(tmp_path_factory.mktemp("reader"))
    yield someone
    someone.stop()


class Reader:
    """Runs blocks one after the other, in one folder, with the demo's encoder as the model that was named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        own = {"RECO_MODEL": str(tiny_clip_directory()), "RECO_PORT": str(self.port), "RECO_THREADS": "1"}
        self.environment = kept | {"PATH": binaries, "XDG_CACHE_HOME": str(folder / "cache")} | own
        self._serving: subprocess.Popen[bytes] | None = None
        write_photos(folder)

    def run(self, language: str, code: str) -> None:
        """Run a block; its standard error is the test's failure."""
        program = [sys.executable, "-"] if language == "python" else ["bash", "-euo", "pipefail"]
        # RECO_THREADS and RECO_PORT are the service's: other commands have no such variables to refuse.
        done = subprocess.run(
            program,
            input=self.here(code),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"

    def serve(self, code: str) -> None:
        """Run a block in the background until it is ready."""
        self._serving = subprocess.Popen(
            ["bash", "-c", f"exec env {self.here(code)}"],
            cwd=self.folder,
            env=self.environment,
        )
        wait_until_ready(f"http://127.0.0.1:{self.port}", self._serving)

    def here(self, code: str) -> str:
        """The code with this service's address."""
        return code.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")

    def stop(self) -> None:
        """End the service, if one runs."""
        if self._serving is not None:
            self._serving.terminate()
            self._serving.wait(30)


def write_photos(folder: Path) -> None:
    """photos/, test-images/, new-photos/, names.txt, photo.jpg and clip-retrieval-output/."""
    for species in SPECIES:
        for part, numbers in {"photos": range(6), "test-images": range(6, 9), "new-photos": range(9, 10)}.items():
            place = folder / part / species.slug
            place.mkdir(parents=True)
            for number in numbers:
                (place / f"{number:03d}.png").write_bytes(species_shot(species, "docs", number).png())
                if part != "test-images":
                    (place / f"{number:03d}.txt").write_text(f"a photo of a {species.name}\n")
    (folder / "names.txt").write_text("".join(f"{species.name}\n" for species in SPECIES))
    (folder / "photo.jpg").write_bytes(species_shot(SPECIES[0], "docs", 99).png())
    write_embeddings(folder / "clip-retrieval-output")


def write_embeddings(folder: Path) -> None:
    """What clip-retrieval would have left, made by the demo's encoder."""
    encoder = Encoder.open(str(tiny_clip_directory()), device="cpu", dtype="float32")
    captions = [f"a photo of a {species.name}" for species in SPECIES]
    texts = encoder.encode_text(encoder.tokenize(captions).ids)
    for name, rows in (("img_emb", texts[::-1]), ("text_emb", texts)):
        (folder / name).mkdir(parents=True)
        np.save(folder / name / f"{name}_0.npy", np.ascontiguousarray(rows).astype(np.float16))
    (folder / "metadata").mkdir()
    table = pa.table({"caption": captions, "image_path": [f"{species.slug}.jpg" for species in SPECIES]})
    pq.write_table(table, folder / "metadata" / "metadata_0.parquet")
