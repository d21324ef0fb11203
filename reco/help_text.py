"""Docstrings as help: paragraphs flow to the terminal's width, examples stay a line each. Standard library only."""

import inspect
from collections.abc import Callable
from typing import Any

_KEEP = "\b"  # typer keeps the lines of a paragraph that begins with it


def help_of(command: Callable[..., Any]) -> str:
    """The help of a command from its docstring."""
    return flowing(inspect.getdoc(command) or "")


def flowing(text: str) -> str:
    """Join the lines of every paragraph that is not indented."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(one if one.startswith((" ", _KEEP)) else " ".join(one.split()) for one in paragraphs)
