"""A dozen pictures of the quiz for the service's page, each with the names of its relatives to choose from.

Which species is decided by counting and not by outcome, but for the first, the README's example: what stays wrong is
shown as well.
"""

import json
from pathlib import Path

from demo.captions import PROMPTS
from demo.corpus import QUIZ
from demo.quiz import quiz_question
from demo.species import Group, Species, species_of
from memory.format.durable import write_bytes

SAMPLES = "samples"
_COUNTS: dict[Group, int] = {"unseen": 5, "unseen_genera": 2, "known": 4}
_NOTES = {
    "known": "CLIP was trained on this species.",
    "unseen": "CLIP never met this species; the memory holds 20 pictures of it.",
    "unseen_genera": "Not even the name's last word is known to CLIP; the memory holds 20 pictures of it.",
}


def write_samples(directory: Path) -> Path:
    """Copy the pictures from the quiz in `directory` to a folder of their own, and list them; the folder's path."""
    folder = directory / SAMPLES
    folder.mkdir(parents=True, exist_ok=True)
    example, name, _ = quiz_question(directory)
    first = next(one for one in species_of("unseen") if one.name == name)
    chosen = [(first, example)]
    for group, count in _COUNTS.items():
        species = [one for one in species_of(group) if one.genus != first.genus]
        chosen += [
            (one, directory / QUIZ / group / f"{one.slug}-000.png") for one in species[:: len(species) // count][:count]
        ]
    listed = []
    for one, picture in chosen:
        write_bytes(folder / picture.name, picture.read_bytes(), replace=True)
        listed.append(_entry(one, picture.name))
    text = json.dumps({"samples": listed}, indent=1, ensure_ascii=False) + "\n"
    write_bytes(folder / "samples.json", text.encode(), replace=True)
    return folder


def _entry(species: Species, file: str) -> dict[str, object]:
    relatives = [one.name for one in species_of("known", "unseen", "unseen_genera") if one.genus == species.genus]
    return {
        "file": file,
        "title": species.name,
        "note": _NOTES[species.group],
        "answer": species.name,
        "labels": relatives,
        "templates": PROMPTS,
    }
