"""report.json: what an index was asked to be, what it was trained on, and the recall it was measured to have.

No clock, host or path is in it: equal memories have equal reports. Times are in timing.py.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from memory.errors import IndexOptionsInvalid, ManifestInvalid, ShardInvalid
from memory.format.families import Family
from memory.format.manifest import IndexRecord, ShardRecord, index_directory
from memory.format.plain_files import open_plain
from memory.format.strict_json import parse_object
from memory.indexing.list_search import MEASURED_K
from memory.indexing.measuring import Setting
from memory.indexing.options import IndexOptions, choose_family

GROWTH: Final = 2  # trained lists serve until the memory is this many times as large
DRIFT: Final = 1.1  # all rows this much further from their centroids than at training: the lists fit them no more


def exact_report(rows: int, options: IndexOptions) -> dict[str, Any]:
    """Of an exact index: there is nothing to measure."""
    wanted = {} if options == IndexOptions() else {"wanted": options.to_json()}
    return {"kind": "exact", "rows": rows, **wanted}


def list_report(
    family: Family,
    options: IndexOptions,
    shards: Sequence[ShardRecord],
    *,
    training: Mapping[str, Any],
    measured: Mapping[str, Any],
    similarities: Sequence[float],
) -> dict[str, Any]:
    """Of an index of lists.

    Args:
        family: what it is.
        options: what was wanted.
        shards: of the generation.
        training: `training_report`, of this generation or of the one it goes on from.
        measured: `measured_report`, likewise.
        similarities: mean similarity of each shard's rows to their centroids.
    """
    return {
        "kind": family.kind,
        "factory": family.factory,
        "rows": sum(shard.rows for shard in shards),
        "wanted": options.to_json(),
        "training": dict(training),
        "measured": dict(measured),
        "shards": [
            {"segment": shard.segment, "rows": shard.rows, "similarity": similarity}
            for shard, similarity in zip(shards, similarities, strict=True)
        ],
    }


def training_report(*, rows: int, of: int, similarity: float) -> dict[str, Any]:
    """What the lists were trained on: `rows` of `of` rows, and how near held-out rows lie to their centroids."""
    return {"rows": rows, "of": of, "similarity": similarity}


def measured_report(
    *, rows: int, queries: int, chosen: Setting, cross: Setting, across: int, settings: Sequence[Setting]
) -> dict[str, Any]:
    """Recall of the 10 nearest: of the setting chosen, of it for `across` queries of the other modality, and of all."""
    return {
        "rows": rows,
        "queries": queries,
        "k": MEASURED_K,
        **chosen.to_json(),
        "cross": {"before": cross.before, "recall": cross.recall, "queries": across},
        "settings": [setting.to_json() for setting in settings],
    }


def read_report(root: Path, record: IndexRecord) -> dict[str, Any]:
    """The report of an index whose files were checked.

    Raises:
        ShardInvalid: it is not of the index that the manifest names.
    """
    path = f"{index_directory(record.id)}/report.json"
    with os.fdopen(open_plain(root, path), "rb") as file:
        try:
            report = parse_object(file.read(), path)
        except ManifestInvalid as error:
            raise ShardInvalid(path, "is not JSON we accept") from error
    if report.get("kind") != record.kind or report.get("factory", record.factory) != record.factory:
        raise ShardInvalid(path, f"is not of an index {record.factory}")
    return report


def wanted_options(report: Mapping[str, Any]) -> IndexOptions:
    """What was asked of the index that a report is of."""
    return IndexOptions(**report["wanted"]) if "wanted" in report else IndexOptions()


def told_recall(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recall an index was measured to have, without the settings it was not given; None for an exact one."""
    names = ("recall", "before", "k", "rows", "queries", "cross")
    return {name: report["measured"][name] for name in names} if "measured" in report else None


def outgrown(report: Mapping[str, Any], rows: int, embed_dim: int) -> bool:
    """Whether a memory of so many rows is due for an index of another family, or for lists trained anew."""
    try:
        family = choose_family(rows, embed_dim, wanted_options(report))
    except IndexOptionsInvalid:
        return True  # what was asked for cannot be had of so many rows: a build would say so
    if family.kind != report["kind"]:
        return True
    return not family.is_exact and rows > GROWTH * int(report["training"]["of"])


def has_drifted(report: Mapping[str, Any]) -> bool:
    """Whether the rows lie further from their centroids than those held out of training did."""
    if "training" not in report:
        return False
    at_training = 1 - report["training"]["similarity"]
    now = 1 - sum(shard["rows"] * shard["similarity"] for shard in report["shards"]) / report["rows"]
    return bool(now > DRIFT * at_training)
