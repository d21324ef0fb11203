"""`reco memory info`, `verify` and `diff`: what a memory holds, whether it is whole, and what a version changed."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.console import console, stop
from reco.counted import counted
from reco.memory_tables import Json, index_line, megabytes, plain, show_json, show_lines, show_table
from reco.remote import AllowRemote, RemoteCache, local_memory, only_local
from reco.shell_words import shell
from reco.stamps import stamp_directory

if TYPE_CHECKING:
    from memory import Difference, Memory

MemoryPath = Annotated[Path, typer.Argument(help="A memory made by `reco build`.", metavar="MEMORY", parser=only_local)]
MemoryPlace = Annotated[
    str, typer.Argument(help="A memory made by `reco build`, or its address in a store.", metavar="MEMORY")
]

_MANY_SEGMENTS = 100  # of as many small builds: each has files open, and is searched by itself


def info(
    memory: MemoryPlace,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the recall that was measured of its indices.", metavar="FILE.png")
    ] = None,
    as_json: Json = False,
    allow_remote: AllowRemote = None,
    remote_cache: RemoteCache = None,
) -> None:
    """Tell version, items, encoder and sizes of a memory, and which versions it keeps. Its files are hashed once.

    Examples:

        reco memory info my-memory

        reco memory info my-memory --plot recall.png
    """
    root = local_memory(memory, allow_remote, remote_cache)
    from memory import Memory, encoder_name, list_receipts, list_versions

    with Memory.open(root, stamps=stamp_directory()) as opened:
        told = opened.describe()
        if plot is not None:
            _plot(opened, plot)
        removed = opened.manifest.removed.keys if opened.manifest.removed else 0
    versions = list_versions(root)
    unfinished = [receipt.path for receipt in list_receipts(root) if receipt.state != "complete"]
    if as_json:
        show_json({**told, "removed_keys": removed, "versions": versions, "unfinished_purges": unfinished})
        return
    show_table(
        f"{memory}, version {told['version']}",
        [
            *_contents(told, removed),
            ("encoder", f"{encoder_name(told['encoder'], told['encoded_with'])}, D = {told['embed_dim']}"),
            (
                "encoded with",
                ", ".join(f"{name} {one}" for name, one in told["encoded_with"].items() if name != "model"),
            ),
            *((f"{index['modality']} index", index_line(index) + _speed(root, index)) for index in told["indices"]),
            ("corpora", ", ".join((told["sources"] or {}).get("corpora", ())) or "not told"),
            ("size", f"{megabytes(told['bytes'])} in this version, {megabytes(_on_disk(root))} on disk"),
            *([("copy", str(root))] if str(root) != memory else []),
            ("versions kept", ", ".join(map(str, versions))),
            ("digest", told["digest"]),
        ],
        next_step=_advice(root, told, versions, unfinished),
    )


def verify(
    memory: MemoryPlace,
    full: Annotated[
        bool, typer.Option("--full", help="Hash every file and compare every vector; otherwise sizes only.")
    ] = False,
    version: Annotated[int | None, typer.Option(min=1, help="An older version; the newest by default.")] = None,
    as_json: Json = False,
    allow_remote: AllowRemote = None,
    remote_cache: RemoteCache = None,
) -> None:
    """Check the files of a memory against its manifest. Exit code 0: all right; 1: broken, with a list.

    Example:

        reco memory verify my-memory --full
    """
    root = local_memory(memory, allow_remote, remote_cache)
    from memory import list_versions, verify_memory

    report = verify_memory(root, full=full, version=version)
    if as_json:
        show_json({**asdict(report), "ok": report.ok})
        raise typer.Exit(0 if report.ok else 1)
    if not report.ok:
        show_table(f"{memory}: broken", [(problem.code, problem.detail) for problem in report.problems])
        older = [other for other in list_versions(root) if other != report.version]
        hint = (
            f"or try an older version: reco memory verify {shell(root)} --full --version {older[-1]}" if older else ""
        )
        stop(
            f"{counted(len(report.problems), 'fault')}: restore the files named from a copy, build again, "
            f"{hint or 'or both'}"
        )
    checked = "sizes, hashes and every vector" if full else "sizes"
    show_table(
        f"{memory}: sound",
        [
            ("version", str(report.version)),
            ("checked", checked),
            ("files", f"{report.num_files:,}, {megabytes(report.num_bytes)}"),
            ("digest", report.digest or ""),
        ],
        next_step="" if full else f"reco memory verify {shell(memory)} --full hashes every file",
    )


def diff(
    memory: MemoryPath,
    before: Annotated[int, typer.Argument(min=1, help="A version.", metavar="A")],
    after: Annotated[int, typer.Argument(min=1, help="Another version.", metavar="B")],
    list_keys: Annotated[bool, typer.Option("--list", help="Print the keys: + added, - removed, ~ changed.")] = False,
    as_json: Json = False,
) -> None:
    """Tell what version B holds that version A does not, and the other way round.

    Example:

        reco memory diff my-memory 3 4 --list
    """
    from memory import difference

    found = difference(memory, before, after, stamps=stamp_directory())
    if as_json:
        show_json(_difference(found, list_keys=list_keys))
        return
    show_table(
        f"{memory}: version {before} to version {after}",
        [
            *((name, counted(len(getattr(found, name)), "item")) for name in ("added", "removed", "changed")),
            ("the same", counted(found.kept, "item")),
            ("encoder", f"differs in {', '.join(found.encoder)}" if found.encoder else "the same"),
            *((name, f"{old} -> {new}") for name, old, new in found.other),
        ],
        next_step="" if list_keys or not (found.added or found.removed or found.changed) else "--list prints the keys",
    )
    if list_keys:
        for sign, keys in (("+", found.added), ("-", found.removed), ("~", found.changed)):
            show_lines(f"{sign} {key}" for key in keys)


def _contents(told: dict[str, Any], removed: int) -> list[tuple[str, str]]:
    rows = [("items", f"{told['items']:,} in {counted(told['segments'], 'segment')}")]
    if told["rows"] > told["items"]:
        rows.append(("deleted rows", f"{told['rows'] - told['items']:,}, until they are compacted"))
    if removed:
        rows.append(("removed keys", f"{removed:,}, which no build brings back"))
    return rows


def _speed(memory: Path, index: dict[str, Any]) -> str:
    """How long a query took where the index was built, if that was here."""
    from memory import read_times

    times = read_times(memory, index["modality"], index["id"])
    return f"; a query took {times['p50_ms']} ms (p95 {times['p95_ms']})" if times else ""


def _plot(opened: "Memory", path: Path) -> None:
    from evaluation.index_plot import plot_index

    every = {index["modality"]: opened.index_report(index["modality"]) for index in opened.indices()}
    reports = {modality: report for modality, report in every.items() if "measured" in report}
    if not reports:
        stop("an exact index finds all neighbours: there is no recall to draw", code=2)
    console.print(f"drew {', '.join(map(str, plot_index(reports, path)))}")


def _advice(memory: Path, told: dict[str, Any], versions: list[int], unfinished: list[str]) -> str:
    """The one thing most worth doing."""
    if unfinished:
        return f"a purge was cut short: give the same `reco memory purge {shell(memory)}` again"
    if any(index["outgrown"] for index in told["indices"]):
        return f"the memory has outgrown its index: reco build --reindex -o {shell(memory)} makes one of its size"
    if any(index["drifted"] for index in told["indices"]):
        return f"rows added since lie far from the lists: reco build --reindex -o {shell(memory)} trains them anew"
    if told["rows"] - told["items"] > 0.1 * told["rows"]:
        return f"reco memory compact {shell(memory)} folds the deleted rows"
    if told["segments"] >= _MANY_SEGMENTS:
        return (
            f"reco memory compact {shell(memory)} joins the {told['segments']:,} segments, each of which has files open"
        )
    if len(versions) > 1:
        return f"reco memory gc {shell(memory)} --keep 1 drops the older versions"
    return ""


def _on_disk(memory: Path) -> int:
    return sum(path.lstat().st_size for path in memory.rglob("*") if path.is_file() and not path.is_symlink())


def _difference(found: "Difference", *, list_keys: bool) -> dict[str, Any]:
    names = ("added", "removed", "changed")
    counts = {name: len(getattr(found, name)) for name in names}
    told = {**plain(found), **counts, "other": {name: [old, new] for name, old, new in found.other}}
    return {**told, "keys": {name: list(getattr(found, name)) for name in names}} if list_keys else told
