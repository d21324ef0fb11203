"""A catalogue of article codes, which no encoder can read: does its memory tell the products apart?

    python -m benchmarks.catalogue_codes [--work DIR]

A shop of the demo's birds: each product has looks of its own and a code for a name (`kx-4812`), and each picture a
caption that has the code and says something of what is seen. 300 of the products are asked for, three other pictures
each. For catalogues of two sizes and 4, 2 and 1 pictures a product the memory is built, the fusion trained on the
codes of products that are not asked for, and both evaluated, all by the `reco` command. Frozen CLIP stands beside, and
so do the label of the nearest picture and of the nearest mean, told every code, and the same catalogue with its
captions mixed up. Takes about twelve minutes on two cores, five of which draw; writes
benchmarks/results/catalogue-codes.json.
"""

import argparse
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.caption_wordings import MODEL, RESULTS, reco
from benchmarks.measured_on import measured_on
from demo.captions import CaptionKind, caption
from demo.drawing import draw, rasterise, scene_of
from demo.quiz import embed_pictures
from demo.randomness import Dice
from demo.species import nameless_bird
from memory import Memory
from models.encoder import Encoder

log = logging.getLogger("catalogue_codes")

SIZES, ASKED, QUESTIONS, PICTURES = (1000, 5000), 300, 3, (4, 2, 1)
PIXELS = 64  # what the demo's CLIP sees
PROMPTS = ("a photo of a {}", "{}", "a {}")
_LETTERS = "abcdefghjkmnpqrstuvwxyz"


def codes(count: int) -> list[str]:
    """So many codes, each once."""
    found, place = dict[str, None](), 0
    while len(found) < count:
        dice = Dice("code", place)
        found[f"{dice.choice(_LETTERS)}{dice.choice(_LETTERS)}-{dice.integer(1000, 9999)}"] = None
        place += 1
    return list(found)


def take_pictures(world: Path, product: int, code: str) -> None:
    """The pictures of a product, with captions, and of one that is asked for the questions."""
    looks = nameless_bird("product", product)
    for number in range(max(PICTURES)):
        key = f"catalogue/{product}-{number}"
        scene = scene_of(looks, key)
        kind: CaptionKind = "both" if Dice("kind", key).chance(0.4) else "name"
        stem = world / "catalogue" / f"{code}-{number}"
        stem.with_suffix(".png").write_bytes(rasterise(draw(looks, scene, PIXELS), PIXELS))
        stem.with_suffix(".txt").write_text(caption(kind, code, looks, scene, key) + "\n")
    if product < ASKED:
        (world / "questions" / code).mkdir(parents=True)
        for number in range(QUESTIONS):
            scene = scene_of(looks, f"questions/{product}-{number}")
            picture = world / "questions" / code / f"{number}.png"
            picture.write_bytes(rasterise(draw(looks, scene, PIXELS), PIXELS))


def draw_catalogue(world: Path, names: Sequence[str]) -> None:
    """Draw what is asked and what is in the largest catalogue, unless it is there."""
    if (world / "drawn").exists():
        return
    (world / "catalogue").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(take_pictures, world), range(len(names)), names, chunksize=50))
    (world / "drawn").touch()


def lay_out(world: Path, shop: Path, names: Sequence[str], pictures: int, *, mixed_up: bool = False) -> None:
    """A folder of some products' pictures, each with its caption or, mixed up, with another's."""
    shop.mkdir()
    stems = [f"{name}-{number}" for name in names for number in range(pictures)]
    captions = [(world / "catalogue" / f"{stem}.txt").read_text() for stem in stems]
    places = np.random.default_rng(0).permutation(len(stems)) if mixed_up else range(len(stems))
    for stem, place in zip(stems, places, strict=True):
        (shop / f"{stem}.png").hardlink_to(world / "catalogue" / f"{stem}.png")
        (shop / f"{stem}.txt").write_text(captions[place])


def told_every_code(memory: Path, world: Path, names: Sequence[str], pictures: int) -> dict[str, float]:
    """Top-1 in % of the nearest picture's label and of the nearest mean's, among the products that are asked for."""
    opened, encoder = Memory.open(memory), Encoder.open(str(MODEL))
    asked = {name: place for place, name in enumerate(names[:ASKED])}
    keys = opened.keys()
    owners = np.array([asked.get(Path(key).stem.rsplit("-", 1)[0], -1) for key in keys])
    rows = opened.rows("image")[owners >= 0]
    order = np.argsort(owners[owners >= 0], kind="stable")
    rows = rows[order].reshape(ASKED, pictures, -1)
    means = rows.mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    asks = [world / "questions" / name / f"{number}.png" for name in asked for number in range(QUESTIONS)]
    queries, right = embed_pictures(asks, encoder), np.repeat(np.arange(ASKED), QUESTIONS)
    nearest = (queries @ rows.reshape(ASKED * pictures, -1).T).argmax(axis=1) // pictures
    found = {"nearest picture": nearest, "nearest mean": (queries @ means.T).argmax(axis=1)}
    return {name: round(100 * float((labels == right).mean()), 2) for name, labels in found.items()}


def measure(work: Path, world: Path, names: Sequence[str], pictures: int, *, mixed_up: bool) -> dict[str, object]:
    """Build, train and ask."""
    shop, memory, fusion = work / "shop", work / "memory", work / "fusion"
    lay_out(world, shop, names, pictures, mixed_up=mixed_up)
    reco("build", shop, "-o", memory, "--model", MODEL)
    (work / "names.txt").write_text("\n".join(names[ASKED:]) + "\n")
    (work / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    reco("train", memory, "-o", fusion, "--names", work / "names.txt")
    started = time.perf_counter()
    asked = (memory, fusion, world / "questions", "--model", MODEL, "--templates", work / "prompts.txt", "--json")
    top = json.loads(reco("eval", *asked))["tasks"][0]["measures"]["zero_shot"]["top-1"]
    found: dict[str, object] = {
        "products": len(names),
        "pictures of each": pictures,
        "captions": "mixed up" if mixed_up else "as they are",
        "frozen": round(top["none"]["mean"], 2),
        "refined": round(top["both"]["mean"], 2),
        **told_every_code(memory, world, names, pictures),
        "eval_s": round(time.perf_counter() - started, 1),
    }
    log.info("%s", found)
    return found


def main() -> None:
    """Measure, and write what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, help="a folder for the pictures, which are drawn once; else a temporary one"
    )
    asked, names = parser.parse_args(), codes(max(SIZES))
    with TemporaryDirectory(dir=None if asked.work is None else asked.work.parent) as temporary:
        world = asked.work or Path(temporary) / "world"
        draw_catalogue(world, names)
        rows = []
        for count in SIZES:
            for pictures in PICTURES:
                for mixed_up in (False, True) if count == min(SIZES) else (False,):
                    with TemporaryDirectory(dir=temporary) as work:
                        rows.append(measure(Path(work), world, names[:count], pictures, mixed_up=mixed_up))
    (RESULTS / "catalogue-codes.json").write_text(json.dumps({**measured_on(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
