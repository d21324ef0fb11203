"""Ctrl-C answered at once, whatever the command is at: what it does next may take the seconds of a step to begin.

Python runs its signal handlers between two bytecodes only, and a step of torch or FAISS is one. The byte that the
kernel's signal leaves behind is read by a thread, which need not wait for the step.
"""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reco.console import console

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def acknowledging(sentence: str) -> Iterator[None]:
    """Say `sentence` as soon as a signal asks the command to stop; once, and not outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(reader, sentence), name="acknowledging", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        writer.close()
        thread.join(1)
        reader.close()


def _listen(reader: socket.socket, sentence: str) -> None:
    while number := reader.recv(1):  # empty when the command is over
        if number[0] in _SIGNALS:
            console.print(sentence, soft_wrap=True)
            return
