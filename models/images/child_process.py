"""A process that does nothing but decode: how it begins, for builder and service alike."""

import multiprocessing
import os
import signal
import threading

import torch


def settle() -> None:
    """Prepare this process: it ends with its parent, however that ends, and leaves interruptions to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Not os.getppid: that is the server of forks, which lives as long as its children do.
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child process settles"
    parent.join()
    os._exit(1)
