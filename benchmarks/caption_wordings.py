"""What wording the captions of a thing in several ways is worth, where they are made of folders' names.

    python -m benchmarks.caption_wordings [--work DIR]

A shop of the demo's world: 140 species that its CLIP cannot name, ten pictures each in a folder of the species' name,
and 1,400 other pictures to test with. For each number of templates a memory is built with `--caption-from-folder`,
three fusions are trained (`--folders`, three seeds) and evaluated with prompts in several words, all by the `reco`
command. Frozen CLIP stands beside each. Takes about six minutes on two cores; writes
benchmarks/results/caption-wordings.json.
"""

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from benchmarks.measured_on import measured_on
from demo.corpus import NEWCOMERS, QUIZ, draw_world
from demo.species import Group, species_of

log = logging.getLogger("caption_wordings")

RESULTS = Path(__file__).parent / "results"
MODEL = Path(__file__).parents[1] / "demo/tiny_clip"
GROUPS: tuple[Group, ...] = ("unseen", "unseen_genera")
PICTURES, SEEDS = 10, (0, 1, 2)
TEMPLATES = ("a photo of a {}.", "the {}")
COUNTS = (1, 2)
PROMPTS = {
    "the first template": ["a photo of a {}."],
    "wildlife photo: {}": ["wildlife photo: {}"],
    "general, seven prompts": None,
    "a picture showing a {} (words its CLIP does not know)": ["a picture showing a {}"],
}


def lay_out(world: Path, shop: Path, test: Path) -> None:
    """Pictures in folders that bear the names: those of the shop, and others to test with."""
    for group in GROUPS:
        for species in species_of(group):
            pictures = sorted((world / NEWCOMERS / group).glob(f"{species.slug}-*.png"))[:PICTURES]
            questions = sorted((world / QUIZ / group).glob(f"{species.slug}-*.png"))
            for folder, chosen in ((shop / species.name, pictures), (test / species.name, questions)):
                folder.mkdir(parents=True)
                for picture in chosen:
                    copy(picture, folder)


def reco(*arguments: object) -> str:
    """What a command prints on standard output."""
    run = "import sys; from reco.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", run, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"reco {arguments[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def measure(work: Path, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Top-1 accuracy in %, mean and spread over the seeds: for each prompt frozen CLIP and each refined side."""
    memory, fusions = work / f"memory-{count}", [work / f"fusion-{count}-{seed}" for seed in SEEDS]
    templates = [word for template in TEMPLATES[:count] for word in ("--caption-from-folder", template)]
    reco("build", work / "shop", "-o", memory, "--model", MODEL, *templates)
    for seed, fusion in zip(SEEDS, fusions, strict=True):
        reco("train", memory, "-o", fusion, "--folders", "--seed", seed)
    found = {}
    for name, prompts in PROMPTS.items():
        chosen: object = "general"
        if prompts is not None:
            chosen = work / "prompts.txt"
            chosen.write_text("\n".join(prompts) + "\n")
        others = [word for fusion in fusions[1:] for word in ("--fusion", fusion)]
        told = reco(
            "eval", memory, fusions[0], work / "test", *others, "--model", MODEL, "--templates", chosen, "--json"
        )
        top = json.loads(told)["tasks"][0]["measures"]["zero_shot"]["top-1"]
        found[name] = {mode: {key: round(top[mode][key], 2) for key in ("mean", "spread")} for mode in ("none", "both")}
        log.info("%d templates, %s: %s", count, name, found[name])
    return found


def main() -> None:
    """Measure, and write what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, help="a folder for the world, which is drawn once; a temporary one by default"
    )
    asked = parser.parse_args()
    with TemporaryDirectory() as temporary:
        world = asked.work or Path(temporary) / "world"
        draw_world(world)
        work = Path(temporary)
        lay_out(world, work / "shop", work / "test")
        measured = {str(count): measure(work, count) for count in COUNTS}
    result = {**measured_on(), "pictures": PICTURES, "seeds": SEEDS, "templates": TEMPLATES, "top1": measured}
    (RESULTS / "caption-wordings.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
