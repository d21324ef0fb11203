"""The label sets that a request can name: from a folder that `RECO_LABEL_SETS` names, or given to a running service.

    birds.json     {"labels": ["puffin", "razorbill"], "templates": ["a photo of a {}, a bird."]}
    birds.txt      a label a line

A file is read again when it has changed, so replicas that share a folder share its sets; one that has become unusable
is refused, and what it held before serves on. Without a folder, sets live as long as the process. Blocking; may run in
any thread. Depends on class_embeddings' checks, json_body, problems, settings.
"""

import logging
import os
import re
import secrets
import threading
from codecs import BOM_UTF8
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.classes.class_embeddings import check_labels, check_templates
from service.forms.json_body import parse_object
from service.problems import KINDS, ItemError, Problem
from service.schemas.requests import LabelSetRequest, validate
from service.settings import Settings, SettingsError

logger = logging.getLogger("reco.label_sets")

MAX_SETS = 256
MAX_FILE_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")  # no dot in front: no hidden file, no ..
_SUFFIXES = (".json", ".txt")
_POINTERS = 10  # of labels that are told to be wrong


@dataclass(frozen=True)
class LabelSet:
    """Labels that go together, and the templates to use where a request names none."""

    name: str
    labels: Sequence[str]
    templates: Sequence[str] | None = None


@dataclass(frozen=True)
class _Refused:
    """A file that cannot be used: how it looked, and why."""

    look: object
    problem: Problem

    def again(self) -> Problem:
        """The same problem as an exception of its own: one that is raised again keeps the frames of each time."""
        return Problem(self.problem.code, self.problem.errors, self.problem.extensions, self.problem.headers)

    def __str__(self) -> str:
        where = ", ".join(error.pointer for error in self.problem.errors[:_POINTERS])
        return f"{self.problem.code} at {where}" if where else self.problem.code


