"""work/build-log.jsonl: when which unit was finished. Not durable and never hashed: clocks belong nowhere else."""

import json
import time
from pathlib import Path

from memory.format.work_files import BUILD_LOG


def log_unit(root: Path, unit_id: str, rows: int, seconds: float) -> None:
    """Note a finished unit; workers may do so at the same time."""
    line = {"time": round(time.time(), 3), "unit": unit_id, "rows": rows, "seconds": round(seconds, 3)}
    with (root / BUILD_LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
