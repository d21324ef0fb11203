"""A process that does nothing but decode: how it begins, for builder and service alike."""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.process import BaseProcess

import torch


def settle() -> None:
    """Prepare this process: it ends with its parent, however that ends, and by nobody else's word."""
    # Not os.getppid: that is the server of forks, which lives as long as its children do.
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "only a child process settles"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere a signal does not tell who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before there are threads, which inherit it
        threading.Thread(target=_end_when_asked_by, args=(parent.pid,), daemon=True).start()
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _end_when_asked_by(parent: int) -> None:
    """A supervisor asks all processes of a service to end; the parent does when it needs this one no more."""
    if sys.platform == "linux":
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(1)
