"""What a build is asked to do. Imports of ours: errors.py, template_turns.py, and what memory may be asked."""

import sys
from dataclasses import dataclass
from pathlib import Path

from memory import DUPLICATE_COSINE, IndexOptions
from memory.stores import SCHEMES
from memory_builder.errors import ConfigError
from memory_builder.template_turns import CaptionTemplates, folder_templates

MAX_UNIT_ROWS = 65_536
DECODING = ("auto", "threads", "processes")


@dataclass(frozen=True)
class BuildConfig:
    """Settings of one build, checked when made.

    Attributes:
        corpora: paths as the user wrote them; globs, braces and list files are expanded (readers/corpora.py).
        memory: directory of the memory; made if absent, grown if it is one.
        unit_rows: rows done or not done as one; what a crash can cost. Up to 65,536.
        batch_size: images, then captions, in one call of the encoder. Another size gives the same rows up to
            rounding.
        workers: images decoded (on a CPU: decoded and encoded) at the same time; 0 means one for each core. The result
            does not depend on it.
        decoding: where images are decoded: `threads`, `processes`, or `auto`: threads for a CPU, processes for an
            accelerator.
        thumbnail_px: longer side of the stored thumbnails; 0 stores none.
        max_error_rate: share of rejected rows, 0 to 1, beyond which the build stops without a version.
        max_segment_rows: a segment is closed before it would hold more.
        max_characters: longest caption, as in models.texts.checking.TextLimits.
        image_columns, caption_column, key_column: of tables; where none is named, the first two are found by their
            usual names, and keys are made from paths. Of several columns of images, each gives pairs of its own.
        folder_templates: of folders: the caption of an image that has none beside it, with one `{}` for the name of
            the folder that it lies in. Of several each image has one, by template_turns.py.
        caption_templates: of tables: what captions are made of, with names of columns between braces and {} for the
            caption column, as caption_template.py has it. Of several each pair has one.
        upsert: a row whose key the memory holds with another image or caption replaces it; otherwise it is rejected.
            The whole corpus is compared again, whatever was published of it.
        restore_removed: add items again that were removed from the memory; otherwise they stay out.
        index: what the index is to be; None leaves it as it was, or as its size asks for.
        retry_failed: read again the units that have rejected rows, and store what can be stored now.
        near_duplicates: cosine of two images from which on the later one is reported; 0 looks for none. All are stored.
        stamps: where the memory notes which of its files it has hashed on this host
            (memory.default_stamp_directory); None hashes a memory that is grown every time.
        allow_remote: schemes of object stores whose addresses `corpora` may name, of memory.stores.SCHEMES.

    Raises:
        ConfigError: naming the setting that is out of range.
    """

    corpora: tuple[str, ...]
    memory: Path
    unit_rows: int = 8192
    batch_size: int = 64
    workers: int = 0
    decoding: str = "auto"
    thumbnail_px: int = 96
    max_error_rate: float = 0.05
    max_segment_rows: int = 1_000_000
    max_characters: int = 2000
    image_columns: tuple[str, ...] = ()
    caption_column: str | None = None
    key_column: str | None = None
    folder_templates: tuple[str, ...] = ()
    caption_templates: tuple[str, ...] = ()
    upsert: bool = False
    restore_removed: bool = False
    index: IndexOptions | None = None
    retry_failed: bool = False
    near_duplicates: float = DUPLICATE_COSINE
    stamps: Path | None = None
    allow_remote: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ranges = {
            "unit_rows": (1, MAX_UNIT_ROWS),
            "batch_size": (1, 65_536),
            "workers": (0, 1024),
            "thumbnail_px": (0, 1024),
            "max_error_rate": (0, 1),
            "near_duplicates": (0, 1),
            "max_segment_rows": (1, 2**31 - 1),
            "max_characters": (1, 1_000_000),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}: give a number from {low} to {high}.")
        if self.decoding not in DECODING:
            raise ConfigError(f"decoding is {self.decoding!r}: it is one of {', '.join(DECODING)}.")
        if self.decoding == "processes" and sys.platform != "linux":
            raise ConfigError("decoding is 'processes', which share memory as Linux has it: use threads here.")
        folder_templates(self.folder_templates)
        CaptionTemplates.parse(self.caption_templates, self.caption_column)
        for scheme in self.allow_remote:
            if scheme not in SCHEMES:
                raise ConfigError(f"{scheme!r} cannot be allowed: choose of {', '.join(SCHEMES)}.")
        if not self.corpora:
            raise ConfigError("No corpus was named: give at least one folder, table or tar.")
