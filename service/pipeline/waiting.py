"""Waiting for work: several at a time, until a deadline, and what a failure means. Async, and free of HTTP.

What fails leaves no cycle behind: an exception holds the frames that it passed, and these the request with its images
and its generation. Where one of them holds the exception in turn, by a task or a future, only a full collection frees
all that, and a busy service puts it off for minutes.

Depends on the batcher's exceptions, models' errors and problems.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from memory import MemoryUnavailable
from models.errors import EncoderError, InputError
from service.pipeline.batch import BatcherStopped, DeadlinePassed
from service.problems import Problem, known_code

logger = logging.getLogger("reco.pipeline")

Result = TypeVar("Result")


def item_code(error: Exception) -> str:
    """The code of an item that failed; what concerns the whole request is raised again."""
    try:
        return _code_of(error)
    finally:
        error.__traceback__ = None  # the frames that waited hold the future that holds the error


def _code_of(error: Exception) -> str:
    if isinstance(error, Problem):
        raise error
    if isinstance(error, DeadlinePassed):
        raise Problem("deadline_exceeded") from None
    if isinstance(error, BatcherStopped):
        raise Problem("not_ready") from None
    if isinstance(error, MemoryUnavailable):
        raise Problem("memory_unavailable") from None
    if isinstance(error, MemoryError):
        return "out_of_memory"
    if isinstance(error, InputError | EncoderError):
        return known_code(error.code)
    logger.error("an item failed", exc_info=error)
    return "internal_error"


async def together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results in order; the first failure cancels the rest, and is raised as it is once they have ended."""
    if len(work) == 1:  # what most requests hold, and a task of its own would cost as much as the rest of its path
        return [await work[0]]
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # what they hold is given back before what the caller holds
        tasks.clear()


async def as_problem(work: Awaitable[Result]) -> Result:
    """Work that the whole request stands on: its failure is the request's."""
    try:
        return await work
    except Exception as error:
        raise Problem(item_code(error)) from None


async def within(deadline: float, work: Awaitable[Result]) -> Result:
    """Work until `deadline`, on `time.monotonic`; deadline_exceeded beyond it."""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        pass  # with it as its context, the problem would hold the task that holds the problem
    raise Problem("deadline_exceeded")
