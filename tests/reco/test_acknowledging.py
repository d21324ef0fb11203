"""Ctrl-C is answered while Python itself cannot: here in one call of seconds, without a bytecode between."""

import os
import signal
import subprocess
import sys
import time

BUSY = """
import hashlib
from reco.acknowledging import acknowledging
with acknowledging("heard you"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)  # a second or more, as a step of torch or FAISS may take
"""


def test_a_step_that_nothing_interrupts_does_not_hold_the_answer_back() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.stderr.readline() == "heard you\n"
    answered = time.monotonic()
    process.wait(60)
    assert time.monotonic() - answered > 0.05, "the answer came with the end, not before"
    assert "KeyboardInterrupt" in process.stderr.read()
    process.stdout.close()
    process.stderr.close()
