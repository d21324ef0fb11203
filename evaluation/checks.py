"""What is refused before anything is measured, or even loaded: no torch is imported here."""

from pathlib import Path

from evaluation.errors import EvaluationError
from models.checkpoint_files import holds_fusion
from models.places import hindrance


def check_matplotlib() -> None:
    """Say at once, not after minutes, that no plot can be drawn.

    Raises:
        EvaluationError: dependency_missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise EvaluationError(
            "dependency_missing",
            "Plots need matplotlib: install it with `pip install 'reco-clip[eval]'`, or leave -o or --plot out.",
        ) from error


def check_output(directory: Path) -> None:
    """Refuse a place for the report before anything is measured.

    Raises:
        EvaluationError: output_refused.
    """
    reason = hindrance(directory)
    if reason is not None:
        raise EvaluationError("output_refused", f"{reason}: -o names a folder.")
    if (directory / "manifests").is_dir() or holds_fusion(directory):
        raise EvaluationError(
            "output_refused", f"{directory} holds a memory or a fusion: give the report its own folder."
        )
