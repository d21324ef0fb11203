"""A shop's catalogue, from a table of two photos a product to a fusion: what is counted, kept, tried again, grouped."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from memory import Memory, read_manifest
from reco.cli import app

BRANDS, COLOURS = ("Ford", "Fiat", "Seat", "Opel"), ("red", "blue", "green")
PRODUCTS = 24
TEMPLATE = "a photo of a {brand} {title}, {colour}."


def picture(path: Path, seed: int) -> None:
    dice = random.Random(seed)
    image = Image.new("RGB", (48, 40), tuple(dice.randrange(256) for _ in range(3)))
    image.paste(tuple(dice.randrange(256) for _ in range(3)), (8, 8, 8 + dice.randrange(4, 30), 30))
    path.parent.mkdir(exist_ok=True)
    image.save(path, "JPEG")


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """24 products: two have no second photo, one has none that is there, one has no colour."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows: list[dict[str, str]] = []
    for number in range(PRODUCTS):
        sides = {side: f"photos/{number}-{side}.jpg" for side in ("front", "back")}
        for place, side in enumerate(sides):
            picture(tmp_path / sides[side], 2 * number + place)
        rows.append(
            {
                "sku": f"A{number:02d}",
                "brand": BRANDS[number % 4],
                "title": f"no. {number}",
                "colour": COLOURS[number % 3],
            }
            | sides
        )
    rows[3]["back"] = rows[4]["front"] = ""
    rows[5]["colour"] = ""
    (tmp_path / "photos/7-back.jpg").unlink()
    return write(tmp_path / "cars.csv", rows)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    path.write_text(file.getvalue())
    return path


def told(command: str, *arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [command, *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def captions(memory: Path) -> dict[str, str]:
    with Memory.open(memory, encoder=read_manifest(memory).encoder) as opened:
        dead = set(opened.deleted_ids().tolist())
        pairs = zip(opened.keys(), opened.captions(), strict=True)
        return {key: caption for id, (key, caption) in enumerate(pairs) if id not in dead}


def test_a_catalogue_from_its_table_to_a_fusion(encoder_dir: Path, catalogue: Path, tmp_path: Path) -> None:
    memory, columns = tmp_path / "memory", ("--image-column", "front", "--image-column", "back", "--key-column", "sku")
    build = (catalogue, "-o", memory, "--model", encoder_dir, "--device", "cpu", *columns, "--unit-rows", 7)
    build = (*build, "--max-error-rate", 0.2)
    made = (*build, "--caption-template", TEMPLATE)

    plan = told("build", *made, "--plan")
    assert (plan["rows"], plan["units"], plan["sources"][0]["rows"]) == (46, 7, 46)
    first = told("build", *made)
    assert (first["rows"], first["num_items"], first["added"]) == (46, 43, 43)
    assert first["rejected"] == {"missing_caption": 2, "missing_image": 1}
    lines = [json.loads(line) for line in (memory / "work/rejected.jsonl").read_text().splitlines()]
    assert [(line["key"], line["source"], line["code"]) for line in lines] == [
        ("cars/A05/front", "cars.csv row 6, front", "missing_caption"),
        ("cars/A05/back", "cars.csv row 6, back", "missing_caption"),
        ("cars/A07/back", "cars.csv row 8, back", "missing_image"),
    ]
    assert captions(memory)["cars/A01/back"] == captions(memory)["cars/A01/front"] == "a photo of a Fiat no. 1, blue."
    assert "cars/A04/back" in captions(memory)
    assert "cars/A04/front" not in captions(memory)

    again = told("build", *made)
    assert (again["digest"], again["created"], again["present"]) == (first["digest"], False, 43)
    picture(tmp_path / "photos/7-back.jpg", 15)  # comes later
    grown = told("build", *made, "--retry-failed")
    assert (grown["added"], grown["num_items"], grown["rejected"]) == (1, 44, {"missing_caption": 2})

    other = told("build", *build, "--caption-template", "{title} by {brand}", "--upsert")
    assert (other["replaced"], other["added"], other["num_items"]) == (44, 46, 46)
    assert captions(memory)["cars/A05/front"] == "no. 5 by Fiat"

    result = CliRunner().invoke(
        app, ["train", str(memory), "-o", str(tmp_path / "fusion"), "--folders", "--design", "evidence"]
    )
    assert result.exit_code == 0, result.output
    seen = " ".join((result.stdout + result.stderr).split())
    assert "22 entities, 44 of 46 pairs show one: pairs are grouped by folder" in seen  # two have one photo


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ("--caption-template", "a {make}"),
            "no column 'make', which --caption-template names. Its columns: sku, brand",
        ),
        (("--caption-template", "a {brand.upper}"), "no attributes, conversions or formats"),
        (("--caption-template", "a {brand"), "has no partner"),
        (("--caption-template", "a {brand}", "--caption-column", "title"), "does without it"),
        (("--image-column", "front", "--image-column", "side"), "no column 'side'"),
    ],
)
@pytest.mark.parametrize("command", [("build", "--max-error-rate", "1"), ("train", "--train-encoder")])
def test_what_cannot_be_meant_is_refused_before_an_encoder_is_opened(
    catalogue: Path, tmp_path: Path, command: tuple[str, ...], options: tuple[str, ...], expected: str
) -> None:
    named = [*command, str(catalogue), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "no-model"), *options]
    named += [] if "--image-column" in options else ["--image-column", "front"]
    result = CliRunner().invoke(app, named)
    assert result.exit_code
    assert expected in " ".join(f"{result.stderr} {result.exception}".split())
    assert not (tmp_path / "out").exists()


def test_a_template_for_what_has_no_columns_is_refused(catalogue: Path, tmp_path: Path) -> None:
    arguments = [str(catalogue), str(tmp_path / "photos"), "-o", str(tmp_path / "memory"), "--model", "no-model"]
    template = ["--image-column", "front", "--caption-template", "a {brand}"]
    result = CliRunner().invoke(app, ["build", *arguments, *template])
    assert "photos has no columns" in f"{result.exception}"
    arrays = ["--embeddings", str(tmp_path / "no.npz"), "-o", str(tmp_path / "memory"), "--encoder-name", "some-clip"]
    result = CliRunner().invoke(app, ["build", *arrays, "--caption-template", "a {brand}"])
    assert result.exit_code == 2
    assert "were encoded before" in " ".join(result.stderr.split())
