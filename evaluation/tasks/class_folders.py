"""A folder of class folders: every image is of the class that the first folder above it names."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation.tasks.task import invalid
from memory_builder.readers import ReaderOptions
from memory_builder.readers.captions import PLAIN_EXTENSIONS
from memory_builder.readers.reader import IMAGE_EXTENSIONS
from memory_builder.readers.regular_file import read_file
from memory_builder.records import Record, readable


@dataclass(frozen=True)
class Folders:
    """What stands in a folder.

    Attributes:
        images: whether it has images in folders, and none beside them.
        caption: the file of one that has a caption of its name; "" if none has.
        captioned: whether all have.
    """

    images: bool
    caption: str = ""
    captioned: bool = False


def find_folders(path: Path) -> Folders:
    """Look at a folder, or at what is none; texts that have no image's name are no captions."""
    if not path.is_dir():
        return Folders(images=False)
    every = [(file, file.suffix[1:].lower()) for file in path.rglob("*") if not _is_hidden(file, path)]
    images = [file for file, extension in every if extension in IMAGE_EXTENSIONS and file.is_file()]
    captions = {file.with_suffix(""): file for file, extension in every if extension in PLAIN_EXTENSIONS}
    own = [captions[file.with_suffix("")] for file in sorted(images) if file.with_suffix("") in captions]
    caption = readable(own[0].relative_to(path).as_posix()) if own else ""
    return Folders(bool(images) and all(file.parent != path for file in images), caption, len(own) == len(images))


def read_folders(path: Path) -> list[Record]:
    """Every image with its class: the name of the first folder under `path`, an underscore read as a space."""
    limit = ReaderOptions().max_image_bytes
    folders: dict[str, str] = {}  # by class
    records = []
    for file in sorted(path.rglob("*")):
        if file.suffix[1:].lower() not in IMAGE_EXTENSIONS or _is_hidden(file, path):
            continue
        inside = file.relative_to(path)
        folder, source = readable(inside.parts[0]), readable(inside.as_posix())
        name = class_of(folder)
        if folders.setdefault(name, folder) != folder:
            both = f"the folders {folders[name]!r} and {folder!r} are both the class {name!r}"
            raise invalid(str(path), f"{both}: join or rename one")
        records.append(Record(key=source, caption=name, image=partial(read_file, file, limit), source=source))
    return records


def class_of(folder: str) -> str:
    """The class that a folder names."""
    return folder.replace("_", " ").strip()


def _is_hidden(file: Path, root: Path) -> bool:
    """Whether it or a folder between it and `root` is: `._x.jpg` is what macOS keeps beside x.jpg."""
    return any(part.startswith(".") for part in file.relative_to(root).parts)
