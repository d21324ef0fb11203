"""The encoder alone: open_clip's own towers beside ours, in the same dtype, in one run on one machine.

    python -m benchmarks.serving_encoder

A ViT-B/32 with random weights; captions of 6 to 18 words. open_clip computes texts with their padding; beside it stands
its tower cut to the longest text of the batch. With openvino installed its image tower is measured as well. Takes about
three minutes; writes benchmarks/results/serving-encoder.json.
"""

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from benchmarks.serving_bed import arguments, make_bed, write_result
from models.sources.opening import open_model
from models.texts.tokenizer import Tokenizer
from models.towers.cut_text import encode_text_cut
from models.towers.packed_towers import pack_image_tower, pack_text_tower

BATCHES = (1, 16, 32)
Encode = Callable[[torch.Tensor], object]


def towers_of(model: Any, dtype: torch.dtype) -> dict[str, dict[str, Encode]]:
    """All ways to encode, by modality and name."""
    plain, packed = copy.deepcopy(model).to(dtype), copy.deepcopy(model)
    image, text = pack_image_tower(packed, dtype), pack_text_tower(packed, dtype)
    assert image is not None
    assert text is not None
    packed.to(dtype)
    images: dict[str, Encode] = {"open_clip": plain.encode_image, "ours": image}
    other = openvino_tower(model, dtype)
    if other is not None:
        images["openvino"] = other
    texts: dict[str, Encode] = {
        "open_clip": plain.encode_text,
        "cut": partial(encode_text_cut, plain),
        "ours": text,
    }
    return {"image": images, "text": texts}


def openvino_tower(model: Any, dtype: torch.dtype) -> Encode | None:
    """The image tower compiled by OpenVINO in the same precision; None if it is not installed."""
    try:
        import openvino as ov
    except ImportError:
        return None
    converted = ov.convert_model(copy.deepcopy(model.visual), example_input=torch.zeros(2, 3, 224, 224))
    converted.reshape([-1, 3, 224, 224])
    precision = "bf16" if dtype == torch.bfloat16 else "f32"
    options = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.compile_model(converted, "CPU", options)
    return lambda pixels: compiled([pixels.float().numpy()])


def compare(ways: Mapping[str, Encode], batch: torch.Tensor, rounds: int, seconds: float) -> dict[str, float]:
    """Items a second of each way, the median over rounds in which all take turns; ratios to open_clip by round."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for name in ways:
        ways[name](batch)
    for _ in range(rounds):
        for name, encode in ways.items():
            started, done = time.perf_counter(), 0
            while time.perf_counter() - started < seconds:
                encode(batch)
                done += len(batch)
            rates[name].append(done / (time.perf_counter() - started))
    found = {f"{name}_per_s": round(statistics.median(rate), 1) for name, rate in rates.items()}
    for name in list(ways)[1:]:
        ratios = [a / b for a, b in zip(rates[name], rates["open_clip"], strict=True)]
        found[f"{name}_ratio"] = round(statistics.median(ratios), 2)
    return found


@torch.inference_mode()
def main() -> None:
    """Run and write the result."""
    parser = arguments(__doc__)
    options = parser.parse_args()
    bed = make_bed(options)
    opened = open_model(str(bed.encoder), None)
    model = opened.model.eval().requires_grad_(False)
    tokens = Tokenizer(opened.tokenizer, opened.tokenizer.context_length)(bed.texts[:32]).ids
    result: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        ways = towers_of(model, dtype)
        inputs = {"image": torch.randn(32, 3, 224, 224).to(dtype), "text": tokens}
        result[str(dtype).removeprefix("torch.")] = {
            modality: {
                f"batch_{size}": compare(ways[modality], inputs[modality][:size], options.rounds, options.seconds)
                for size in BATCHES
            }
            for modality in ways
        }
    write_result("serving-encoder", result)


if __name__ == "__main__":
    main()
