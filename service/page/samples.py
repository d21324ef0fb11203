"""The pictures the page offers to try: a folder that `RECO_SAMPLES` names, listed once when the app is made.

    samples.json   {"samples": [{"file": "a.png", "title": "...", "note": "...", "answer": "...",
                                 "labels": ["..."], "templates": ["a photo of a {}"]}]}; all but "file" may be left out
    a.png b.jpg    without samples.json, every picture in the folder

A request can only name what was listed: no path is ever made from it. Links are left out, and never followed.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.page.pictures import Known, Picture, open_picture
from service.settings import SettingsError

MAX_SAMPLES = 48
LIST = "samples.json"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif")
_MAX_LIST_BYTES = 1024 * 1024


class _Listed(BaseModel):
    """One entry of samples.json."""

    model_config = ConfigDict(extra="forbid")
    file: str
    title: str = ""
    note: str = ""
    answer: str | None = None
    labels: list[str] = Field(default_factory=list)
    templates: list[str] = Field(default_factory=list)


class _List(BaseModel):
    """samples.json."""

    model_config = ConfigDict(extra="forbid")
    samples: list[_Listed]


@dataclass(frozen=True)
class Sample:
    """One picture to try.

    Attributes:
        name: its file's, and the last part of its address.
        title: what to call it.
        note: a line about it.
        answer: the right label, if that is known.
        labels, templates: to begin with; none leaves the page's as they are.
    """

    name: str
    title: str
    note: str
    answer: str | None
    labels: tuple[str, ...]
    templates: tuple[str, ...]


class Samples:
    """The pictures of a folder, by name; none without a folder."""

    def __init__(self, directory: Path | None, samples: tuple[Sample, ...], max_bytes: int) -> None:
        self._directory = directory
        self._by_name = {sample.name: sample for sample in samples}
        self._max_bytes = max_bytes
        self._known: dict[str, Known] = {}  # by name, what was read off the file the last time

    @classmethod
    def open(cls, directory: str | None, *, max_bytes: int) -> "Samples":
        """List the pictures of a folder.

        Raises:
            SettingsError: the folder is not there or cannot be read, or its samples.json cannot be used.
        """
        if directory is None:
            return cls(None, (), max_bytes)
        root = Path(directory)
        if not root.is_dir():
            raise SettingsError(f"RECO_SAMPLES: {directory} is no folder")
        try:
            listed = _read_list(root) if (root / LIST).is_file() else [_Listed(file=name) for name in _names(root)]
            regular = [one for one in listed if _is_picture(root, one.file)]
        except OSError as error:
            raise SettingsError(f"RECO_SAMPLES: {directory} cannot be read: {error.strerror}") from None
        return cls(root, tuple(_sample(one) for one in regular[:MAX_SAMPLES]), max_bytes)

    def describe(self) -> list[dict[str, Any]]:
        """All of them as plain JSON, in order."""
        return [asdict(sample) for sample in self._by_name.values()]

    def open_picture(self, name: str) -> Picture | None:
        """A listed picture, to be closed by the caller; None if there is no such picture, or no longer.

        Blocking; may run in any thread. A file is read and hashed once, and again only if it has changed.
        """
        if self._directory is None or name not in self._by_name:
            return None
        picture = open_picture(self._directory / name, self._known.get(name), max_bytes=self._max_bytes)
        if picture is None:
            return None
        self._known[name] = picture.known
        if picture.known.media_type is None:
            picture.file.close()
            return None
        return picture


def _read_list(root: Path) -> list[_Listed]:
    try:
        with (root / LIST).open("rb") as file:
            return _List.model_validate_json(file.read(_MAX_LIST_BYTES)).samples
    except (OSError, ValidationError) as error:
        reason = error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else "not readable"
        raise SettingsError(f"RECO_SAMPLES: {root / LIST}: {reason}") from None


def _names(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root))


def _is_picture(root: Path, name: str) -> bool:
    """A regular file of the folder itself, by its suffix a picture; a link is none, wherever it leads."""
    if Path(name).name != name or not name.lower().endswith(_SUFFIXES):
        return False
    path = root / name
    return not path.is_symlink() and path.is_file()


def _sample(listed: _Listed) -> Sample:
    title = listed.title or Path(listed.file).stem.replace("_", " ").replace("-", " ")
    return Sample(listed.file, title, listed.note, listed.answer, tuple(listed.labels), tuple(listed.templates))
