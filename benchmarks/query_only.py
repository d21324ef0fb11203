"""What a refined query finds in a gallery that nobody refined: the difference to plain CLIP, with its interval.

    python -m benchmarks.query_only --pairs pairs.npz --names articles.txt    an .npz with image, text and caption
    python -m benchmarks.query_only --demo reco-demo                          a finished `reco demo`

The commands of a user, run one after the other. Of the pairs a random part (numpy's `default_rng(0)` permutation, the
first 60 %) is the memory and what the fusion is trained on; the others look for each other. In the demo the quiz'
pictures and captions, which are in no memory, look for each other, among each group of species and among all; the
fusion and the memory are the demo's own. Two minutes on a core. Writes benchmarks/results/query-only.json, and keeps
what the other call has written.
"""

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measured_on import measured_on
from demo.clip import tiny_clip_directory
from demo.corpus import QUIZ, quiz_shots
from demo.measure import COLUMNS
from demo.quiz import embed_pictures
from models.encoder import Encoder

log = logging.getLogger("query_only")

RESULTS = Path(__file__).parent / "results" / "query-only.json"
SEED, MEMORY_SHARE = 0, 0.6
DIRECTIONS = {"text_to_image": "text", "image_to_text": "image"}  # and the side that asks
_BATCH = 128


def reco(*arguments: object) -> str:
    """Run a command: its standard output. What it says goes to standard error."""
    command = [sys.executable, "-m", "reco.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def query_only(memory: Path, fusion: Path, task: Path) -> dict[str, Any]:
    """R@1 of the frozen encoder and of refined queries, in both directions."""
    measures = json.loads(reco("eval", memory, fusion, task, "--query-only", "--json"))["tasks"][0]["measures"]
    found = {}
    for direction, side in DIRECTIONS.items():
        at = measures[direction]["R@1"]
        gain, interval = at[side]["gain"], at[side]["interval"]
        found[direction] = {
            "frozen": round(at["none"]["mean"], 2),
            "refined": round(at[side]["mean"], 2),
            "gain": round(gain, 2),
            "interval": [round(bound, 2) for bound in interval],
        }
    return found


def of_pairs(path: Path, names: Path | None, work: Path) -> dict[str, Any]:
    """Build, train and evaluate on a split of cached pairs: by fusion."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("image", "text", "caption")}
    order = np.random.default_rng(SEED).permutation(len(arrays["image"]))
    count = round(MEMORY_SHARE * len(order))
    for name, rows in (("memory", order[:count]), ("test", order[count:])):
        np.savez(work / f"{name}.npz", **{key: array[rows] for key, array in arrays.items()})  # type: ignore[arg-type]
    memory = work / "memory"
    reco("build", "--embeddings", work / "memory.npz", "-o", memory, "--encoder-name", "of-the-pairs")
    runs: dict[str, list[object]] = {
        "reco train": [],
        "reco train --design gate": ["--design", "gate"],
        "reco train --design copy": ["--design", "copy"],
    }
    if names is not None:
        runs["reco train --design evidence --names"] = ["--design", "evidence", "--names", names]
    found: dict[str, Any] = {"memory": count, "queries": len(order) - count, "runs": {}}
    for number, (name, options) in enumerate(runs.items()):
        fusion = work / f"fusion-{number}"
        reco("train", memory, "-o", fusion, "--device", "cpu", *options)
        trained = json.loads((fusion / "config.json").read_text(encoding="utf-8"))
        design = {"design": trained["fusion"]["design"], "learning_rate": trained["trained"].get("learning_rate")}
        found["runs"][name] = {**design, **query_only(memory, fusion, work / "test.npz")}
    return found


def of_demo(directory: Path, work: Path) -> dict[str, Any]:
    """The quiz' pictures and captions of each group, and of all: by group."""
    encoder = Encoder.open(str(tiny_clip_directory()))
    fusion = directory / "fusion-0"
    found = {}
    for column, groups in COLUMNS.items():
        shots = [(group, shot) for group in groups for shot in quiz_shots(group)]
        captions = [shot.caption for _, shot in shots]
        pictures = [(directory / QUIZ / group / Path(shot.key).name).with_suffix(".png") for group, shot in shots]
        texts = [
            encoder.encode_text(encoder.tokenize(captions[start : start + _BATCH]).ids)
            for start in range(0, len(captions), _BATCH)
        ]
        task = work / f"{column.replace(' ', '-')}.npz"
        arrays = {"image": embed_pictures(pictures, encoder), "text": np.concatenate(texts), "caption": captions}
        np.savez(task, **arrays)  # type: ignore[arg-type]
        found[column] = {"queries": len(captions), **query_only(directory / "memory", fusion, task)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="an .npz of cached pairs")
    parser.add_argument("--names", type=Path, help="names of what the pairs show, one a line: one fusion more")
    parser.add_argument("--demo", type=Path, help="a folder that `reco demo` has finished")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if options.pairs is None and options.demo is None:
        parser.error("name --pairs, --demo or both")
    told = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    told |= {**measured_on(), "split": {"seed": SEED, "memory_share": MEMORY_SHARE}}
    with TemporaryDirectory() as folder:
        if options.pairs is not None:
            told["pairs"] = of_pairs(options.pairs, options.names, Path(folder))
        if options.demo is not None:
            told["demo"] = of_demo(options.demo, Path(folder))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    log.info("%s", json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
