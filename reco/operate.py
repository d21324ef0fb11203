"""`reco operator`: what an operator asks of a running service. Each needs a key with the operator scope."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reco.asking import WRONG_COMMAND, KeyFile, Url, asking, images_in
from reco.console import say, stop
from reco.counted import counted

_HINTS = {
    "not_found": "what operators ask is there once the service has a key for it: "
    "`reco key new NAME --only-operator --file keys`, and RECO_API_KEYS_FILE=keys where it is served."
}
Json = Annotated[bool, typer.Option("--json", help="For machines: the service's answer as it is.")]


def add(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders of them.", metavar="IMAGES")],
    name: Annotated[str | None, typer.Option(help='What they show; the caption is then "a photo of a NAME.".')] = None,
    caption: Annotated[str | None, typer.Option(help="Their caption, as it is. This or --name.")] = None,
    key: Annotated[str | None, typer.Option(help="Of one image, or what the keys of several begin with.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of other pairs of these keys.")] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Put a few images into the memory of a running service, and the next request knows them.

    All of them go in, or none. A corpus is better added with `reco build`. Example:

        reco operator add one.jpg two.jpg --name "pellam tirrik" --key-file admin.key
    """
    if (name is None) == (caption is None):
        stop("say what the images show: --name or --caption, one of the two", WRONG_COMMAND)
    paths = images_in(images)
    with asking(url, key_file, hints=_HINTS) as client:
        from reco_client import APIError

        try:
            told = client.add_pairs(paths, name=name, caption=caption, key=key, replace=replace)
        except APIError as error:
            if not error.items:
                raise
            bad = "; ".join(f"{paths[item.index]}: {item.code}: {item.detail.rstrip('.')}" for item in error.items)
            stop(f"{bad}. Nothing was added.")
    present = f", {counted(len(told['present']), 'pair')} there already" if told["present"] else ""
    _tell(told, f'added {len(told["added"]):,} as "{told["caption"]}"{present}', told["added"], as_json=as_json)


def listed(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 100,
    offset: Annotated[int, typer.Option(min=0, help="From which on.")] = 0,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """List what operators added to the memory of a running service, the newest first.

    Key and caption, with a tab between them. Example:

        reco operator list --limit 20
    """
    with asking(url, key_file, hints=_HINTS) as client:
        told = client.pairs(limit=limit, offset=offset)
    lines = [f"{pair['key']}\t{pair['caption']}" for pair in told["pairs"]]
    _tell(told, f"{len(lines):,} of {told['total']:,} added", lines, as_json=as_json)


def remove(
    key: Annotated[str, typer.Argument(help="Of the pair.", metavar="KEY")],
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Take a pair out of the memory of a running service, by its key.

    Its rows stay on disk until `reco memory compact` or `purge`. Example:

        reco operator remove mine/1
    """
    with asking(url, key_file, hints=_HINTS) as client:
        told = client.remove_pair(key)
    _tell(told, "removed 1", as_json=as_json)


def reload(as_json: Json = False, url: Url = None, key_file: KeyFile = None) -> None:
    """Have a running service open its newest memory and fusion, and read its keys again.

    What is broken is refused, and what was served is served on: exit code 1, with the reason. Example:

        reco operator reload
    """
    with asking(url, key_file, hints=_HINTS) as client:
        told = client.reload()
    _tell(told, "reloaded" if told["changed"] else "nothing is new", as_json=as_json)
    if not told["keys_read"]:
        stop("the keys could not be read; those known before stay in force")


def _tell(told: dict[str, Any], done: str, lines: Sequence[str] = (), *, as_json: bool) -> None:
    """The service's answer as it is, or lines for a pipe and a sentence for people."""
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    for line in lines:
        typer.echo(line)
    say(f"{done}: memory version {told['memory_version']}, {counted(told['num_items'], 'item')}")
