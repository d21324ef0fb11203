"""One line per request, as JSON or text, without bodies, query strings, file names or addresses.

Standard library only.
"""

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any, Literal

access = logging.getLogger("reco.access")

_FIELDS = "request_fields"


def log_request(**fields: str | int | float | None) -> None:
    """Write the line of one request; all fields are our own words and numbers."""
    access.info("request", extra={_FIELDS: fields})


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
        return json.dumps(line, ensure_ascii=True, default=str)


class TextFormatter(logging.Formatter):
    """A record for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        fields = getattr(record, _FIELDS, {})
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        return f"{super().formatMessage(record)} {shown}".rstrip()


def logging_config(log_format: Literal["text", "json"]) -> dict[str, Any]:
    """A `logging.config.dictConfig` for the process; uvicorn's own access log is silent, ours replaces it."""
    formatter = {"()": JsonFormatter if log_format == "json" else TextFormatter}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            "reco": {"level": "INFO"},
            "uvicorn": {"level": "INFO"},
            "uvicorn.access": {"level": "CRITICAL"},
        },
    }
