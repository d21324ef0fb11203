"""Raw images: a folder of class folders, a table with labels, or pairs in any form that `reco build` reads.

Everything is read by memory_builder's readers and encoded as a memory's items are. Shapes: N images, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.forms import Kind
from evaluation.prompts import PROMPT_SETS, check_names
from evaluation.retrieval import RetrievalTask
from evaluation.tasks.encoding import EncodedImages, Report, encode_images, encode_texts
from evaluation.tasks.task import EvalTask, check_classes, invalid, split_classes
from evaluation.zero_shot import ZeroShotTask
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.readers.captions import PLAIN_EXTENSIONS
from memory_builder.readers.corpora import corpus_name
from memory_builder.readers.reader import IMAGE_EXTENSIONS
from memory_builder.readers.regular_file import read_file
from memory_builder.readers.table import TABLE_EXTENSIONS, USUAL
from memory_builder.readers.table_lines import columns
from memory_builder.records import Record, Rejected, readable
from models.encoder import Encoder
from models.errors import EncoderError, TextError
from models.texts.checking import check_text
from models.texts.prompts import class_means, compose

LABEL_COLUMNS = ("label", "class")
NO_LABEL = "missing_label"
_UNIT_ROWS = 8192


@dataclass(frozen=True)
class RawOptions:
    """How raw images become a task.

    Attributes:
        encoder: the memory's own; without one, raw images are refused.
        report: told how far the encoding is.
        templates: prompts of a class, each with one {}.
        classes: the label set, if it is larger than the labels that occur.
        unseen: names of the entities that training did not show.
    """

    encoder: Encoder | None
    report: Report
    templates: Sequence[str] = PROMPT_SETS["plain"]
    classes: Sequence[str] = ()
    unseen: Sequence[str] = ()


def read_raw(path: Path, kind: Kind | None, options: RawOptions) -> EvalTask:
    """Read and encode a task.

    Raises:
        EvaluationError: encoder_needed, task_invalid, task_kind, classes_invalid, templates_invalid, nothing_usable.
        CorpusError: the files cannot be read.
        EncoderError: the encoder answered with something unusable.
    """
    if options.encoder is None:
        raise EvaluationError("encoder_needed", f"{path} holds raw images: name the memory's encoder with --model.")
    if _is_class_folder(path):
        records, rejected = _class_folder(path), Counter[str]()
        labelled = True
    else:
        column = None if kind == "retrieval" and _has_captions(path) else _label_column(path)
        labelled = column is not None
        records, rejected = _read(path, column)
    if labelled and kind != "retrieval":
        return _classification(path, records, rejected, options, kind)
    if labelled or kind not in (None, "retrieval"):
        form = "labels" if labelled else "captions"
        raise EvaluationError("task_kind", f"{path} holds images with {form}: it cannot be evaluated as {kind}.")
    return _retrieval(path, records, rejected, options.encoder, options.report)


def _classification(
    path: Path, records: list[Record], rejected: Counter[str], options: RawOptions, kind: Kind | None
) -> EvalTask:
    encoder = options.encoder
    assert encoder is not None, "read_raw refuses raw images without an encoder"
    records, blank = _with_labels(records)
    rejected = rejected + blank
    if not records:
        raise EvaluationError("nothing_usable", f"{path}: none of its rows has a label.")
    names = sorted({record.caption for record in records} | set(options.classes))
    check_names(names)
    if kind == "entities" and not options.unseen:
        raise EvaluationError("task_kind", f"{path} does not say which entities are unseen: name them with --unseen.")
    unknown = sorted(set(options.unseen) - set(names))
    if unknown:
        raise EvaluationError("classes_invalid", f"{path} has no class {unknown[0]!r}, which --unseen names.")
    number = {name: position for position, name in enumerate(names)}
    check_classes(np.array([number[record.caption] for record in records], dtype=np.int64), len(names), str(path))
    images = _encoded(path, records, encoder, options.report)
    kept = [records[row] for row in images.kept]
    labels = np.array([number[record.caption] for record in kept], dtype=np.int64)
    prompts = encode_texts(_prompts(names, options.templates), encoder, options.report)
    try:
        class_texts = class_means(prompts, len(options.templates))
    except EncoderError as error:
        raise EvaluationError("templates_invalid", f"{error.message}: use fewer templates.") from error
    seen = unseen = None
    if options.unseen and kind != "zero-shot":
        ids = np.array([number[name] for name in options.unseen], dtype=np.int64)
        seen, unseen = split_classes(ids, None, labels, len(names), str(path))
    return EvalTask(
        name=corpus_name(path),
        task=ZeroShotTask(images.embeddings, labels, class_texts),
        text_names=names,
        image_names=[record.source for record in kept],
        thumbnails=images.thumbnails,
        seen=seen,
        unseen=unseen,
        rejected=rejected + images.rejected,
        details={"templates": list(options.templates)},
    )


def _with_labels(records: Sequence[Record]) -> tuple[list[Record], Counter[str]]:
    """The rows that have a label, without the spaces around it; and the others, by code."""
    named = [replace(record, caption=record.caption.strip()) for record in records]
    kept = [record for record in named if record.caption]
    return kept, +Counter({NO_LABEL: len(named) - len(kept)})


def _prompts(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    try:
        return [check_text(prompt) for prompt in compose(names, templates)]
    except TextError as error:
        raise EvaluationError("templates_invalid", f"A prompt cannot be encoded: {error.detail}") from error


def _retrieval(path: Path, records: list[Record], rejected: Counter[str], encoder: Encoder, report: Report) -> EvalTask:
    usable = []
    for record in records:
        try:
            usable.append(Record(record.key, check_text(record.caption), record.image, record.source))
        except TextError as error:
            rejected[error.code] += 1
    # Rows of one image (several captions) share the key, which comes from its path: encode it once.
    first = {record.key: record for record in reversed(usable)}
    distinct = [first[key] for key in dict.fromkeys(record.key for record in usable)]
    images = _encoded(path, distinct, encoder, report)
    position = {distinct[row].key: place for place, row in enumerate(images.kept)}
    usable = [record for record in usable if record.key in position]
    pair = np.array([position[record.key] for record in usable], dtype=np.int64)
    if len(images.kept) < 2:
        raise invalid(str(path), "one image can be used: a retrieval needs at least two")
    captions = [record.caption for record in usable]
    texts = encode_texts(captions, encoder, report)
    return EvalTask(
        name=corpus_name(path),
        task=RetrievalTask(images.embeddings, texts, pair),
        text_names=captions,
        image_names=[distinct[row].source for row in images.kept],
        thumbnails=images.thumbnails,
        rejected=rejected + images.rejected,
    )


def _encoded(path: Path, records: Sequence[Record], encoder: Encoder, report: Report) -> EncodedImages:
    images = encode_images(records, encoder, report)
    if not len(images.kept):
        codes = ", ".join(f"{count:,} x {code}" for code, count in images.rejected.items()) or "it has no row"
        raise EvaluationError("nothing_usable", f"{path}: none of its images can be used ({codes}).")
    return images


def _read(path: Path, label_column: str | None) -> tuple[list[Record], Counter[str]]:
    """The rows of a corpus; of a table with labels, the label stands where the caption would."""
    reader = open_reader(path, ReaderOptions(caption_column=label_column, whole_numbers=label_column is not None))
    records, rejected = list[Record](), Counter[str]()
    for piece in reader.pieces(_UNIT_ROWS):
        for row in reader.read(piece):
            if isinstance(row, Rejected):
                rejected[row.code] += 1
            else:
                records.append(row)
    if not records:
        codes = ", ".join(f"{count:,} x {code}" for code, count in rejected.items())
        why = ""
        if path.is_dir():
            why = " A folder of class folders has its images in the folders, and none beside them or with a caption."
        raise EvaluationError("nothing_usable", f"{path}: none of its rows can be used ({codes}).{why}")
    return records, rejected


def _label_column(path: Path) -> str | None:
    if path.suffix.lower() not in TABLE_EXTENSIONS or not path.is_file():
        return None
    by_name = _by_name(path)
    return next((by_name[name] for name in LABEL_COLUMNS if name in by_name), None)


def _has_captions(path: Path) -> bool:
    """Whether a table has a column of captions, beside its labels or without any."""
    is_table = path.suffix.lower() in TABLE_EXTENSIONS and path.is_file()
    return is_table and any(name in _by_name(path) for name in USUAL.caption)


def _by_name(path: Path) -> dict[str, str]:
    return {column.strip().lower(): column for column in reversed(columns(path)[0])}


def _is_class_folder(path: Path) -> bool:
    """Images in folders, none beside the folders, and none with a caption of its name: other texts say nothing."""
    if not path.is_dir():
        return False
    every = [(file, file.suffix[1:].lower()) for file in path.rglob("*") if not _is_hidden(file, path)]
    images = [file for file, extension in every if extension in IMAGE_EXTENSIONS and file.is_file()]
    captions = {file.with_suffix("") for file, extension in every if extension in PLAIN_EXTENSIONS}
    return bool(images) and not any(file.parent == path or file.with_suffix("") in captions for file in images)


def _class_folder(path: Path) -> list[Record]:
    """Every image with its class: the name of the first folder under `path`, an underscore read as a space."""
    limit = ReaderOptions().max_image_bytes
    folders: dict[str, str] = {}  # by class
    records = []
    for file in sorted(path.rglob("*")):
        if file.suffix[1:].lower() not in IMAGE_EXTENSIONS or _is_hidden(file, path):
            continue
        inside = file.relative_to(path)
        folder, source = readable(inside.parts[0]), readable(inside.as_posix())
        name = folder.replace("_", " ").strip()
        if folders.setdefault(name, folder) != folder:
            both = f"the folders {folders[name]!r} and {folder!r} are both the class {name!r}"
            raise invalid(str(path), f"{both}: join or rename one")
        records.append(Record(key=source, caption=name, image=partial(read_file, file, limit), source=source))
    return records


def _is_hidden(file: Path, root: Path) -> bool:
    """Whether it or a folder between it and `root` is: `._x.jpg` is what macOS keeps beside x.jpg."""
    return any(part.startswith(".") for part in file.relative_to(root).parts)
