"""The threat model counted: every numbered input of the service has a test named after its row, or a reason why not.

T is transport, U multipart, raw and base64 bodies, J JSON and text, I images, C classification, K keys and operators.
`test_K3_...`, `test_I06_I07_...` and `test_I06_to_I11_...` stand for the rows they name.
"""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
ROWS = {"T": 22, "U": 14, "J": 25, "I": 31, "C": 15, "K": 13}
WITHOUT = {
    "I30": "the service decodes in threads, behind header checks of its own: there is no process to rebuild",
    "I31": "as I30: sizes, scans and chunks are bounded before decoding (I12, I13) instead of killing a worker",
    "C12": "an assertion inside the memory, not reachable by HTTP: tests/memory/searching/test_exact_search.py",
}
_SPAN = re.compile(r"_([A-Z])(\d+)_to_\1(\d+)(?=_)")
_ROW = re.compile(r"_([A-Z])(\d+)(?=_)")


def rows_of(name: str) -> set[str]:
    """The rows that a test's name names."""
    rows = {f"{kind}{int(number)}" for kind, number in _ROW.findall(name)}
    for kind, first, last in _SPAN.findall(name):
        rows |= {f"{kind}{number}" for number in range(int(first), int(last) + 1)}
    return rows


def covered() -> set[str]:
    """Every row that some test names."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found |= rows_of(f"{node.name}_")
    return found


def test_every_row_has_a_test_or_a_reason() -> None:
    every = {f"{kind}{number}" for kind, count in ROWS.items() for number in range(1, count + 1)}
    found = covered()
    assert every - found - set(WITHOUT) == set(), "write a test named after the row, or say why there is none"
    assert set(WITHOUT) & found == set(), "there is a test: take the reason out"
    assert set(WITHOUT) <= every


def test_names_are_read_as_they_are_written() -> None:
    assert rows_of("test_I06_to_I08_and_I17_bombs_") == {"I6", "I7", "I8", "I17"}
    assert rows_of("test_K1_K2_no_key_") == {"K1", "K2"}
    assert rows_of("test_a_part_of_KAB3_") == set()
