"""What a running service tells and does by itself: bounded metrics, logs that hold nobody up, a watched memory."""

import itertools
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from service.memory_watch import RefusedVersion
from service.observing import logs
from service.observing.logs import NonBlocking, Repeats


def series(text: str) -> set[str]:
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if line and not line.startswith("#")}


def test_X33_odd_requests_grow_no_series(serve: Any) -> None:
    with serve() as service:
        client = service.client
        client.post("/embed/text", json={"texts": "a"})
        for number in range(20):
            client.request(f"WARM{number}", f"/warm/{number}")
        client.get("/metrics")
        before = series(client.get("/metrics").text)
        for number in range(500):
            client.request(f"ODD{number}", f"/odd/{number}?x={number}", headers={"X-Request-ID": str(number)})
        after = series(client.get("/metrics").text)
        assert len(after) <= 500
        assert after == before


@pytest.mark.parametrize(
    "name",
    ['reco_queue_depth{modality="image"}', 'reco_queue_wait_seconds_count{modality="text"}',
     "reco_text_truncated_total", "reco_last_success_timestamp_seconds",
     "reco_event_loop_lag_seconds", "process_resident_memory_bytes",
     "reco_generations", "reco_reloads_total"],
)  # fmt: skip
def test_the_metrics_of_a_service_are_there(client: Any, name: str) -> None:
    client.post("/embed/text", json={"texts": "a " * 200})
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found
    assert float(found[1]) >= 0


def test_a_cut_text_is_counted(client: Any) -> None:
    def count() -> float:
        return float(re.search(r"^reco_text_truncated_total (\S+)$", client.get("/metrics").text, re.MULTILINE)[1])

    before = count()
    client.post("/embed/text", json={"texts": ["a bird " * 100, "a bird"]})
    assert count() == before + 1


def test_X32_a_log_sink_that_blocks_holds_nobody_up() -> None:
    """A process whose stderr is a full pipe that nobody reads still ends at once."""
    script = (
        "import logging, logging.config, time; from service.observing.logs import logging_config;"
        "logging.config.dictConfig(logging_config('json')); log = logging.getLogger('reco.x');"
        "start = time.monotonic();"
        "[log.info('x' * 200) for _ in range(30000)]; print(time.monotonic() - start, flush=True)"
    )
    read_end, write_end = os.pipe()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=write_end) as process:
        try:
            assert process.stdout is not None
            assert float(process.stdout.readline()) < 10
            assert process.wait(20) is not None
        finally:
            process.kill()
    os.close(read_end)
    os.close(write_end)


def test_lines_come_out_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    handler = NonBlocking()
    for number in range(100):
        handler.handle(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO}))
    end = time.monotonic() + 5
    while handler.pending and time.monotonic() < end:
        time.sleep(0.01)
    assert capfd.readouterr().err.splitlines() == [f"line {number}" for number in range(100)]


def test_a_warning_that_repeats_is_told_a_few_times_and_then_counted() -> None:
    now = [0.0]
    limited = Repeats(lambda: now[0])

    def warn(level: int = logging.WARNING) -> logging.LogRecord | None:
        record = logging.makeLogRecord({"name": "reco", "msg": "it failed: %s", "args": ("x",), "levelno": level})
        return record if limited.filter(record) else None

    assert sum(warn() is not None for _ in range(1000)) == 10
    assert all(warn(logging.INFO) is not None for _ in range(1000))
    now[0] = 61.0
    told = warn()
    assert told is not None
    assert told.getMessage() == "it failed: x (and 990 more like it before)"


def test_a_watched_memory_is_reloaded_by_itself(serve: Any, own_memory: Path, add_pair: Any, encoder: Any) -> None:
    with serve(engine=None, memory=str(own_memory), watch_memory_s=0.1) as service:
        add_pair(own_memory, encoder, "two tirrik at night", "added")
        assert served_within(service, 20) == 2


def served_within(service: Any, seconds: float) -> int:
    """The version that is served, once it is not the first any more."""
    end = time.monotonic() + seconds
    while (version := service.client.get("/memory").json()["memory_version"]) == 1 and time.monotonic() < end:
        time.sleep(0.05)
    return int(version)


def test_a_folder_that_cannot_be_read_for_a_while_ends_no_watch(
    serve: Any, own_memory: Path, add_pair: Any, encoder: Any
) -> None:
    manifests, away = own_memory / "manifests", own_memory / "away"
    with serve(engine=None, memory=str(own_memory), watch_memory_s=0.1) as service:
        manifests.rename(away)
        manifests.symlink_to(manifests)  # ELOOP, as an NFS volume says ESTALE
        end = time.monotonic() + 10
        while "reco_watch_failures_total 0.0" in service.client.get("/metrics").text and time.monotonic() < end:
            time.sleep(0.05)
        assert service.client.get("/readyz").status_code == 200
        manifests.unlink()
        away.rename(manifests)
        add_pair(own_memory, encoder, "two tirrik at night", "added")
        assert served_within(service, 20) == 2


def test_a_version_that_was_refused_is_tried_again(serve: Any, own_memory: Path, add_pair: Any, encoder: Any) -> None:
    with serve(engine=None, memory=str(own_memory), watch_memory_s=0.1) as service:
        origin = shutil.copytree(own_memory, own_memory.with_name("origin"))
        add_pair(origin, encoder, "two tirrik at night", "added")
        for part in ("indexes", "manifests"):  # a volume that shows the segment later
            shutil.copytree(origin / part, own_memory / part, dirs_exist_ok=True)
        end = time.monotonic() + 10
        while service.client.get("/readyz").json().get("reload_failure") is None and time.monotonic() < end:
            time.sleep(0.05)
        assert service.client.get("/readyz").json()["reload_failure"] == "file_missing"
        shutil.copytree(origin / "segments", own_memory / "segments", dirs_exist_ok=True)
        assert served_within(service, 20) == 2


def test_what_stays_refused_is_tried_ever_more_rarely() -> None:
    refused, now = RefusedVersion(10.0), 0.0
    tried = []
    while now < 100_000:
        if refused.may_try(7, now):
            tried.append(now)
            refused.note(7, now)
        now += 10.0
    assert tried[:5] == [0.0, 20.0, 60.0, 140.0, 300.0]
    assert all(later - sooner <= 3600 for sooner, later in itertools.pairwise(tried))
    assert len(tried) < 40
    assert refused.may_try(8, now), "another version is tried at once"


def test_a_line_that_cannot_be_written_costs_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    handler = NonBlocking()
    for message, args in (("one", ()), ("%d", ("no number",)), ("three", ())):
        handler.handle(logging.makeLogRecord({"msg": message, "args": args, "name": "reco", "levelno": logging.INFO}))
    end = time.monotonic() + 5
    while handler.pending and time.monotonic() < end:
        time.sleep(0.01)
    assert capfd.readouterr().err.splitlines() == ["one", "a line of reco cannot be written: TypeError", "three"]


def test_a_warning_does_not_wait_for_lines_to_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_GATHER_S", 60.0)
    handler = NonBlocking()
    for level in (logging.INFO, logging.WARNING):
        handler.handle(logging.makeLogRecord({"msg": "x", "levelno": level}))
        end = time.monotonic() + 5
        while handler.pending:
            assert time.monotonic() < end
            time.sleep(0.01)
