"""Raw images: a folder of class folders, a table with labels, or pairs in any form that `reco build` reads.

Everything is read by memory_builder's readers and encoded as a memory's items are. Shapes: N images, C classes.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.forms import Kind
from evaluation.prompts import PROMPT_SETS, check_names
from evaluation.tasks.class_folders import class_of, find_folders, read_folders
from evaluation.tasks.encoding import Report, encode_texts, encode_usable
from evaluation.tasks.raw_pairs import pairs_task
from evaluation.tasks.task import EvalTask, check_classes, split_classes
from evaluation.zero_shot import ZeroShotTask
from memory_builder.errors import CorpusError
from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.readers.corpora import corpus_name
from memory_builder.readers.table import TABLE_EXTENSIONS, USUAL
from memory_builder.readers.table_lines import columns
from memory_builder.records import Record, Rejected
from models.encoder import Encoder
from models.errors import EncoderError, TextError
from models.texts.checking import check_text
from models.texts.prompts import class_means, compose

LABEL_COLUMNS = ("label", "class")
NO_LABEL = "missing_label"
_OPTION_OF_BUILD = re.compile(r": name it with --[^.]+\.")  # which `reco eval` does not have
_COLUMNS_NEEDED = (
    "A classification needs the columns image and label (or class), a retrieval image and caption (or text, or title): "
    "rename them."
)
_UNIT_ROWS = 8192
_SHOWN = 5  # names in an error


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
        EvaluationError: encoder_needed, task_invalid, task_kind, classes_invalid, templates_invalid, nothing_usable,
            table_columns.
        CorpusError: the files cannot be read.
        EncoderError: the encoder answered with something unusable.
    """
    if options.encoder is None:
        raise EvaluationError("encoder_needed", f"{path} holds raw images: name the memory's encoder with --model.")
    folders = find_folders(path)
    if folders.images and (not folders.caption or kind in ("zero-shot", "entities")):
        records, rejected = read_folders(path), Counter[str]()
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
    read = partial(pairs_task, path, records, rejected, options.encoder, options.report)
    mixed = folders.images and folders.caption and not folders.captioned
    return _told_why(read, folders.caption) if mixed else read()


def _told_why(read: Callable[[], EvalTask], caption: str) -> EvalTask:
    """Pairs of a folder that has class folders, and a caption or a note beside some of the images."""
    why = (
        f"It was read as pairs, for {caption} stands beside an image: take it away for a classification by folder, or "
        "say --kind zero-shot."
    )
    try:
        task = read()
    except EvaluationError as error:
        raise EvaluationError(error.code, f"{error.message} {why}") from error
    return replace(task, notes=(*task.notes, why))


def _classification(
    path: Path, records: list[Record], rejected: Counter[str], options: RawOptions, kind: Kind | None
) -> EvalTask:
    encoder = options.encoder
    assert encoder is not None, "read_raw refuses raw images without an encoder"
    records, blank = _with_labels(records)
    rejected = rejected + blank
    if not records:
        raise EvaluationError("nothing_usable", f"{path}: none of its rows has a label.")
    classes, unseen_names = options.classes, options.unseen
    if path.is_dir():  # as its folders are read
        classes, unseen_names = ([class_of(name) for name in names] for names in (classes, unseen_names))
    names = sorted({record.caption for record in records} | set(classes))
    check_names(names)
    if kind == "entities" and not unseen_names:
        raise EvaluationError("task_kind", f"{path} does not say which entities are unseen: name them with --unseen.")
    unknown = sorted(set(unseen_names) - set(names))
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        nearest = f" The nearest of its classes is {near[0]!r}." if near else f" Its classes: {_some(names)}."
        raise EvaluationError("classes_invalid", f"{path} has no class {unknown[0]!r}, which --unseen names.{nearest}")
    number = {name: position for position, name in enumerate(names)}
    check_classes(np.array([number[record.caption] for record in records], dtype=np.int64), len(names), str(path))
    images = encode_usable(path, records, encoder, options.report)
    kept = [records[row] for row in images.kept]
    labels = np.array([number[record.caption] for record in kept], dtype=np.int64)
    prompts = encode_texts(_prompts(names, options.templates), encoder, options.report)
    try:
        class_texts = class_means(prompts, len(options.templates))
    except EncoderError as error:
        raise EvaluationError("templates_invalid", f"{error.message}: use fewer templates.") from error
    seen = unseen = None
    if unseen_names and kind != "zero-shot":
        ids = np.array([number[name] for name in unseen_names], dtype=np.int64)
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


def _read(path: Path, label_column: str | None) -> tuple[list[Record], Counter[str]]:
    """The rows of a corpus; of a table with labels, the label stands where the caption would."""
    options = ReaderOptions(caption_column=label_column, whole_numbers=label_column is not None)
    try:
        reader = open_reader(path, options)
    except CorpusError as error:
        if error.code != "table_columns":
            raise
        found = _OPTION_OF_BUILD.sub(".", error.message)
        raise EvaluationError(error.code, f"{found} {_COLUMNS_NEEDED}") from error
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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
