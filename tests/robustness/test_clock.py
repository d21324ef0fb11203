"""X11: a clock that jumps by an hour or ten years, back and forth, changes no order, no rate and no deadline."""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import memory
from service.door.keys import key_line, new_key

JUMPS_S = (0, 3600, -3600, 10 * 365 * 86_400, -10 * 365 * 86_400)


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the wall jumps each time it is read; the monotonic one is what it is. Gives what was read."""
    read, real, jumps = list[float](), time.time, itertools.cycle(JUMPS_S)

    def now() -> float:
        read.append(real() + next(jumps))
        return read[-1]

    monkeypatch.setattr(time, "time", now)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * now()))
    return read


def test_X11_requests_rates_and_deadlines_do_not_feel_it(
    serve: Any, tmp_path: Path, jumping_clock: list[float]
) -> None:
    key, slow = new_key(), new_key()
    (tmp_path / "keys").write_text(f"{key_line('any', ['use'], key)}\n{key_line('slow', ['use'], slow)} rate=2\n")
    with serve(api_keys_file=str(tmp_path / "keys"), request_timeout_s=20.0) as service:

        def ask(with_key: str) -> int:
            headers = {"Authorization": f"Bearer {with_key}"}
            return service.client.post("/embed/text", json={"texts": "a tirrik"}, headers=headers).status_code

        assert {ask(key) for _ in range(30)} == {200}
        started = time.monotonic()
        statuses = [ask(slow) for _ in range(30)]
        seconds = time.monotonic() - started
    time.time()  # what was patched is what they would have read
    assert jumping_clock
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 2 * (seconds + 2.0) + 1  # rate=2, and RECO_RATE_BURST_S of it at once


def test_X11_versions_are_counted_and_dated_by_nobody(tmp_path: Path, jumping_clock: list[float]) -> None:
    digests = []
    for root in (tmp_path / "one", tmp_path / "other"):
        for version in (1, 2, 3):
            _commit(root, version)
            assert memory.latest_version(root) == version
        assert memory.list_versions(root) == [1, 2, 3]
        with memory.Memory.open(root) as opened:
            digests.append(opened.digest)
    assert digests[0] == digests[1]


def _commit(root: Path, version: int) -> None:
    rows = np.random.default_rng(version).standard_normal((20, 16))
    side = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    names = pa.array([f"{version}-{row}" for row in range(20)])
    items = pa.table([names, names, names, names, pa.nulls(20, pa.binary())], schema=memory.ITEMS_SCHEMA)
    record = memory.write_segment(root, [memory.Rows(side, side, items)], [memory.UnitRecord("unit", 20)])
    contents = memory.Contents(
        encoder=memory.undeclared_encoder("none", 16),
        encoded_with={"device": "cpu", "dtype": "float32"},
        segments=(record,),
        indexes=memory.build_indexes(root, [record]),
        parent=version - 1 or None,
    )
    memory.publish(root, contents)
