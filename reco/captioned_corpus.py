"""A corpus as pairs to fine-tune an encoder on: rows from the builder's readers, checked as the builder does.

What `models.training` may not know of corpora ends here. Imports memory_builder and models.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from memory_builder.readers import ReaderOptions, open_reader
from memory_builder.readers.corpora import expand_paths
from memory_builder.readers.formats import check_options
from memory_builder.records import Record, Rejected, RowRejected
from models.errors import InputError, TextError
from models.images.preprocessor import Preprocessor
from models.sources.opening import OpenedModel
from models.texts.checking import check_text
from models.texts.tokenizer import Tokenizer
from models.training.dataset.entities import NO_ENTITY, by_caption, by_names
from models.training.dataset.groups import number_joined
from models.training.dataset.split import choose_keys, hold_out
from models.training.finetuning.pictures import CaptionedPictures, Pictures, PixelCodec

UNUSABLE = -1
_UNIT_ROWS = 8192
_WINDOW = 256  # pictures that are decoded ahead
THREADS = 4

Told = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""


@dataclass(frozen=True)
class Selection:
    """Which pairs to train on and which to validate on, and which show the same thing.

    Attributes:
        training, validation: patterns of keys, as in `models.training.dataset.split`.
        names: pairs whose captions mention the same one are right for each other; without, those with equal captions
            are. Captions of one picture always are.
    """

    training: list[str] = field(default_factory=lambda: ["*"])
    validation: list[str] = field(default_factory=list)
    names: Sequence[str] = ()
    seed: int = 0


@dataclass(frozen=True)
class Lessons:
    """The two parts of a corpus, and how many rows of it could not be used, by code."""

    training: CaptionedPictures
    validation: CaptionedPictures
    rejected: Counter[str]


def read_rows(corpora: Sequence[str], options: ReaderOptions) -> tuple[list[Record], Counter[str]]:
    """The rows with a usable caption, each key once; pictures are not read.

    Raises:
        CorpusError: a corpus cannot be read.
        ConfigError: captions from folders where there is none.
        ValueError: no row can be used.
    """
    records, rejected = dict[str, Record](), Counter[str]()
    paths = expand_paths(corpora)
    check_options(paths, options)
    for path in paths:
        reader = open_reader(path, options)
        for row in (row for piece in reader.pieces(_UNIT_ROWS) for row in reader.read(piece)):
            if isinstance(row, Rejected):
                rejected[row.code] += 1
            elif row.key in records:
                rejected["duplicate_key"] += 1
            else:
                try:
                    records[row.key] = Record(row.key, check_text(row.caption), row.image, row.source)
                except TextError as error:
                    rejected[error.code] += 1
    if not records:
        raise ValueError(f"no pair can be used: {_listed(rejected)}")
    return list(records.values()), rejected


def read_lessons(
    records: Sequence[Record],
    opened: OpenedModel,
    selection: Selection,
    told: Told | None = None,
) -> Lessons:
    """Decode the pictures of the selected pairs, tokenize their captions.

    Raises:
        ValueError: too few pairs are selected or usable, or there are no names.
    """
    chosen, held_out = choose_keys([record.key for record in records], selection.training, selection.validation)
    named, everyone = (None, chosen) if held_out is None else (len(chosen), np.concatenate([chosen, held_out]))
    records = [records[place] for place in everyone]
    captions = [record.caption for record in records]
    shows = _shows(captions, selection.names)
    tokens, refused = _tokenize(captions, opened)
    preprocess = Preprocessor(opened.model.visual.preprocess_cfg)  # type: ignore[union-attr, arg-type]
    codec = PixelCodec(preprocess.record)

    def load(number: int) -> torch.Tensor:
        return codec.pack(preprocess(records[number].image()))

    pictures = Pictures(load, len(records), threads=THREADS)
    picture, rejected = _decode(load, pictures, told or (lambda _done, _total: None))
    usable = (picture != UNUSABLE) & ~refused
    rejected["text_special_token"] += int(refused.sum())
    try:
        both = _parts(usable, named, captions, picture, selection.seed)
    except ValueError as error:
        raise ValueError(f"{error} ({_listed(rejected)})") from error
    right = torch.from_numpy(np.stack([shows, picture]))
    everything = CaptionedPictures(pictures, tokens, right, torch.arange(len(records)), codec)
    return Lessons(everything.part(both[0]), everything.part(both[1]), +rejected)


def _parts(
    usable: NDArray[np.bool_], named: int | None, captions: list[str], picture: NDArray[np.int64], seed: int
) -> Sequence[NDArray[np.int64]]:
    """Places of the usable pairs to train and to validate on: the first `named` and the others, or as they are drawn.

    Raises:
        ValueError: too few are usable.
    """
    places = np.flatnonzero(usable)
    if named is None:
        group = by_caption(captions)
        group[places] = number_joined(group[places], picture[places])
        return hold_out(places, group, seed)
    both = places[places < named], places[places >= named]
    for part, name in zip(both, ("train", "validate"), strict=True):
        if len(part) < 2:
            raise ValueError(f"{len(part)} usable pairs to {name} on, at least two are needed")
    return both


def _tokenize(captions: list[str], opened: OpenedModel) -> tuple[torch.Tensor, NDArray[np.bool_]]:
    """Tokens (N, L), and which captions the tokenizer refuses."""
    tokenizer = Tokenizer(opened.tokenizer, opened.tokenizer.context_length)
    tokens = torch.zeros(len(captions), tokenizer.context_length, dtype=torch.long)
    refused = np.zeros(len(captions), dtype=bool)
    for row, caption in enumerate(captions):
        try:
            tokens[row] = tokenizer([caption]).ids[0]
        except TextError:
            refused[row] = True
    return tokens, refused


def _decode(
    load: Callable[[int], torch.Tensor], pictures: Pictures, told: Told
) -> tuple[NDArray[np.int64], Counter[str]]:
    """Decode every picture once and keep what there is room for.

    Returns:
        (N,) int64, equal for equal pictures, `UNUSABLE` for those that cannot be used; and why they cannot.
    """
    seen, rejected = dict[bytes, int](), Counter[str]()
    same = np.full(len(pictures), UNUSABLE)
    window: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(len(pictures) + _WINDOW):
            if number < len(pictures):
                window.append(pool.submit(load, number))
            place = number - _WINDOW
            if place < 0 or not window:
                continue
            try:
                pixels = window.popleft().result()
                pictures.keep(place, pixels)
                same[place] = seen.setdefault(sha256(pixels.numpy().tobytes()).digest(), place)
            except (InputError, RowRejected) as error:
                rejected[error.code] += 1
            told(place + 1, len(pictures))
    return same, rejected


def _shows(captions: list[str], names: Sequence[str]) -> NDArray[np.int64]:
    """(N,): pairs of one number show the same thing; those that mention no name are told apart by their caption."""
    by_text = by_caption(captions)
    if not names:
        return by_text
    by_name = by_names(captions, names)
    return np.where(by_name == NO_ENTITY, by_text + by_name.max() + 1, by_name)


def _listed(rejected: Counter[str]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in sorted(rejected.items())) or "no row was refused"
