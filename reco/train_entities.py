"""`reco train`: which pairs show the same thing, by what the command line names, and what came of the names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from reco.console import say, stop
from reco.counted import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memory import SearchableMemory
    from models.training.dataset.entity_pairs import EntityPairs

_SHOWN = 8  # names in a sentence


class SameThing(NamedTuple):
    """What the command line says of which pairs show the same thing; without either, equal captions do."""

    names: Path | None
    folders: bool


class Listed(NamedTuple):
    """The names that a file lists, one a line, as it has them."""

    file: Path
    names: list[str]


class EntitiesFound(NamedTuple):
    """Pairs grouped by entity.

    Attributes:
        pairs: without copies of an image, and of very many a part.
        ids: of all pairs that show an entity with several.
        group: (rows,) int64 of the memory; equal where rows show one entity, or none and have equal captions.
        captions_name: whether the captions name the entities.
    """

    pairs: "EntityPairs"
    ids: "NDArray[np.int64]"
    group: "NDArray[np.int64]"
    captions_name: bool


def read_names(file: Path) -> Listed:
    """Read a list of names; one that cannot be, or is empty, ends the command."""
    try:
        names = [name for line in file.read_text(encoding="utf-8-sig").splitlines() if (name := line.strip())]
    except OSError as error:
        _refuse(file, error.strerror or "it cannot be read")
    except UnicodeDecodeError:
        _refuse(file, "it is no text in UTF-8; write one name a line")
    if not names:
        _refuse(file, "no names: a list of names has one name a line")
    return Listed(file, names)


def find_entity_pairs(
    memory: "SearchableMemory", chosen: "NDArray[np.int64]", names: "Listed | None", folders: bool, seed: int
) -> EntitiesFound | str:
    """The pairs by entity, or a sentence that says why there are none; names that no caption has are told.

    Args:
        chosen: ids of the pairs that may be used.
        seed: of what is left out of very many.
    """
    import numpy as np

    from models.training.dataset.entities import NO_ENTITY, by_caption, by_folder, only_repeated
    from models.training.dataset.entity_pairs import EntityPairs
    from models.training.dataset.groups import number_belonging

    if names is not None:
        entity, told = _by_listed(memory.captions(), chosen, names), f"the captions mention the names in {names.file}"
    elif folders:
        entity, told = by_folder(memory.keys()), "pairs are grouped by folder"
    else:
        entity, told = by_caption(memory.captions()), "pairs are grouped by equal captions"
    asked = np.full(len(entity), NO_ENTITY)
    asked[chosen] = entity[chosen]
    asked[memory.deleted_ids()] = NO_ENTITY
    repeated = only_repeated(asked)
    found, ids = int(repeated.max(initial=NO_ENTITY)) + 1, np.flatnonzero(repeated != NO_ENTITY)
    if found < EntityPairs.least:
        return f"{told}: {_too_few(found, 'at least two pairs')}"
    read = EntityPairs.from_memory(memory, asked, seed)
    pairs = read.without_copies()
    if pairs.num_entities < EntityPairs.least:
        return f"{told}: {_too_few(pairs.num_entities, 'two different images, copies of an image counting once')}"
    say(f"{counted(found, 'entity', 'entities')}, {len(ids):,} of {counted(len(chosen), 'pair')} show one: {told}")
    if len(pairs.image) < len(read.image):
        say(
            f"{counted(len(read.image) - len(pairs.image), 'pair')} of {len(read.image):,} left out, for images that "
            f"look alike count once: {counted(pairs.num_entities, 'entity', 'entities')} left",
            style="dim",
        )
    group = number_belonging(entity, memory.blocks("caption"))
    return EntitiesFound(pairs, ids, group, captions_name=not folders)


def _too_few(entities: int, of_what: str) -> str:
    from models.training.dataset.entity_pairs import EntityPairs

    told = counted(entities, "entity", "entities")
    return f"{told} with {of_what}, and the evidence design needs {EntityPairs.least} or more"


def _by_listed(captions: Sequence[str], chosen: "NDArray[np.int64]", names: Listed) -> "NDArray[np.int64]":
    """The name that each caption mentions: (N,), -1 for none. A list that is of no use ends the command."""
    import numpy as np

    from models.texts.names import plain
    from models.training.dataset.entities import by_names

    file, listed = names
    say(f"looking for {counted(len(listed), 'name')} in {counted(len(chosen), 'caption')}", style="dim")
    try:
        entity = by_names(captions, listed)
        numbers = by_names(listed, listed)  # of each name: as a caption it mentions itself
    except ValueError as error:
        _refuse(file, str(error))
    alike: dict[int, dict[str, str]] = {}  # of each number, the names that have it, without those that differ in case
    for name, number in zip(listed, numbers.tolist(), strict=True):
        alike.setdefault(number, {})[plain(name)] = name
    merged = [" = ".join(names.values()) for number, names in alike.items() if number >= 0 and len(names) > 1]
    if merged:
        say(f"  the same words, so one name: {_some(merged)}", style="yellow")
    mentions = np.bincount(entity[chosen] + 1, minlength=int(numbers.max()) + 2)[1:]  # place 0: of no name
    missing = [name for name, number in zip(listed, numbers, strict=True) if number < 0 or not mentions[number]]
    single = [name for name, number in zip(listed, numbers, strict=True) if number >= 0 and mentions[number] == 1]
    if len(missing) == len(listed):
        caption = next((captions[row] for row in chosen), "")
        _refuse(file, f"no caption mentions {_some(missing)}: write names as captions do, such as {caption!r}")
    if missing or single:
        found = len(listed) - len(missing)
        say(f"names: {found:,} of {len(listed):,} in {file} are in captions")
        for what, some in (("in no caption", missing), ("in one caption only, so without effect", single)):
            if some:
                say(f"  {what}: {_some(some)}", style="yellow")
    return entity


def _refuse(file: Path, why: str) -> NoReturn:
    stop(f"--names {file}: {why}", code=2)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
