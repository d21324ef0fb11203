"""One line per request, as JSON or text, without bodies, query strings, file names or addresses.

Many refusals together are told by a few lines and their number. Depends on orjson. A sink that blocks (a full pipe)
holds nobody up: lines wait in a bounded queue for a thread, and are dropped beyond it. A warning that repeats is told a
few times and then counted.
"""

import asyncio
import atexit
import json
import logging
import logging.config
import queue
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

access = logging.getLogger("reco.access")

_FIELDS = "request_fields"
_QUEUED_LINES: Final = 10_000
_TOGETHER: Final = 500  # lines of one write
_GATHER_S: Final = 0.05  # between two writes, unless a line is a warning or worse
_FLUSH_S: Final = 1.0
_REFUSALS, _REFUSALS_S = 10, 1.0  # lines of one kind of refusal, and in how long
_REPEATS, _REPEATS_S, _TEXTS = 10, 60.0, 1000  # of one message, from warnings on; messages kept in mind


def log_request(**fields: str | int | float | None) -> None:
    """Write the line of one request; all fields are our own words and numbers."""
    if access.isEnabledFor(logging.INFO):  # `access.info` would also look up who calls it
        record = logging.LogRecord(access.name, logging.INFO, __file__, 0, "request", (), None)
        setattr(record, _FIELDS, fields)
        access.handle(record)


class RefusalLog:
    """Log lines of refusals: of each kind some a second, and then how many more there were.

    A service that sheds thousands of requests a second would spend on their lines what it saves by shedding. Used on
    the event loop, so nothing is locked.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[object, object], int] = {}  # in this second, by endpoint and code
        self._counting = False

    def log(self, **fields: str | int | float | None) -> None:
        """Write the line of a refused request, or count it."""
        loop = asyncio.get_running_loop()
        if not self._counting:
            self._counting = True
            loop.call_later(_REFUSALS_S, self._sum_up)
        kind = fields["endpoint"], fields["code"]
        told = self._told[kind] = self._told.get(kind, 0) + 1
        if told <= _REFUSALS:
            log_request(**fields)

    def _sum_up(self) -> None:
        for (endpoint, code), count in self._told.items():
            if count > _REFUSALS:
                access.info(
                    "more requests refused",
                    extra={_FIELDS: {"endpoint": endpoint, "code": code, "count": count - _REFUSALS}},
                )
        self._told.clear()
        self._counting = False


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            text = orjson.dumps(line, default=str).decode()
        except orjson.JSONEncodeError:  # a lone surrogate
            text = ""
        return text if text and text.isascii() else json.dumps(line, ensure_ascii=True, default=str)


def json_line(logger: str, message: str) -> str:
    """A line of the log before logging is set up, which is in the server's own hands."""
    return JsonFormatter().format(logging.LogRecord(logger, logging.INFO, __file__, 0, message, (), None))


class TextFormatter(logging.Formatter):
    """A record for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        fields = getattr(record, _FIELDS, {})
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        return f"{super().formatMessage(record)} {shown}".rstrip()


class NonBlocking(logging.StreamHandler[Any]):
    """Writes in a thread of its own, and together what comes within a moment.

    Each write is a system call, and each waking of the thread takes the interpreter's lock from whoever has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0
        self._queued = self._written = 0
        self._lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self._pressing = threading.Event()
        threading.Thread(target=self._write, name="reco-log", daemon=True).start()
        atexit.register(self._finish)

    @property
    def pending(self) -> int:
        """Lines that are not written yet."""
        return self._queued - self._written

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it."""
        if self.pending >= _QUEUED_LINES:
            self.dropped += 1
            return
        self._queued += 1
        self._lines.put(record)
        if record.levelno >= logging.WARNING:
            self._pressing.set()

    def _write(self) -> None:
        while True:
            records = [self._lines.get()]
            while len(records) < _TOGETHER and not self._lines.empty():
                records.append(self._lines.get())
            try:
                self.stream.write("".join(f"{self._line(record)}{self.terminator}" for record in records))
                self.flush()
            except Exception:
                self.handleError(records[-1])
            self._written += len(records)
            self._pressing.wait(_GATHER_S)
            self._pressing.clear()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # the lines around it are fine
            return f"a line of {record.name} cannot be written: {type(error).__name__}"

    def _finish(self) -> None:
        """Give what is queued a moment at the end of the process."""
        self._pressing.set()
        end = time.monotonic() + _FLUSH_S
        while self.pending and time.monotonic() < end:
            time.sleep(0.01)


class Repeats(logging.Filter):
    """Lets a warning or error of one text through so often a minute; a later one tells how many were not."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record."""
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        if len(self._seen) > _TEXTS:
            self._seen.clear()
        # The text before its arguments: our own words, so there are few of them.
        since_and_count = self._seen.setdefault((record.name, str(record.msg)), [now, 0])
        since, count = since_and_count
        if now - since > _REPEATS_S:
            suppressed = int(count) - _REPEATS
            if suppressed > 0:
                record.msg = f"{record.getMessage()} (and {suppressed} more like it before)"
                record.args = ()
            since_and_count[:] = [now, 1]
            return True
        since_and_count[1] = count + 1
        return count < _REPEATS


def logging_config(log_format: Literal["text", "json"]) -> dict[str, Any]:
    """A `logging.config.dictConfig` for the process; uvicorn's own access log is silent, ours replaces it."""
    formatter = {"()": JsonFormatter if log_format == "json" else TextFormatter}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "filters": {"repeats": {"()": Repeats}},
        "handlers": {"stderr": {"()": NonBlocking, "formatter": "line", "filters": ["repeats"]}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "reco": {"level": "INFO"},
            "uvicorn": {"level": "INFO"},
            "uvicorn.access": {"level": "CRITICAL"},
        },
    }
