"""CORPUS... of the command line as sources: braces, globs and list files expanded; addresses only where allowed.

Imports memory.stores. Nothing is fetched here but listings, and no shell is run.
"""

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from memory import MemoryStoreError, ObjectMissing
from memory.stores import SCHEMES, StoredFolder, StoredObject, check_address, is_address, matched
from memory_builder.errors import CorpusError
from memory_builder.records import readable

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
_MAX_PATHS = 1_000_000
_MAX_LIST_BYTES = 256 << 20


def expand(arguments: Iterable[str], allowed: Collection[str] = ()) -> list[Path | StoredObject]:
    """The files and folders that the arguments name, in their order, each once.

    A name that exists is taken as it is. Otherwise `{000..331}` and `{train,val}` are expanded, then `*`,
    `?`, `[]` and `**` are matched in sorted order. A `.txt` file is a list: one corpus a line, relative to
    the list's folder, `#` begins a comment line. An address, such as s3://bucket/shards/*.tar, is expanded alike.

    Args:
        arguments: of the command line.
        allowed: schemes of addresses that may be read.

    Raises:
        CorpusError: corpus_scheme_refused, corpus_pattern_invalid, corpus_not_found, source_unreadable.
    """
    seen: set[str] = set()
    sources: list[Path | StoredObject] = []
    for source in _named(arguments, Path(), allowed):
        identity = os.path.realpath(source) if isinstance(source, Path) else str(source)
        if identity not in seen:
            seen.add(identity)
            sources.append(source)
    return sources


def check_there(arguments: Iterable[str]) -> list[Path]:
    """Refuse a name of nothing, as `expand` would: one match is enough, no list is read and no store asked.

    Returns:
        A match of each pattern, which need not be the first of those that `expand` names.

    Raises:
        CorpusError: corpus_scheme_refused, corpus_pattern_invalid, corpus_not_found.
    """
    named = (one for one in arguments if not is_address(one) and not one.lower().endswith(".txt"))
    return [Path(next(_found(pattern))) for argument in named for pattern in _patterns(argument, Path())]


def expand_paths(arguments: Collection[str]) -> list[Path]:
    """`expand` where no address can be read.

    Raises:
        CorpusError: as `expand`.
    """
    for argument in arguments:
        if is_address(argument):
            raise CorpusError(
                "corpus_scheme_refused", f"{argument!r} is not a path. Here, local files are read: copy it first."
            )
    return [source for source in expand(arguments) if isinstance(source, Path)]


def corpus_name(path: Path | StoredObject) -> str:
    """The first part of all its keys: a folder's own name, or a file's name up to its extension."""
    if isinstance(path, StoredObject):
        return path.stem
    # A name that is no UTF-8 is told as names inside a corpus are.
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow the link that was given as a name
    return readable(absolute.name if absolute.is_dir() else absolute.stem)


def _named(arguments: Iterable[str], base: Path, allowed: Collection[str]) -> Iterator[Path | StoredObject]:
    for argument in arguments:
        for source in _matched(argument, base, allowed):
            if isinstance(source, Path) and source.suffix.lower() == ".txt" and source.is_file():
                yield from _listed(source, allowed)
            else:
                yield source


def _listed(path: Path, allowed: Collection[str]) -> Iterator[Path | StoredObject]:
    try:
        if path.stat().st_size > _MAX_LIST_BYTES:
            raise CorpusError("source_unreadable", f"{path} is too large to be a list of corpora.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # with the mark that Notepad writes
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError("source_unreadable", f"{path} cannot be read as a list of corpora: {error}") from error
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            yield from _matched(line, path.parent, allowed)


def _matched(argument: str, base: Path, allowed: Collection[str]) -> Iterable[Path | StoredObject]:
    if is_address(argument) and argument.partition(":")[0] in SCHEMES:
        return _stored(argument, allowed)
    return [Path(name) for pattern in _patterns(argument, base) for name in sorted(_found(pattern))]


def _patterns(argument: str, base: Path) -> list[str]:
    """What the files and folders are called that an argument names, which is no address."""
    if _SCHEME.match(argument) and not _exists(base / argument):
        raise CorpusError(
            "corpus_scheme_refused",
            f"{argument!r} is not a path. Corpora are local files, or objects of a store that --allow-remote allows "
            f"({', '.join(SCHEMES)}): no pipe:, http: or the like. Copy or mount it here and give its path.",
        )
    if "\0" in argument or not argument:
        raise CorpusError("corpus_pattern_invalid", "A corpus is named by an empty text or one with a NUL character.")
    literal = base / argument
    return [str(literal)] if _exists(literal) else _braces_expanded(str(literal))


def _found(pattern: str) -> Iterator[str]:
    """The names of a pattern, one at least, in no order; a name that exists is none."""
    names: Iterator[str] = iter(())
    if _exists(Path(pattern)):
        names = iter([pattern])
    elif glob.has_magic(pattern):
        # Not Path.glob: that takes a pattern relative to a folder, and the user's may be absolute.
        names = glob.iglob(pattern, recursive=True)  # noqa: PTH207
    first = next(names, None)
    if first is None:
        raise CorpusError("corpus_not_found", f"No file or folder is named {pattern}. Corpora are local paths.")
    yield first
    yield from names


def _stored(argument: str, allowed: Collection[str]) -> list[StoredObject]:
    """The objects that an address stands for; each is there."""
    found: list[StoredObject] = []
    try:
        for pattern in _braces_expanded(check_address(argument, allowed)):
            objects = matched(pattern)
            if not objects:
                raise CorpusError("corpus_not_found", f"No object is named {pattern}.")
            if str(objects[0]) == pattern:
                objects[0].state()
            found += objects
    except ObjectMissing as error:
        raise _no_object(f"{pattern}") from error
    except MemoryStoreError as error:
        code = "corpus_scheme_refused" if error.code == "store_refused" else "source_unreadable"
        raise CorpusError(code, f"{error}") from error
    return found


def _no_object(address: str) -> CorpusError:
    inside = StoredFolder(address).objects()
    if not inside:
        return CorpusError("corpus_not_found", f"No object is named {address}.")
    return CorpusError(
        "corpus_format_unknown",
        f"{address} is a folder of {len(inside):,} objects. Of a store, tars, tables and Parquet files are read, named "
        f"themselves ({address}/*.tar): a folder of single images would be fetched picture by picture. Pack it "
        "into tars, or copy it here.",
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, say
        return False


def _braces_expanded(pattern: str) -> list[str]:
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    head, tail = pattern[: braces.start()], pattern[braces.end() :]
    tails = _braces_expanded(tail)
    choices = _choices(braces[1], pattern)
    if len(choices) * len(tails) > _MAX_PATHS:
        raise CorpusError("corpus_pattern_invalid", f"{pattern} stands for more than {_MAX_PATHS:,} names.")
    return [head + choice + rest for choice in choices for rest in tails]


def _choices(inner: str, pattern: str) -> list[str]:
    numbers = _RANGE.fullmatch(inner)
    if numbers is None:
        return inner.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if not 0 <= last - first < _MAX_PATHS:
        raise CorpusError(
            "corpus_pattern_invalid",
            f"{pattern}: {{{inner}}} is no rising range of at most {_MAX_PATHS:,} numbers.",
        )
    width = len(numbers[1]) if numbers[1].startswith("0") else 0
    return [str(number).zfill(width) for number in range(first, last + 1)]
