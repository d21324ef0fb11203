"""The two builds: of a corpus, which is encoded, and of cached embeddings, which are taken over. What a program calls.

Chooses readers and mapper; the runner does the rest for both alike, and planning/forecast.py tells what it will take.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memory import latest_version
from memory_builder.config import BuildConfig
from memory_builder.embeddings import EmbeddingsReader, Importer, Origin, open_source
from memory_builder.embeddings.reader import check_same_dim
from memory_builder.encoding.mapper import open_mapper
from memory_builder.engines import Engine, LocalEngine
from memory_builder.errors import ConfigError, NothingUsable
from memory_builder.planning.first_look import FirstLook, found_by_name, look_at
from memory_builder.planning.forecast import Forecast, forecast
from memory_builder.planning.sharing import Share, ShareResult
from memory_builder.planning.task import Task
from memory_builder.readers import Reader, ReaderOptions, open_reader
from memory_builder.readers.corpora import check_there, expand, expand_paths
from memory_builder.readers.formats import check_options, check_template
from memory_builder.records import Row
from memory_builder.reporting.build_result import BuildResult
from memory_builder.reporting.progress import Progress, Silent
from memory_builder.runner import do_share, run
from memory_builder.template_turns import CaptionTemplates, folder_templates

if TYPE_CHECKING:
    from models.encoder import Encoder


def build(
    config: BuildConfig, encoder: "Encoder", progress: Progress | None = None, *, engine: Engine | None = None
) -> BuildResult:
    """Build a memory from a corpus, or add to one what is new.

    Stopped or killed at any moment, the same call goes on from the last finished unit and ends in the same
    contents, whatever engine does the rest.

    Args:
        config: what to build of what.
        encoder: makes the embeddings here; an engine of other machines opens the same one there.
        progress: is told what happens.
        engine: does the units; this process by default.

    Raises:
        MemoryBuilderError: the corpus, the place or the rows; see errors.py.
        memory.MemoryStoreError: locked, encoder_mismatch, version_taken, write_failed, or a damaged memory.
        models.errors.EncoderError: the encoder is unusable.
    """
    shown = progress or Silent()
    try:
        shown.stage("plan")
        # A wrong path is told before a directory is made for the memory.
        return run(config, _encoding(config, encoder), engine or LocalEngine(), shown)
    finally:
        shown.done()


def build_share(config: BuildConfig, encoder: "Encoder", share: Share, progress: Progress | None = None) -> ShareResult:
    """Finish a worker's share of the units of a build, beside other workers on the same file system.

    Nothing is published: when all workers have ended, `build` with the same config does what is missing, which is
    little or nothing, and commits. Each worker's machine must encode alike: same kind of device, dtype and threads.

    Raises:
        MemoryBuilderError, memory.MemoryStoreError, models.errors.EncoderError: as `build`.
    """
    shown = progress or Silent()
    try:
        shown.stage("plan")
        return do_share(config, _encoding(config, encoder), LocalEngine(), shown, share)
    finally:
        shown.done()


def forecast_build(config: BuildConfig, encoder: "Encoder") -> Forecast:
    """Tell what `build` would take; nothing is written.

    Raises:
        MemoryBuilderError, models.errors.EncoderError: as `build`.
    """
    return forecast(config, _encoding(config, encoder))


def open_embeddings(config: BuildConfig) -> list[EmbeddingsReader]:
    """Open cached embeddings: `corpora` are folders as clip-retrieval writes them, or .npz files. Headers are read.

    Raises:
        CorpusError: one is not what is expected, or they are not of one D.
        ConfigError: captions are to be made anew, or columns are named where there are none.
    """
    if config.caption_templates:
        raise ConfigError(
            "caption_template is for images that are encoded with their captions: the texts of cached embeddings were "
            "encoded before, and other captions would not be what their embeddings say."
        )
    options = _reader_options(config)
    paths = expand_paths(config.corpora)
    useless = ["image_columns", "folder_templates"]
    if paths and not any(path.is_dir() for path in paths):
        useless += ["caption_column", "key_column"]
    asked = [name for name in useless if getattr(config, name)]
    if asked:
        raise ConfigError(
            f"{' and '.join(asked)}: cached embeddings have no images, and only folders with metadata have columns. "
            "Leave it out."
        )
    readers = [open_source(path, options) for path in paths]
    for reader in readers:
        check_same_dim((readers[0].name, readers[0].embed_dim), (reader.name, reader.embed_dim))
    return readers


def build_from_embeddings(
    config: BuildConfig, readers: Sequence[EmbeddingsReader], origin: Origin, progress: Progress | None = None
) -> BuildResult:
    """Build a memory from cached embeddings, or add to one what is new; no model runs.

    Args:
        config: as for `build`; what concerns images and the encoder is not used.
        readers: from `open_embeddings`.
        origin: the encoder that made them.

    Raises:
        MemoryBuilderError, memory.MemoryStoreError: as `build`.
    """
    shown = progress or Silent()
    try:
        shown.stage("plan")
        return run(config, _importing(config, readers, origin), LocalEngine(), shown)
    finally:
        shown.done()


def forecast_from_embeddings(config: BuildConfig, readers: Sequence[EmbeddingsReader], origin: Origin) -> Forecast:
    """Tell what `build_from_embeddings` would take; nothing is written.

    Raises:
        MemoryBuilderError: as `build_from_embeddings`.
    """
    return forecast(config, _importing(config, readers, origin))


def check_corpora(config: BuildConfig) -> FirstLook:
    """Refuse a name of nothing, and rows of which none can be stored, before an encoder is opened: that takes seconds.

    Lists are not read, object stores not asked, and patterns tried no further than their first match: that is the
    build's to do, once.

    Raises:
        CorpusError: as `build`.
        ConfigError: captions from folders where there is none.
        NothingUsable: a small corpus of broken rows.
    """
    first = [source for source in check_there(config.corpora) if source.suffix.lower() != ".txt"]
    options = _reader_options(config)
    if len(first) >= len(config.corpora):  # else a list, or a store, may hold anything
        check_options(first, options)
    for source in first:
        check_template(source, options)
    opened = list[Reader[Row]]()

    def readers() -> Iterator[Reader[Row]]:
        for source in first:
            opened.append(open_reader(source, options))
            yield opened[-1]

    look = look_at(readers())
    columns = dict.fromkeys(told for reader in opened if (told := found_by_name(reader, options)))
    look = replace(look, columns=tuple(columns))
    if look.warning is None:
        return look
    all_seen = (look.complete or look.hopeless) and all(Path(corpus) in first for corpus in config.corpora)
    if all_seen and latest_version(config.memory) is None:
        raise NothingUsable(look.warning, look.rejected)
    return look


def _encoding(config: BuildConfig, encoder: "Encoder") -> Task:
    options = replace(_reader_options(config), max_image_bytes=encoder.preprocess.limits.max_bytes)
    readers = [open_reader(source, options) for source in expand(config.corpora, config.allow_remote)]
    row_options = {
        "thumbnail_px": config.thumbnail_px,
        "max_characters": config.max_characters,
        "image_limits": asdict(encoder.preprocess.limits),
    }
    fingerprint = encoder.fingerprint
    mapper = open_mapper(config, encoder)
    encoded_with = {**fingerprint.encoded_with(), "model": encoder.name}
    return Task("encode", readers, mapper, row_options, fingerprint.record(), encoded_with)


def _importing(config: BuildConfig, readers: Sequence[EmbeddingsReader], origin: Origin) -> Task:
    row_options = {"max_characters": config.max_characters}
    importer = nullcontext(Importer(readers[0].embed_dim, config.max_characters))
    return Task("read", readers, importer, row_options, origin.encoder, origin.encoded_with)


def _reader_options(config: BuildConfig) -> ReaderOptions:
    return ReaderOptions(
        image_columns=config.image_columns,
        caption_column=config.caption_column,
        key_column=config.key_column,
        folder_templates=folder_templates(config.folder_templates),
        caption_templates=CaptionTemplates.parse(config.caption_templates, config.caption_column),
    )
