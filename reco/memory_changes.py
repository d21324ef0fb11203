"""`reco memory remove`, `compact`, `purge`, `gc` and `rollback`: the logic is in memory/."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reco.console import stop
from reco.counted import counted
from reco.inspect import MemoryPath
from reco.memory_tables import Json, megabytes, plain, show_json, show_lines, show_table
from reco.shell_words import shell
from reco.stamps import stamp_directory

if TYPE_CHECKING:
    from memory import KeyPatterns, Removal

More = Annotated[list[str] | None, typer.Argument(help="More patterns, after --keys.", metavar="[PATTERN...]")]
Keys = Annotated[
    list[str] | None,
    typer.Option(help="Keys, or patterns with * ? [seq], quoted: * also crosses /.", metavar="PATTERN..."),
]
KeysFrom = Annotated[Path | None, typer.Option(help="A file of keys, one a line, taken literally.", metavar="FILE")]
Like = Annotated[
    Path | None,
    typer.Option(help="Near-duplicates of an evaluation set: an .npz with `image`, (N, D).", metavar="EVALSET.npz"),
]
Cosine = Annotated[float | None, typer.Option(help="With --like: from which image cosine on. [0.985]")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would go, and change nothing.")]
MaxSegmentRows = Annotated[int, typer.Option(min=1, help="Join segments up to this many items.")]


def remove(
    memory: MemoryPath,
    more: More = None,
    keys: Keys = None,
    keys_from: KeysFrom = None,
    like: Like = None,
    cosine: Cosine = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take items out of every search, in one new version. Their rows stay on disk until `compact` and `gc`, or `purge`.

    No later build brings a removed item back, but with --restore-removed. Examples:

        reco memory remove my-memory --keys 'photos/private/*'

        reco memory remove my-memory --like test-set.npz --dry-run
    """
    from memory import DUPLICATE_COSINE, NearDuplicates, read_evaluation_images, remove_keys, remove_near

    if (like is None) == (not keys and keys_from is None):
        stop("name what to remove: --keys or --keys-from, or else --like", code=2)
    if cosine is not None and like is None:
        stop("--cosine is for --like", code=2)
    if like is None:
        names = _names(keys, more, keys_from)
        removal = remove_keys(memory, names, dry_run=dry_run, stamps=stamp_directory())
    else:
        near = NearDuplicates(read_evaluation_images(like), DUPLICATE_COSINE if cosine is None else cosine)
        removal = remove_near(memory, near, dry_run=dry_run, stamps=stamp_directory())
    if as_json:
        show_json({**plain(removal), "dry_run": dry_run})
        return
    _show_removal(memory, removal, dry_run=dry_run)


def compact(memory: MemoryPath, max_segment_rows: MaxSegmentRows = 1_000_000, as_json: Json = False) -> None:
    """Fold deleted rows and small segments into new segments and indices, as a new version of the same items.

    Items keep keys and order; their ids change. Needs room for the new version beside the old one. Example:

        reco memory compact my-memory
    """
    from memory import compact as compact_memory

    done = compact_memory(memory, max_segment_rows=max_segment_rows, stamps=stamp_directory())
    if as_json:
        show_json(plain(done))
    elif not done.created:
        show_table(f"{memory}: compact already", [("version", str(done.after.version))])
    else:
        sizes = (sum(file.bytes for file in manifest.files) for manifest in (done.before, done.after))
        show_table(
            f"{memory}: compacted",
            [
                ("version", f"{done.before.version} -> {done.after.version}"),
                ("items", f"{done.after.counts['items']:,}"),
                ("rows dropped", f"{done.rows_dropped:,}"),
                ("segments", f"{done.segments_before:,} -> {done.segments_after:,}"),
                ("size", " -> ".join(map(megabytes, sizes))),
            ],
            next_step=f"reco memory gc {shell(memory)} --keep 1 frees what only the older versions use",
        )


def purge(
    memory: MemoryPath,
    more: More = None,
    keys: Keys = None,
    keys_from: KeysFrom = None,
    max_segment_rows: MaxSegmentRows = 1_000_000,
    as_json: Json = False,
) -> None:
    """Delete the data of some items from every version, at once and for good, and write a receipt.

    Versions that held them are dropped: there is no rollback to them. Killed, give the same command again. Copies
    outside MEMORY, such as the corpus, backups and trained fusions, are yours to deal with. Example:

        reco memory purge my-memory --keys photos/people/0017
    """
    from memory import purge as purge_memory

    done = purge_memory(
        memory, _names(keys, more, keys_from), max_segment_rows=max_segment_rows, stamps=stamp_directory()
    )
    receipt = done.receipt
    if as_json:
        show_json({**receipt.to_json(), "receipt": receipt.path, "already": done.already})
        return
    told = receipt.to_json()
    show_table(
        f"{memory}: purged already, see the receipt" if done.already else f"{memory}: purged",
        [
            ("keys", f"{told['keys']:,}"),
            ("items taken out", f"{receipt.items:,}"),
            ("version", f"{receipt.version_before} -> {receipt.version_after}"),
            ("versions dropped", ", ".join(map(str, receipt.versions_dropped)) or "none"),
            ("deleted", f"{counted(told['files_deleted'], 'file')}, {megabytes(told['bytes_deleted'])}"),
            ("completed", str(receipt.completed_at)),
            ("receipt", f"{memory / receipt.path}"),
        ],
        next_step=f"reco memory verify {shell(memory)} --full",
    )


