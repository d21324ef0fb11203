"""Ends a process that cannot answer any more: its device or a compute thread is lost, or a batch does not come back.

An orchestrator starts a process that ended; one that is only unready it leaves alone. Depends on the batcher only.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from service.pipeline.batcher import Batcher

logger = logging.getLogger("reco.watchdog")

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
_LOOK_S = 0.5
_LAST_WORDS_S = 1.0  # for the refusals of those who waited, and the last lines of the log, to leave


class Watchdog:
    """A thread that looks at the batcher twice a second."""

    def __init__(
        self, batcher: Batcher[Any, Any], *, max_batch_s: float, end: Callable[[int], object] = os._exit
    ) -> None:
        """Prepare; `start` begins.

        Args:
            max_batch_s: a batch that takes longer, of the time that this process ran, hangs.
            end: called once with the exit code.
        """
        self._batcher = batcher
        self._usual_s = self._max_batch_s = max_batch_s
        self._end = end
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reco-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    @contextmanager
    def patient(self, max_batch_s: float) -> Iterator[None]:
        """Give batches this long while the block runs, if that is longer."""
        self._max_batch_s = max(max_batch_s, self._usual_s)
        try:
            yield
        finally:
            self._max_batch_s = self._usual_s

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        seen, taken_s = None, 0.0
        while not self._stopped.wait(_LOOK_S):
            # Looks are counted, not the clock's seconds: those go on while the whole process is paused.
            since = self._batcher.busy_since
            taken_s = 0.0 if since is None or since != seen else taken_s + _LOOK_S
            seen = since
            if taken_s > self._max_batch_s:
                logger.critical("a batch has not come back in %g s", self._max_batch_s)
            elif not self._batcher.lost:
                continue
            logger.critical("ending with exit code %d", EXIT_CODE)
            self._stopped.wait(_LAST_WORDS_S)
            self._end(EXIT_CODE)
            return
