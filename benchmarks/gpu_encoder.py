"""The encoder on a GPU: items a second by batch, with and without graphs, beside the card's speed and the decoder's.

    python -m benchmarks.gpu_encoder --photos /path/to/photographs

Timed from input in pinned memory to embeddings on the CPU, as the service has it. The card's speed is that of a product
of 8192 x 8192 bfloat16 matrices in the same run; the tower's operations are counted, not guessed. Decoding is timed in
threads, as the service does it, and in processes, as the builder does. Embeddings are compared with those of a CPU in
float32. Writes benchmarks/results/gpu-encoder.json.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.serving_bed import Bed, arguments, make_bed, write_result
from models.encoder import Encoder
from models.images.decoding import ImageLimits
from models.images.preprocessor import Preprocessor

BATCHES = (1, 8, 32, 64, 128, 256)
DTYPES = ("bfloat16", "float16", "float32")


def seconds(work: Callable[[], object], repeats: int = 20) -> float:
    """The median of a few runs, after some to warm up."""
    for _ in range(5):
        work()
    spent = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def card_tflops() -> float:
    """Of a large bfloat16 product on random numbers."""
    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / seconds(lambda: one @ other) / 1e12


def encoder_speed(encoder: Encoder, bed: Bed, tflops: float) -> dict[str, Any]:
    """Images and texts by batch: milliseconds with and without graphs, items a second, share of the card's speed."""
    pixels = [encoder.preprocess(photo, raw=True) for photo in bed.photos]
    tokens = encoder.tokenize(bed.texts).ids
    found: dict[str, Any] = {}
    for modality, rows, encode, plain in (
        ("image", pixels, encoder.encode_image, encoder._image_embeddings),
        ("text", list(tokens), encoder.encode_text, encoder._text_embeddings),
    ):
        found[modality] = {}
        for size in BATCHES:
            batch = encoder.stack([rows[n % len(rows)] for n in range(size)])
            with torch.inference_mode():
                counter = FlopCounterMode(display=False)
                with counter:
                    plain(batch)
                eager = seconds(lambda plain=plain, batch=batch: plain(batch).cpu())
            graphed = seconds(lambda encode=encode, batch=batch: encode(batch))
            found[modality][size] = {
                "eager_ms": round(1e3 * eager, 3),
                "graph_ms": round(1e3 * graphed, 3),
                "items_per_s": round(size / graphed),
                "of_the_cards_speed": round(counter.get_total_flops() / graphed / 1e12 / tflops, 3),
            }
    return found


_preprocess: Preprocessor | None = None


def _begin(preprocess: Preprocessor) -> None:
    global _preprocess
    _preprocess = preprocess
    torch.set_num_threads(1)


def _decode(data: bytes) -> int:
    assert _preprocess is not None
    return len(_preprocess(data, raw=True))


def decode_speed(encoder: Encoder, bed: Bed) -> dict[str, float]:
    """Images decoded a second, by threads and by processes."""
    cores = len(os.sched_getaffinity(0))
    _begin(encoder.preprocess)
    data = (bed.photos * (1 + 2048 // len(bed.photos)))[:2048]
    found = {}
    for threads in sorted({1, 4, cores - 2, cores} & set(range(1, cores + 1))):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_decode, data[:64]))
            started = time.perf_counter()
            list(pool.map(_decode, data))
        found[f"threads_{threads}"] = round(len(data) / (time.perf_counter() - started))
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(cores, context, _begin, (encoder.preprocess,)) as pool:
        list(pool.map(_decode, data[: 64 * cores], chunksize=8))
        started = time.perf_counter()
        list(pool.map(_decode, data * 4, chunksize=32))
    found[f"processes_{cores}"] = round(4 * len(data) / (time.perf_counter() - started))
    return found


def parity(bed: Bed) -> dict[str, Any]:
    """The least cosine to a CPU's float32, of photographs and texts, by dtype."""
    cpu = Encoder.open(str(bed.encoder), device="cpu", dtype="float32")
    pixels = torch.stack([cpu.preprocess(photo) for photo in bed.photos[:64]])
    tokens = cpu.tokenize(bed.texts[:64]).ids
    expected = cpu.encode_image(pixels), cpu.encode_text(tokens)
    found = {}
    for dtype in DTYPES:
        gpu = Encoder.open(str(bed.encoder), device="cuda", dtype=dtype)
        raw = gpu.stack([gpu.preprocess(photo, raw=True) for photo in bed.photos[:64]])
        rows = gpu.encode_image(raw), gpu.encode_text(tokens)
        alone = np.concatenate([gpu.encode_image(raw[n : n + 1]) for n in range(64)])
        cosines = [
            (a * b).sum(axis=1).min() for a, b in ((rows[0], expected[0]), (rows[1], expected[1]), (alone, rows[0]))
        ]
        names = ("image", "text", "image_alone_and_in_a_batch")
        found[dtype] = {name: round(float(one), 6) for name, one in zip(names, cosines, strict=True)}
    return found


def main() -> None:
    """Run and write the result."""
    options = arguments(__doc__).parse_args()
    bed = make_bed(options)
    tflops = card_tflops()
    encoder = Encoder.open(str(bed.encoder), device="cuda", limits=ImageLimits())
    result = {
        "photos_drawn": bed.drawn,
        "dtype": encoder.dtype,
        "card_bf16_tflops": round(tflops, 1),
        "encoder": encoder_speed(encoder, bed, tflops),
        "decoded_per_s": decode_speed(encoder, bed),
        "least_cosine_to_float32_on_a_cpu": parity(bed),
    }
    write_result("gpu-encoder", result)


if __name__ == "__main__":
    main()
