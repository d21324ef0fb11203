"""What would work for a folder that gives no pairs, told from its listing alone. Standard library only."""

import glob
import shlex
from pathlib import Path

from memory_builder.records import readable

_READ_BY_NAME = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".tar")
_SHOWN = 3


class FilesBeside:
    """Files of a folder that are corpora themselves: tables, tars, Parquet and Arrow files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[tuple[str, str], list[str]] = {}  # by folder and extension: the first two

    def note(self, name: str) -> None:
        """A file that is neither image nor caption, by its name relative to the root."""
        path = Path(name)
        if path.suffix.lower() in _READ_BY_NAME:
            self._found.setdefault((str(path.parent), path.suffix), []).append(name)
            del self._found[str(path.parent), path.suffix][2:]

    @property
    def advice(self) -> str:
        """The command that builds from them, a sentence; empty if there are none."""
        named = [self._named(folder, suffix, names) for (folder, suffix), names in sorted(self._found.items())]
        if not named:
            return ""
        others = f" (there are also: {', '.join(named[1:_SHOWN])})" if named[1:] else ""
        return f"A table or archive is named itself, not its folder: reco build {named[0]} -o MEMORY{others}."

    def _named(self, folder: str, suffix: str, names: list[str]) -> str:
        """The file, or the pattern of several, as a shell takes it."""
        if len(names) == 1:
            return shlex.quote(readable(str(self._root / names[0])))
        return shlex.quote(readable(f"{glob.escape(str(self._root / folder))}/*{suffix}"))


def without_captions(root: Path, beside: FilesBeside, *, class_folders: bool) -> str:
    """What would work for images of which none has a caption.

    Args:
        root: the folder.
        beside: what lies there.
        class_folders: whether images lie in folders of it.
    """
    ways = [beside.advice] if beside.advice else []
    if class_folders:
        ways.append(
            "If the folders' names say what the images show, --caption-from-folder 'a photo of a {}.' makes captions "
            "of them."
        )
    if not ways:
        ways.append("Put one beside each (a.jpg with a.txt), or name a table of paths and captions.")
    return " ".join([f"No image of {root} has a caption beside it.", *ways])