def gc(
    memory: MemoryPath,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep the N newest versions; all by default.")] = None,
    work: Annotated[
        bool, typer.Option("--work", help="Also drop units in work/: a build that was stopped then starts again.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete what no kept version names. Safe while a service has the memory open. quarantine/ is never touched.

    Example:

        reco memory gc my-memory --keep 2
    """
    from memory import collect

    done = collect(memory, keep=keep, work=work, dry_run=dry_run)
    if as_json:
        show_json({**plain(done), "files": done.files, "bytes": done.bytes})
        return
    rows = [
        ("versions kept", ", ".join(map(str, done.kept))),
        ("versions dropped", ", ".join(map(str, done.dropped)) or "none"),
        ("freed" if not dry_run else "would free", f"{counted(done.files, 'file')}, {megabytes(done.bytes)}"),
    ]
    if done.unfinished:
        size = megabytes(sum(unit.bytes for unit in done.unfinished))
        units = counted(len(done.unfinished), "unit")
        rows.append(("work", f"{units}, {size}, of builds that stopped or found nothing new: kept; --work drops them"))
    more_versions = keep is None and len(done.kept) > 1
    next_step = f"reco memory gc {shell(memory)} --keep 1 drops the older versions too" if more_versions else ""
    show_table(f"{memory}: {'nothing deleted (dry run)' if dry_run else 'collected'}", rows, next_step=next_step)
    if dry_run:
        show_lines(leftover.path for leftover in done.removed)


def rollback(
    memory: MemoryPath,
    version: Annotated[int, typer.Argument(min=1, help="The version to go back to.", metavar="VERSION")],
    as_json: Json = False,
) -> None:
    """Commit the contents of an older version as a new one; nothing is deleted, so a rollback can be rolled back.

    Items removed since are back: remove them again, or purge them. Example:

        reco memory rollback my-memory 3
    """
    from memory import roll_back

    done = roll_back(memory, version, stamps=stamp_directory())
    if as_json:
        show_json(plain(done))
        return
    if not done.created:
        show_table(f"{memory}: the newest version has these contents already", [("version", str(done.after.version))])
        return
    show_table(
        f"{memory}: rolled back",
        [
            ("version", f"{done.before.version} -> {done.after.version}, the contents of {version}"),
            ("items", f"{done.before.counts['items']:,} -> {done.after.counts['items']:,}"),
        ],
        next_step=f"reco memory diff {shell(memory)} {done.before.version} {done.after.version} --list",
    )


def _names(keys: list[str] | None, more: list[str] | None, keys_from: Path | None) -> "KeyPatterns":
    from memory import KeyPatterns

    if not keys and (more or keys_from is None):
        stop("name items by --keys PATTERN..., or by --keys-from FILE", code=2)
    lines: list[str] = []
    if keys_from is not None:
        try:
            lines = keys_from.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            stop(f"{keys_from} cannot be read as text: {error}", code=2)
    literal = [line for line in lines if line]
    if keys_from is not None and not literal:
        stop(f"{keys_from} holds no key: expected is one a line", code=2)
    return KeyPatterns((*(keys or ()), *(more or ())), literal)


def _show_removal(memory: Path, removal: "Removal", *, dry_run: bool) -> None:
    rows = [
        ("version", str(removal.version)),
        ("removed" if not dry_run else "would go", counted(len(removal.keys), "item")),
    ]
    if removal.already:
        rows.append(("removed already", f"{len(removal.already):,}: {', '.join(removal.already[:5])}"))
    rows.append(("items left", f"{removal.num_items - (len(removal.keys) if dry_run else 0):,}"))
    if not removal.keys:
        rows.append(("changed", "nothing"))
    next_step = f"reco memory compact {shell(memory)} drops the rows; purge forgets them" if removal.created else ""
    show_table(f"{memory}: {'nothing changed (dry run)' if dry_run else 'removal'}", rows, next_step=next_step)
    if dry_run:
        near = removal.similarities
        show_lines(f"{near[key]:.4f} {key}" if key in near else key for key in removal.keys)
