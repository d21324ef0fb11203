"""X21: after a device-side assert a process cannot use its GPU any more. It says so and ends with code 70."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

CHILD = """
import sys, time, torch
from concurrent.futures import wait
from prometheus_client import CollectorRegistry
from models.encoder import Encoder
from models.refine import RetrievalEnhancedEncoder
from service.pipeline.engine import Engine, Query
from service.pipeline.batch import DeviceLost

class Nothing:
    embed_dim = 128
encoder = Encoder.open(sys.argv[1], device="cuda")
engine = Engine(RetrievalEnhancedEncoder(encoder, Nothing(), None))
query = Query(torch.zeros(3, 64, 64, dtype=torch.uint8))
from service.pipeline.batcher import Batcher
from service.pipeline.watchdog import Watchdog
batcher = Batcher(engine.compute, max_batch_size=8, max_queue_items=64)
dog = Watchdog(batcher, max_batch_s=30)
batcher.start(); dog.start()
ask = lambda: batcher.submit("image", [query], time.monotonic() + 10)[0]
assert ask().result(60).answer.original.shape == (128,)
torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")]  # out of bounds: the GPU asserts
future = ask()
wait([future], 30)
print(type(future.exception()).__name__, flush=True)
time.sleep(20)
"""


def test_X21_a_device_side_assert_ends_the_process_with_70(encoder_dir: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(encoder_dir)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 70, done.stderr[-2000:]
    assert done.stdout.split() == ["BatcherStopped"]
    assert time.monotonic() - began < 60
