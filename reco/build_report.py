"""`reco build`: what came of it, and what to do next."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from reco.console import console, say
from reco.counted import counted
from reco.shell_words import shell

if TYPE_CHECKING:
    from memory_builder import BuildConfig, BuildResult


def show_result(result: "BuildResult", config: "BuildConfig") -> None:
    """Say which version there is now, what was rejected, and what comes next."""
    from memory_builder.reporting.ledger import advice

    output = config.memory
    there = "there already" if result.present <= result.num_items - result.added else "there already, or removed since"
    repeated = f"{result.repeated:,} repeated, " if result.repeated else ""
    replaced = f" ({result.replaced:,} in the place of another of their key)" if result.replaced else ""
    console.print(
        f"{escape(str(output))}: version {result.version}, {counted(result.num_items, 'item')}; "
        f"{result.added:,} added{replaced}, {result.present:,} {there}, {repeated}{_rejected(result)}"
        + ("" if result.created else "; nothing was new, so there is no new version")
    )
    for code, count in sorted(result.rejected.items()):
        console.print(f"  {count:,} {code}")
    if result.rejected:
        from memory.format.work_files import REJECTED

        again = "; --retry-failed tries them again" if result.rejected_earlier else ""
        say(f"  each with its file and reason: {output / REJECTED}{again}")
    if result.ignored:
        say(f"  {counted(result.ignored, 'file')} ignored: no image, and no caption of one", style="dim")
    if told := advice(result.rejected, result.changed):
        say(f" {told}")
    if result.near_duplicates:
        from memory.format.work_files import NEAR_DUPLICATES

        copies = f" ({result.copies:,} byte for byte)" if result.copies else ""
        images = counted(result.near_duplicates, "added image looks", "added images look")
        say(f"  {images} like an earlier item{copies}: {output / NEAR_DUPLICATES}")
    _say_next(result, output)


def _rejected(result: "BuildResult") -> str:
    """How many rows were rejected, and how many of them not now."""
    rejected, earlier = sum(result.rejected.values()), result.rejected_earlier
    if not earlier:
        return f"{rejected:,} rejected"
    return f"{rejected:,} rejected" + (" earlier" if earlier == rejected else f", {earlier:,} of them earlier")


def _say_next(result: "BuildResult", output: Path) -> None:
    """After the first build a fusion; a memory that grew may have one, and a service that does not know yet."""
    if result.version == 1:
        console.print(f"next: [bold]reco train {escape(shell(output))} -o my-fusion[/]", soft_wrap=True)
        say(
            "      with --names FILE, if captions mention the names to tell apart, or --folders, if keys are SKU/front",
            style="dim",
        )
    elif result.created:
        say(
            f"next: a fusion made before serves on; if there is none, `reco train {shell(output)} -o my-fusion`. A "
            "running service takes the version up on SIGHUP, when asked by `reco operator reload`, or by itself with "
            "RECO_WATCH_MEMORY_S."
        )
