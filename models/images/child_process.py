"""A process that does nothing but decode: how it begins, for builder and service alike."""

import os
import signal
import threading
import time

import torch

_PARENT_CHECK_S = 1.0


def settle() -> None:
    """Prepare this process: it ends with its parent, however that ends, and leaves interruptions to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)
