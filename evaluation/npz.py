"""Named arrays of an .npz, never pickled: whatever is wrong with the file is refused in one sentence. numpy only."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EvaluationError

Arrays = dict[str, NDArray[np.generic]]
# RuntimeError: an encrypted archive, or one compressed in a way that zipfile does not know.
_UNREADABLE = (ValueError, TypeError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path, names: Sequence[str], code: str) -> tuple[Arrays, list[str]]:
    """Read those of some arrays that a file has.

    Returns:
        The arrays by name, and the names of all arrays in the file.

    Raises:
        EvaluationError: with `code`; no such file, no whole .npz, Python objects in it, or more than memory holds.
    """
    try:
        # Opened here: numpy leaves a file that is no zip open. An .npy, whatever its name, is no context manager.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays, every = {name: file[name] for name in names if name in file.files}, list(file.files)
    except MemoryError as error:
        raise EvaluationError(code, f"{path} holds arrays larger than this machine's memory.") from error
    except _UNREADABLE as error:
        raise EvaluationError(code, f"{path}: {_problem(error)}.") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]  # a member that is no .npy
    if foreign:
        raise EvaluationError(code, f"{path}: `{foreign[0]}` is no array: save it again with numpy.savez.")
    return arrays, every


def _problem(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if "Object arrays" in str(error):  # numpy's words; what is no archive at all it takes for a pickle
        return "it holds Python objects, and pickles are never loaded: save texts as np.array(texts, dtype=str)"
    return "it is not a whole .npz file: save it again with numpy.savez"
