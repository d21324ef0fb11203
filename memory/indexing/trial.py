"""Trying an index out before it gets its name: the recall of each setting, and the cheapest that is good enough."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.format.families import Family
from memory.format.manifest import SearchParameters, shard_name
from memory.indexing.faiss_files import open_shard, open_trained
from memory.indexing.list_search import ListSearch, ListShard
from memory.indexing.measuring import Asked, Cost, Setting, ask, choose_setting, measure
from memory.indexing.narrowing import narrow
from memory.indexing.reports import measured_report
from memory.indexing.timing import single_query_ms
from memory.searching.stored_rows import StoredRows

ACROSS: Final = 128  # queries of the other modality: told, nothing is chosen by them, and each costs a scan
_UNUSED: Final = SearchParameters(nprobe=1, num_candidates=1)  # every search of a trial names its own


class Trial(NamedTuple):
    """Files of an index that are to be tried out.

    Attributes:
        directory: where they are.
        family: what they are.
        shard_rows: rows of each shard, in order.
    """

    directory: Path
    family: Family
    shard_rows: tuple[int, ...]


def try_out(
    trial: Trial, rows: StoredRows, others: StoredRows, held_out: NDArray[np.int64], wanted: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """Measure an index by queries it was not trained on.

    Args:
        trial: the index.
        rows: what it is of.
        others: the rows of the other modality: queries across, about `ACROSS` of those held out.
        held_out: ids of the rows to query with.
        wanted: the recall to reach.

    Returns:
        As `reports.measured_report`, which is the same on every run; and as `timing.single_query_ms`, which is not.
    """
    search = _open(trial, rows)
    asked = ask(rows, rows.take(held_out).astype(np.float32), held_out)
    across = ask(rows, others.take(held_out[:: max(1, len(held_out) // ACROSS)]).astype(np.float32), None)
    cost = Cost(len(rows) / trial.family.lists * trial.family.code_bytes, 2 * rows.embed_dim)
    settings = _settings(search, asked, trial.family.lists, wanted, cost)
    chosen = choose_setting(settings, wanted, cost)
    if narrower := narrow(search, asked, chosen, wanted):
        settings.append(narrower)
        chosen = narrower
    [cross] = measure(search, across, chosen.nprobe, [chosen.num_candidates], margin=chosen.margin)
    told = measured_report(
        rows=len(rows), queries=len(held_out), chosen=chosen, cross=cross, across=len(across.queries), settings=settings
    )
    return told, single_query_ms(search, asked.queries, chosen.parameters)


def _settings(search: ListSearch, asked: Asked, lists: int, wanted: float, cost: Cost) -> list[Setting]:
    """Recall of 1, 2, 4 … lists, to one step beyond what is wanted if more lists and fewer candidates could cost less.

    And half a step before the fewest lists that find enough: a step doubles what a query costs.
    """
    settings: list[Setting] = []
    nprobe, cheapest = 1, math.inf  # of those that find enough
    while True:
        tried = measure(search, asked, nprobe)
        settings += tried
        if nprobe == lists or cheapest < math.inf:
            break
        cheapest = min((cost.of(setting) for setting in tried if setting.assured >= wanted), default=math.inf)
        nprobe = min(lists, 2 * nprobe)
        if cost.of(replace(tried[0], nprobe=nprobe)) >= cheapest:
            break
    fewest = min((setting.nprobe for setting in settings if setting.assured >= wanted), default=1)
    if fewest > 2:
        settings += measure(search, asked, fewest - fewest // 4)
    return sorted(settings, key=lambda setting: (setting.nprobe, setting.num_candidates))


def _open(trial: Trial, rows: StoredRows) -> ListSearch:
    trained = open_trained(trial.directory / "trained.faiss", trial.family)
    shards, base_row = [], 0
    for position, count in enumerate(trial.shard_rows):
        index = open_shard(trial.directory / shard_name(position), trial.family, trained, rows=count)
        shards.append(ListShard(index, base_row, None))
        base_row += count
    return ListSearch(trained, shards, rows, num_items=len(rows), parameters=_UNUSED)
