"""What was measured of the checkpoint that is served: the figures that `reco eval -o` wrote, for the page.

    reco eval my-memory my-fusion test/ -o my-fusion/evaluation

The folder is RECO_EVALUATION, or `evaluation` in the checkpoint's own folder. It is read when it is asked for, so a
new evaluation shows without a restart. Depends on pydantic only: what it holds is checked, never trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

RESULTS, GALLERY = "results.json", "gallery.html"
IN_CHECKPOINT = "evaluation"
FORMAT = 1
_MAX_BYTES = 32 << 20
_NAMED = 8  # classes that gained most, and least


class _Model(BaseModel):
    """A part of results.json: what the page shows of it; the rest is left out."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Figure(_Model):
    mean: float | None
    spread: float | None = None
    gain: float | None = None
    interval: tuple[float, float] | None = None


class _Duplicates(_Model):
    items: int
    images: int


class _Task(_Model):
    name: str
    kind: str
    k: int
    images: int
    texts: int
    notes: list[str] = []
    duplicates: _Duplicates
    measures: dict[str, dict[str, dict[str, _Figure]]]  # section, measure, scoring
    memory_size: list[dict[str, int | dict[str, float | None]]] = []  # {"at": items, section: {scoring: percent}}
    neighbours: list[dict[str, int | dict[str, float | None]]] = []
    per_class: list[dict[str, str | float | None]] = []


class _Comparison(_Model):
    title: str
    note: str = ""
    columns: list[str]
    rows: dict[str, list[list[float]]]  # method, column, seed


class _Checkpoint(_Model):
    id: str


class _Fusion(_Model):
    design: str
    k: int
    checkpoints: list[_Checkpoint]


class _Memory(_Model):
    digest: str
    version: int
    items: int


class _Settings(_Model):
    mode_shown: str = "both"


class _Results(_Model):
    format: int
    memory: _Memory
    fusion: _Fusion
    settings: _Settings = _Settings()
    tasks: list[_Task]
    comparison: _Comparison | None = None


class EvaluationUnusableError(Exception):
    """The folder holds no evaluation that can be shown; the message says why, and names no path."""


@dataclass(frozen=True)
class Evaluation:
    """A folder with results.json and, if it was drawn, gallery.html."""

    directory: Path | None

    @classmethod
    def of(cls, directory: str | None, fusion: str | None) -> "Evaluation":
        """The folder that is named, else the checkpoint's own."""
        if directory is not None:
            return cls(Path(directory))
        return cls(None if fusion is None else Path(fusion) / IN_CHECKPOINT)

    def describe(self, *, fusion: str | None, digest: str) -> dict[str, Any]:
        """The figures as plain JSON, and whether they are of what is served.

        Args:
            fusion: id of the checkpoint in use.
            digest: of the memory in use.

        Returns:
            `found` false with a `reason`, or true with the figures.
        """
        try:
            results = self._read()
        except EvaluationUnusableError as error:
            return {"found": False, "reason": str(error)}
        told = results.model_dump(exclude={"format"})
        for task in told["tasks"]:
            task["per_class"] = _extremes(task["per_class"], results.settings.mode_shown)
        return {
            "found": True,
            "same_fusion": fusion in {one.id for one in results.fusion.checkpoints},
            "same_memory": digest == results.memory.digest,
            "gallery": self.gallery() is not None,
            **told,
        }

    def gallery(self) -> bytes | None:
        """The gallery's HTML; None if there is none."""
        if self.directory is None:
            return None
        try:
            return _bounded(self.directory / GALLERY)
        except (OSError, EvaluationUnusableError):
            return None

    def _read(self) -> _Results:
        if self.directory is None:
            raise EvaluationUnusableError("No fusion checkpoint is served, so there is nothing to evaluate.")
        try:
            results = _Results.model_validate_json(_bounded(self.directory / RESULTS))
        except OSError:
            raise EvaluationUnusableError("This checkpoint was not evaluated yet.") from None
        except ValidationError:
            raise EvaluationUnusableError(
                "The results.json of this evaluation is damaged, or of another program."
            ) from None
        if results.format != FORMAT:
            raise EvaluationUnusableError("The results.json of this evaluation is of another version of RECO.")
        return results


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise EvaluationUnusableError("This evaluation is too large to be shown.")
    return data


def _extremes(classes: list[Mapping[str, Any]], mode: str) -> list[dict[str, Any]]:
    """The classes that gained most and those that lost most, best first, each with its accuracy before and after."""
    told = [
        {"class": str(one["class"]), "before": one["none"], "after": one[mode]}
        for one in classes
        if isinstance(one.get("none"), float | int) and isinstance(one.get(mode), float | int) and one.get("class")
    ]
    told.sort(key=lambda one: one["before"] - one["after"])
    return told if len(told) <= 2 * _NAMED else told[:_NAMED] + told[-_NAMED:]