class LabelSets:
    """Label sets by name."""

    def __init__(self, directory: Path | None, settings: Settings) -> None:
        self._directory = directory
        self._settings = settings
        self._sets: dict[str, tuple[object, LabelSet]] = {}  # by name: how its file looked, and what it held
        self._refused: dict[str, _Refused] = {}  # by name, files that have become unusable
        self._lock = threading.Lock()

    @classmethod
    def open(cls, settings: Settings) -> "LabelSets":
        """Read the folder once, so that a mistake in it stops the start.

        Raises:
            SettingsError: no such folder, one that cannot be read, or a file in it that is no label set.
        """
        if settings.label_sets is None:
            return cls(None, settings)
        directory = Path(settings.label_sets)
        if not directory.is_dir():
            raise SettingsError(f"RECO_LABEL_SETS: {directory} is no folder")
        try:
            misnamed = _misnamed(directory)
        except OSError as error:
            raise SettingsError(f"RECO_LABEL_SETS: {directory} cannot be read: {error.strerror}") from None
        sets = cls(directory, settings)
        names = sets.names()
        if len(names) > MAX_SETS:
            raise SettingsError(f"RECO_LABEL_SETS: {directory} holds more than {MAX_SETS} sets")
        for name in names:
            if all((directory / (name + suffix)).is_file() for suffix in _SUFFIXES):
                raise SettingsError(f"RECO_LABEL_SETS: {directory / name} is there as .json and as .txt: keep one")
            try:
                sets._read(name)
            except Problem:
                raise SettingsError(f"RECO_LABEL_SETS: {directory / name}: {sets._refused[name]}") from None
        for file in misnamed:
            logger.warning("%s is no label set: %s", file, KINDS["label_set_name_invalid"].title)
        return sets

    def names(self) -> list[str]:
        """The names of all sets, sorted; while the folder cannot be read, of those that are kept."""
        if self._directory is None:
            return sorted(self._sets)
        try:
            files = [Path(entry.name) for entry in os.scandir(self._directory) if entry.is_file()]
        except OSError as error:
            logger.error("RECO_LABEL_SETS cannot be read", exc_info=error)
            return sorted(self._sets)
        return sorted({file.stem for file in files if file.suffix in _SUFFIXES and _NAME.fullmatch(file.stem)})

    def get(self, name: str) -> LabelSet:
        """The set of a name, as its file is now, or was when it could last be used.

        Raises:
            Problem: label_set_not_found, with the reason where there is a file that was never usable.
        """
        reason = {}
        if _NAME.fullmatch(name):
            try:
                return self._read(name)
            except Problem as problem:
                reason = {} if problem.code == "label_set_not_found" else {"reason": problem.code}
        errors = [ItemError("/label_set", "label_set_not_found")]
        raise Problem("label_set_not_found", errors=errors, extensions=reason)

    def refusal(self, name: str) -> str | None:
        """The code for which a set's file was refused when it was last read; None if it can be used."""
        refused = self._refused.get(name)
        return None if refused is None else refused.problem.code

    @property
    def some_refused(self) -> bool:
        """Whether a file was refused when it was last read."""
        return bool(self._refused)

    def still_refused(self) -> list[str]:
        """The sets whose file was refused when it was last read and would be now; one that is gone is none."""
        for name in list(self._refused):
            try:
                self._read(name)
            except Problem as problem:
                if problem.code == "label_set_not_found":
                    self._refused.pop(name, None)
        return sorted(self._refused)

    def put(self, name: str, body: bytes) -> LabelSet:
        """Make or replace a set; in the folder, if there is one.

        Args:
            body: JSON, as in a file.

        Raises:
            Problem: label_set_name_invalid, label_sets_full, label_set_not_saved, and what labels are refused for.
        """
        if not _NAME.fullmatch(name):
            raise Problem("label_set_name_invalid")
        given = self._parse(name, body)
        with self._lock:
            names = self.names()
            if name not in names and len(names) >= MAX_SETS:
                raise Problem("label_sets_full", extensions={"limit": MAX_SETS})
            if self._directory is None:
                self._sets[name] = (None, given)
            else:
                self._save(self._directory, name, body)
        return given

    def delete(self, name: str) -> None:
        """Take a set out; from the folder, if there is one.

        Raises:
            Problem: label_set_not_found, label_set_not_saved.
        """
        with self._lock:
            if not _NAME.fullmatch(name) or name not in self.names():
                raise Problem("label_set_not_found")
            if self._directory is not None:
                try:
                    self._directory.stat()  # gone for a while, it would come back with the set in it
                    for suffix in _SUFFIXES:
                        (self._directory / (name + suffix)).unlink(missing_ok=True)
                except OSError as error:
                    raise _not_saved(error) from None
            self._sets.pop(name, None)
            self._refused.pop(name, None)

    def _read(self, name: str) -> LabelSet:
        kept = self._sets.get(name)
        if self._directory is None:
            if kept is None:
                raise Problem("label_set_not_found")
            return kept[1]
        for suffix in _SUFFIXES:
            try:
                with (self._directory / (name + suffix)).open("rb") as file:
                    state = os.fstat(file.fileno())
                    look = (suffix, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
                    if kept is not None and kept[0] == look:
                        self._refused.pop(name, None)
                        return kept[1]
                    refused = self._refused.get(name)
                    if refused is None or refused.look != look:
                        return self._take(name, look, file.read(MAX_FILE_BYTES + 1), suffix)
            except FileNotFoundError:
                continue
            except OSError as error:
                return self._refuse(name, _Refused((suffix, error.errno), Problem("label_set_unreadable")))
            return self._refuse(name, refused)
        if kept is not None and not self._directory.is_dir():
            return self._refuse(name, _Refused("no folder", Problem("label_set_unreadable")))
        self._sets.pop(name, None)  # deleted: it must not come back when the folder is away
        raise Problem("label_set_not_found")

    def _take(self, name: str, look: object, content: bytes, suffix: str) -> LabelSet:
        """What a changed file holds; if that cannot be used, what it held before."""
        try:
            found = self._parse(name, content, suffix)
        except Problem as problem:
            return self._refuse(name, _Refused(look, problem))
        self._refused.pop(name, None)
        self._sets[name] = (look, found)
        return found

    def _refuse(self, name: str, refused: _Refused) -> LabelSet:
        """What a set held before its file became unusable; told once for each state of the file.

        Raises:
            Problem: why, if it was never usable.
        """
        before, self._refused[name] = self._refused.get(name), refused
        kept = self._sets.get(name)
        if before is None or before.look != refused.look:
            served = "" if kept is None else "; what it held before is served on"
            logger.error("label set %s cannot be used: %s%s", name, refused, served)
        if kept is None:
            raise refused.again()
        return kept[1]

    def _parse(self, name: str, content: bytes, suffix: str = ".json") -> LabelSet:
        if len(content) > MAX_FILE_BYTES:
            raise Problem("body_too_large", extensions={"limit": MAX_FILE_BYTES})
        labels, templates = _lines(content) if suffix == ".txt" else _members(content, self._settings)
        check_labels(labels, self._settings)
        if templates is not None:
            check_templates(templates, labels, self._settings)
        return LabelSet(name, tuple(labels), None if templates is None else tuple(templates))

    @staticmethod
    def _save(directory: Path, name: str, body: bytes) -> None:
        """Whole or not at all: a reader sees the old file or the new one."""
        temporary = directory / f".tmp-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(directory / f"{name}.json")
            (directory / f"{name}.txt").unlink(missing_ok=True)
        except OSError as error:
            raise _not_saved(error) from None
        finally:
            with suppress(OSError):  # a read-only folder refuses this, too, and would hide what is told
                temporary.unlink(missing_ok=True)


def _misnamed(directory: Path) -> list[str]:
    """Files that look like label sets, but for their names; hidden ones are nobody's."""
    files = sorted(Path(entry.name) for entry in os.scandir(directory) if entry.is_file() and entry.name[0] != ".")
    return [file.name for file in files if file.suffix in _SUFFIXES and not _NAME.fullmatch(file.stem)]


def _not_saved(error: OSError) -> Problem:
    logger.error("RECO_LABEL_SETS cannot be written", exc_info=error)
    return Problem("label_set_not_saved")


def _lines(content: bytes) -> tuple[list[str], None]:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Problem("text_invalid_unicode") from None
    return [line.strip() for line in lines if line.strip()], None


def _members(content: bytes, settings: Settings) -> tuple[list[str], list[str] | None]:
    most = 4 * (settings.max_labels + settings.max_templates + 16)
    told = validate(LabelSetRequest, parse_object(content.removeprefix(BOM_UTF8), max_values=most))
    return told.labels, told.templates
