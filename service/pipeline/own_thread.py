"""A call in a thread of its own, which ends with it, and with it the team that OpenMP keeps for each thread.

libgomp's threads spin for a moment while they wait for one another, unless the teams of a process have more members
than there are cores: then they sleep at once, and a kernel wakes them on whatever core. So a thread that computes now
and then must not keep its team. Standard library only.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

ResultT = TypeVar("ResultT")


def in_its_own_thread(function: Callable[[], ResultT], name: str) -> ResultT:
    """Call a function in a new thread; blocks until that has ended.

    Args:
        function: what it raises is raised here.
        name: of the thread.
    """
    outcome: Future[ResultT] = Future()
    thread = threading.Thread(target=_call, args=(function, outcome), name=name, daemon=True)
    thread.start()
    thread.join()
    try:
        return outcome.result()
    finally:
        del outcome  # an error's traceback would hold it, and it the error


def _call(function: Callable[[], ResultT], outcome: "Future[ResultT]") -> None:
    try:
        result = function()
    except BaseException as error:
        outcome.set_exception(error)
        del outcome
    else:
        outcome.set_result(result)
