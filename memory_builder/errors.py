"""What stops a build, and why. This module imports nothing.

    MemoryBuilderError(code, message)   message: what was wrong, what was expected, what to do
        ConfigError                     a setting out of range                       config_invalid
        CorpusError                     a corpus that cannot be read as given
            naming it                   corpus_scheme_refused, corpus_not_found, corpus_format_unknown,
                                        corpus_pattern_invalid, corpus_name_clash
            reading it                  source_empty, source_truncated, source_changed, source_unreadable,
                                        archive_compressed, table_invalid, table_columns, embeddings_layout,
                                        embeddings_invalid, embeddings_mismatch
        OriginError                     another encoder made the embeddings         encoder_disagrees
        OutputError                     the place for the memory cannot be used      output_refused
        BuildError                      the build ended without a new version
            TooManyRejected             too_many_rejected (.rejected: rows by code)
            NothingUsable               nothing_usable (.rejected)
        WorkerLost                      a decoding process died or hung twice        worker_lost
        EngineError                     the machines cannot do the units             engine_missing, engine_unreachable,
                                        engine_empty, engine_paths, engine_version,
                                        engine_workers_lost
        BuildInterrupted                SIGTERM or SIGINT: interrupted (.signal); the same command goes on

A row that cannot be used stops nothing: it becomes a `Rejected` row with a code (records.py) and is counted.
The memory's own errors (locked, encoder_mismatch, ...) and the encoder's pass through as they are.
"""

# Refusals are named by what happened, without a suffix, as in memory/errors.py.
# ruff: noqa: N818

from collections.abc import Mapping


class MemoryBuilderError(Exception):
    """Base of what the builder raises.

    Attributes:
        code: stable, lower-case, for programs.
        message: what was wrong, what was expected, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class ConfigError(MemoryBuilderError):
    """A setting that no build can have."""

    def __init__(self, message: str) -> None:
        super().__init__("config_invalid", message)


class CorpusError(MemoryBuilderError):
    """A corpus, or one file of it, that cannot be read as it was given."""


class OriginError(MemoryBuilderError):
    """The encoder that was named did not make the embeddings."""

    def __init__(self, message: str) -> None:
        super().__init__("encoder_disagrees", message)


class OutputError(MemoryBuilderError):
    """The place named for the memory cannot be one."""

    def __init__(self, message: str) -> None:
        super().__init__("output_refused", message)


class BuildError(MemoryBuilderError):
    """The corpus was read, and no version came of it.

    Attributes:
        rejected: rejected rows by code.
    """

    def __init__(self, code: str, message: str, rejected: Mapping[str, int]) -> None:
        super().__init__(code, message)
        self.rejected = dict(rejected)


class TooManyRejected(BuildError):
    """More rows were rejected than `max_error_rate` allows."""

    def __init__(self, message: str, rejected: Mapping[str, int]) -> None:
        super().__init__("too_many_rejected", message, rejected)


class NothingUsable(BuildError):
    """Not one row of the corpus could be stored."""

    def __init__(self, message: str, rejected: Mapping[str, int]) -> None:
        super().__init__("nothing_usable", message, rejected)


class WorkerLost(MemoryBuilderError):
    """A process that decodes died or hung, and so did the one that took its batch over."""

    def __init__(self) -> None:
        super().__init__(
            "worker_lost",
            "A decoding process died or hung twice over the same batch: out of memory, or a file that breaks the "
            "decoder. Run the same command again with fewer --workers, or with --decoding threads.",
        )

    def __reduce__(self) -> tuple[type["WorkerLost"], tuple[()]]:
        # A worker of Ray sends it to the building process; exceptions are made again from what their base was given.
        return WorkerLost, ()


class EngineError(MemoryBuilderError):
    """The engine of other machines is not there, or its workers cannot do the units. Finished units stay finished."""


class BuildInterrupted(MemoryBuilderError):
    """The build was asked to stop, and stopped where it can go on.

    Attributes:
        signal: the signal's number; a command line exits with 128 + signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__("interrupted", "The build stopped as asked. Run the same command to go on from here.")
        self.signal = signal
