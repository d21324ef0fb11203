"""Tail latency of a query that waits for every one of S servers, without and with a hedged second request: simulated.

    python -m benchmarks.fan_out

A server answers in a lognormal time (median 5 ms, p99 14 ms) and in one of a hundred cases ten times slower, as a
machine that is swapping, compacting or collecting does. Hedged: what has not answered at the 95th percentile of one
server is asked of its replica too, and the earlier answer counts. Nothing here is measured; it says what to expect.
"""

import json
import sys

import numpy as np
from numpy.typing import NDArray

SERVERS = (1, 4, 16, 64, 256)
_MEDIAN_MS, _SIGMA, _STALL, _STALL_SHARE = 5.0, 0.45, 10.0, 0.01
_QUERIES = 20_000


def simulate() -> dict[str, dict[str, float]]:
    """By number of servers: p50 and p99 (ms), hedged or not, and the share of requests that hedging adds."""
    dice = np.random.default_rng(0)
    delay = float(np.quantile(_answers(dice, 200_000), 0.95))
    found = {}
    for servers in SERVERS:
        first = _answers(dice, _QUERIES * servers).reshape(_QUERIES, servers)
        late = first > delay
        second = np.full_like(first, np.inf)
        second[late] = delay + _answers(dice, int(late.sum()))
        plain, hedged = first.max(axis=1), np.minimum(first, second).max(axis=1)
        found[str(servers)] = {
            "p50_ms": round(float(np.quantile(plain, 0.5)), 1),
            "p99_ms": round(float(np.quantile(plain, 0.99)), 1),
            "hedged_p50_ms": round(float(np.quantile(hedged, 0.5)), 1),
            "hedged_p99_ms": round(float(np.quantile(hedged, 0.99)), 1),
            "more_requests": round(float(late.mean()), 3),
        }
    return found


def _answers(dice: np.random.Generator, count: int) -> NDArray[np.float64]:
    times = _MEDIAN_MS * np.exp(_SIGMA * dice.standard_normal(count))
    times[dice.random(count) < _STALL_SHARE] *= _STALL
    return times


if __name__ == "__main__":
    json.dump(simulate(), sys.stdout, indent=1)
