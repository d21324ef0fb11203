"""`reco demo`: the whole path on the built-in field guide, from nothing to a page."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.console import Bar, BuildProgress, console, step, stop
from reco.listening import who_serves, why_not
from reco.shell_words import shell

if TYPE_CHECKING:
    from rich.table import Table

    from demo.measure import Row

_HOST = "127.0.0.1"


def demo(
    directory: Annotated[
        Path, typer.Option("--directory", "-d", help="Where the pictures, the memory and the fusion go.")
    ] = Path("reco-demo"),
    seeds: Annotated[
        int, typer.Option(min=1, max=20, help="Train this many fusions; the table shows mean and spread.")
    ] = 1,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Start the service at the end.")] = True,
    table: Annotated[bool, typer.Option("--table/--no-table", help="Measure, with the controls, and print it.")] = True,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the service.")] = 8000,
) -> None:
    """See CLIP fail on species it never learned, and a memory get them right.

    Draws a field guide of birds that exist nowhere, builds a memory from the pictures, trains the fusion layer, adds
    species that neither CLIP nor the fusion has ever seen, prints accuracy before and after, and serves it all.
    Nothing is downloaded. Run it again and it takes up what is there.
    """
    _refuse_early(directory, port if serve else None)
    from demo.story import tell
    from memory.format.durable import write_bytes

    told = tell(directory, tuple(range(seeds)), _Narrator(), table=table)
    parts = {"model": told.model, "memory": told.memory, "fusion": told.fusion, "samples": told.samples}
    settings: dict[str, Any] = {name: str(path.resolve()) for name, path in parts.items()}
    lines = [f"RECO_{name.upper()}={path}\n" for name, path in settings.items()]
    if table:
        results = {row.method: row.accuracies for row in told.rows}
        write_bytes(directory / "results.json", f"{json.dumps(results, indent=2)}\n".encode(), replace=True)
    # Its presence says that the demo is complete, so it appears last, and whole or not at all.
    write_bytes(directory / "serve.env", "".join(lines).encode(), replace=True)
    if table:
        console.print()
        console.print(_table(told.rows, seeds))
    if not serve:
        console.print(_how_to_serve(directory, port, settings), soft_wrap=True, markup=False)
    console.print(_invitation(directory, port, serves=serve), soft_wrap=True, markup=False)
    if serve:
        _serve(directory, port, settings)


def _refuse_early(directory: Path, port: int | None) -> None:
    """What would end the demo after minutes: a place that cannot be written to, a taken port, a misspelt setting."""
    from models.places import hindrance
    from service.environment import load_settings

    if (reason := hindrance(directory)) is not None:
        stop(f"{reason}: name another folder with --directory", code=2)
    if port is not None and (reason := why_not(_HOST, port)) is not None:
        known = who_serves(_HOST, port)
        told = reason if known is None else f"{reason} ({known})"
        stop(f"nothing can listen on port {port}: {told}; choose another with --port, or --no-serve", code=2)
    made: dict[str, Any] = dict.fromkeys(("model", "memory", "fusion", "samples", "api_keys_file"), "made by the demo")
    load_settings(port=port, **made)  # refuses here what serving would refuse at the end


def _serve(directory: Path, port: int, settings: dict[str, Any]) -> None:
    """Serve what was made, with a new operator key: the page's "add your own" asks for one."""
    from service.door.keys import key_line, new_key
    from service.environment import load_settings
    from service.serving import run

    secret, keys = new_key(), directory / "keys"
    keys.unlink(missing_ok=True)
    keys.touch(mode=0o600)
    keys.write_text(key_line("demo", ("operator",), secret) + "\n", encoding="utf-8")
    console.print(f"Add your own pictures under Memory with the operator key {secret}\n", soft_wrap=True)
    with suppress(KeyboardInterrupt):  # Ctrl-C ends a server as it is meant to end
        run(load_settings(port=port, api_keys_file=str(keys), **settings))


def _how_to_serve(directory: Path, port: int, settings: dict[str, str]) -> str:
    named = " ".join(f"--{name} {shell(settings[name])}" for name in ("memory", "fusion"))
    return f"""
Nothing serves it yet. This does, with the settings that are in {directory / "serve.env"}:

  RECO_SAMPLES={shell(settings["samples"])} reco serve --port {port} --model {shell(settings["model"])} \\
       {named}"""


def _invitation(directory: Path, port: int, *, serves: bool) -> str:
    """What to open, and which requests to try on a species that nothing was trained on."""
    from demo.quiz import quiz_question

    picture, name, choices = quiz_question(directory)
    labels = json.dumps(choices).replace("'", "'\\''")
    return f"""
{"Open" if serves else "Then open"} http://127.0.0.1:{port}/ or try, from another terminal (the picture shows a {name}):

  curl -s http://127.0.0.1:{port}/classify -F files=@{shell(picture)} -F compare=true \\
       -F 'labels={labels}'

  curl -s 'http://127.0.0.1:{port}/embed/image?return_neighbours=true&k=3' \\
       -H 'Content-Type: image/png' --data-binary @{shell(picture)}
"""


def _table(rows: "list[Row]", seeds: int) -> "Table":
    from rich.table import Table

    from demo.measure import COLUMNS, num_classes

    title = f"Which species is it? Top-1 accuracy in %, {seeds} fusion seed{'s' if seeds > 1 else ''}"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("")
    for name, groups in COLUMNS.items():
        table.add_column(f"{name}\n{num_classes(groups)} species", justify="right")
    for row in rows:
        style = "bold green" if row.method == "RECO" else ""
        cells = [
            f"{row.mean(column):.1f}" + (f" ±{row.spread(column):.1f}" if seeds > 1 and row.spread(column) else "")
            for column in COLUMNS
        ]
        table.add_row(row.method, *cells, style=style)
    table.caption = (
        "known: CLIP learned these names. unseen: neither CLIP nor the fusion ever met them; they are in the memory "
        "only. unseen genera: not even the noun is a word to CLIP. A world made so that names are hard and looks are "
        "easy: it shows the mechanism, and is no benchmark."
    )
    return table


class _Narrator:
    """Shows the story on the console."""

    def __init__(self) -> None:
        self.building = BuildProgress()
        self._pictures, self._controls = Bar("drawing"), Bar("training the controls, epochs")

    def step(self, title: str) -> None:
        """Announce a step."""
        step(title)

    def drawn(self, done: int, total: int) -> None:
        """Move the bar of the pictures."""
        self._pictures.update(done, total)

    def controlled(self, done: int, total: int) -> None:
        """Move the bar of the controls."""
        self._controls.update(done, total)
