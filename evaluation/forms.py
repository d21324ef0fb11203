"""Which forms a task has, told by what lies at its path. Imports no torch, so that a wrong path is refused at once."""

from pathlib import Path
from typing import Final, Literal, get_args

from evaluation.errors import EvaluationError

Kind = Literal["zero-shot", "retrieval", "entities"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_FORMS = (
    "Evaluated are: an .npz of embeddings; a folder with img_emb/ and text_emb/; and, with --model, a folder of class "
    "folders, a .csv, .tsv or .jsonl with image and label, and whatever pairs `reco build` reads."
)


def is_raw(path: Path) -> bool:
    """Whether a task needs an encoder.

    Raises:
        EvaluationError: task_not_found, task_unknown.
    """
    if not path.exists():
        raise EvaluationError("task_not_found", f"There is no task at {path}. {_FORMS}")
    if path.suffix.lower() in (".npy", ".parquet", ".pt", ".pth", ".pkl", ".safetensors"):
        raise EvaluationError("task_unknown", f"{path} alone is no task. {_FORMS}")
    return path.suffix.lower() != ".npz" and not is_shard_folder(path)


def is_shard_folder(path: Path) -> bool:
    """Whether a folder has the form, whole or not."""
    return (path / "img_emb").is_dir() or (path / "text_emb").is_dir()
