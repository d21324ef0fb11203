"""No dead link, no command that does not exist, no code that cannot be parsed, no figure that nobody measured."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from pages import PAGES, ROOT, Block, anchors, blocks, links

from benchmarks.ablation_tables import PAGE as ABLATIONS
from benchmarks.ablation_tables import renewed

BLOCKS = [block for page in PAGES for block in blocks(page)]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_dead_link(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            dead.append(target)
    assert not dead


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    named = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    missing = {page.name for page in (ROOT / "docs").glob("*.md")} - {path.name for path in named} - {"index.md"}
    assert not missing
    assert "docs/index.md" in links(ROOT / "README.md")


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language], ids=str)
def test_every_block_can_be_parsed(block: Block) -> None:
    if block.language == "python":
        ast.parse(block.code)
    elif block.language == "bash":
        done = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif block.language == "json":
        json.loads(block.code)
    elif block.language == "yaml":
        list(yaml.safe_load_all(block.code))
    else:
        assert block.language in {"text", "http", "toml", "ini", "promql"}, f"{block}: what language is that?"


def commands(block: Block) -> Iterator[list[str]]:
    """The `reco ...` commands of a block, as words."""
    for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
        match = re.search(r"(?:^|[\s/])reco ((?!.*:latest)[a-z].*)$", line.split(" #")[0].split("  ")[0].strip())
        if not match or not re.match(r"^(\$ )?([A-Z_]+=\S+ )*(\S*/)?reco ", line.strip()):
            continue
        try:
            yield shlex.split(re.split(r" [|>&]", match[1])[0])
        except ValueError:
            continue  # a quote that goes on in the next line


@pytest.mark.parametrize("block", [one for one in BLOCKS if "reco " in one.code], ids=str)
def test_every_reco_command_exists(block: Block) -> None:
    from reco.cli import app
    from reco.train_encoder import FLAG, train_encoder
    from reco.train_encoder import _command as command_of

    for words in commands(block):
        command, given = typer.main.get_command(app), list(words)
        if FLAG in given:
            command, given = command_of(train_encoder), given[1:]
        while given and (found := getattr(command, "commands", {}).get(given[0])):
            command = found
            given.pop(0)
        assert not getattr(command, "commands", None) or not given or given[0].startswith("-"), f"{block}: {words}"
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", FLAG}
        strangers = {word.partition("=")[0] for word in given if word.startswith("-") and word != "-"} - known
        assert not strangers, f"{block}: reco {' '.join(words)}"


def table(page: str, first_cell: str) -> list[float]:
    """The numbers of a table's row, by its first cell; after a ± they are left out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.replace("*", "").startswith(f"| {first_cell} |"))
    cells = [cell.strip().strip("*") for cell in row.strip("|").split("|")[1:]]
    return [float(re.match(r"[+-]?[\d.]+", cell)[0]) for cell in cells]


@pytest.mark.parametrize(
    ("row", "method"),
    [
        ("frozen CLIP", "frozen CLIP"),
        ("mean of the neighbours, tuned", "mean fusion, tuned"),
        ("same-size MLP, no memory", "same-size MLP, no memory"),
        ("RECO", "RECO"),
        ("RECO, newcomers not in the memory", "RECO, newcomers not in the memory"),
    ],
)
@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_the_demos_table_is_the_measured_one(page: str, row: str, method: str) -> None:
    measured = json.loads((RESULTS / "demo.json").read_text())["rows"][method]
    means = [sum(seeds) / len(seeds) for seeds in measured.values()]
    assert table(page, row) == pytest.approx(means, abs=0.051)


@pytest.mark.parametrize(
    ("row", "tables", "names"),
    [
        ("as they are", ("sides", "sides"), ("frozen CLIP", "label set: both")),
        ("noise σ = 0.5", ("weak_names_0.5",) * 2, ("frozen CLIP", "RECO (label set, both)")),
        ("noise σ = 1", ("weak_names_1",) * 2, ("frozen CLIP", "RECO (label set, both)")),
        ("noise σ = 1.5", ("weak_names_1.5",) * 2, ("frozen CLIP", "RECO (label set, both)")),
    ],
)
def test_the_figures_of_when_it_helps(row: str, tables: tuple[str, ...], names: tuple[str, ...]) -> None:
    told = json.loads((RESULTS / "ablations-clip-vitb32.json").read_text())["tables"]
    measured = [
        next(one for one in told[name]["rows"] if one["row"] == wanted)["1000-way"]["accuracy"]
        for name, wanted in zip(tables, names, strict=True)
    ]
    assert table("docs/when-it-helps.md", row)[:2] == pytest.approx(measured, abs=0.051)


def test_no_picture_is_missing_or_forgotten() -> None:
    shown = {(page.parent / target).resolve() for page in PAGES for target in links(page)}
    forgotten = {path.name for path in (ROOT / "docs" / "images").glob("*")} - {path.name for path in shown}
    assert not forgotten


def test_the_tables_of_the_ablations_are_those_of_the_results() -> None:
    page = ABLATIONS.read_text(encoding="utf-8")
    assert renewed(page) == page, "run python -m benchmarks.ablation_tables"
    assert renewed(page.replace("| design gate |", "| design gate | 99.9", 1)) == page
