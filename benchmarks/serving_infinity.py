"""Beside infinity: the same architecture, the same requests from the same client, taking turns on the same cores.

    python -m venv /tmp/infinity
    /tmp/infinity/bin/pip install 'infinity_emb[torch,server,vision]==0.0.78' 'optimum<2' 'transformers<4.49' aiohttp
    python -m benchmarks.serving_infinity --infinity /tmp/infinity/bin --photos /path/to/photographs

Plain embedding on both sides, single items, images as base64 in JSON, floats in the answer, each server in its
defaults: infinity's is float32 on a CPU, ours bfloat16 where the CPU multiplies in it. Then our images in 8 bits, and
ours in float32 with bf16 instructions off for both. Both servers stay up; the idle one is stopped (SIGSTOP) while the
other is asked. Takes about ten minutes; writes benchmarks/results/serving-infinity.json.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip

from benchmarks.serving_bed import Bed, Server, arguments, make_bed, make_memory, reco_server, server, write_result
from benchmarks.serving_load import closed_loop, post_json

CONCURRENCIES = (1, 32)
_SAVE_MODEL = """
import sys, torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
root = sys.argv[1]
torch.manual_seed(0)
config = CLIPConfig(text_config={"hidden_act": "gelu"}, vision_config={"hidden_act": "gelu"})
CLIPModel(config).save_pretrained(root)
tokenizer = CLIPTokenizer(root + "/vocab.json", root + "/merges.txt", model_max_length=77)
CLIPProcessor(CLIPImageProcessor(), tokenizer).save_pretrained(root)
"""


def write_model(directory: Path, python: Path) -> None:
    """A ViT-B/32 with random weights in the form of transformers, with open_clip's vocabulary."""
    if (directory / "config.json").is_file():
        return
    directory.mkdir(exist_ok=True)
    tokenizer: Any = open_clip.get_tokenizer("ViT-B-32")
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in tokenizer.encoder.items()}
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in tokenizer.bpe_ranks)])
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text(merges)
    subprocess.run([python, "-c", _SAVE_MODEL, str(directory)], check=True)


@contextmanager
def infinity(directory: Path, binaries: Path, environ: Mapping[str, str]) -> Iterator[Server]:
    """infinity, ready."""
    command = [
        str(binaries / "infinity_emb"),
        "v2",
        "--model-id",
        str(directory),
        "--port",
        "{port}",
        "--device",
        "cpu",
    ]
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with server([*command, "--host", "127.0.0.1", "--port", "{port}"], "/health", {**quiet, **environ}) as running:
        yield running


def requests_for(bed: Bed, modality: str, side: str, model: str) -> list[bytes]:
    """One item each."""
    if modality == "text":
        if side == "reco":
            return [post_json("/embed/text", {"texts": text}) for text in bed.texts]
        return [post_json("/embeddings", {"model": model, "input": text}) for text in bed.texts]
    encoded = [base64.b64encode(photo).decode() for photo in bed.photos]
    if side == "reco":
        return [post_json("/embed/image", {"images": [text]}) for text in encoded]
    bodies = [{"model": model, "modality": "image", "input": [f"data:image/jpeg;base64,{text}"]} for text in encoded]
    return [post_json("/embeddings", body) for body in bodies]


def ask(
    side: Server, other: Server, requests: Sequence[bytes], concurrency: int, seconds: float
) -> tuple[float, float]:
    """Items a second and median milliseconds, while the other server stands still."""
    os.kill(other.process.pid, signal.SIGSTOP)
    try:
        outcome = asyncio.run(closed_loop(side.address, requests, concurrency=concurrency, seconds=seconds))
    finally:
        os.kill(other.process.pid, signal.SIGCONT)
    assert set(outcome.seconds) == {200}, outcome.counts()
    return outcome.rate, outcome.quantile_ms(0.5)


def compare(
    bed: Bed, ours: Server, theirs: Server, model: str, options: argparse.Namespace, modalities: Sequence[str]
) -> dict[str, Any]:
    """Each modality, one client and many; the ratios are of neighbouring runs."""
    found: dict[str, Any] = {}
    for modality in modalities:
        sent = {side: requests_for(bed, modality, side, model) for side in ("reco", "infinity")}
        for concurrency in CONCURRENCIES:
            runs = []
            for number in range(options.rounds + 1):
                seconds = 3 if number == 0 else options.seconds  # the first warms both up
                one = ask(ours, theirs, sent["reco"], concurrency, seconds)
                other = ask(theirs, ours, sent["infinity"], concurrency, seconds)
                runs.append((one, other))
            found[f"{modality}, {concurrency}"] = _summary(runs[1:])
    return found


def _summary(runs: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> dict[str, float]:
    return {
        "reco_per_s": round(statistics.median(one[0] for one, _ in runs), 1),
        "infinity_per_s": round(statistics.median(other[0] for _, other in runs), 1),
        "rate_ratio": round(statistics.median(one[0] / other[0] for one, other in runs), 2),
        "reco_p50_ms": round(statistics.median(one[1] for one, _ in runs), 1),
        "infinity_p50_ms": round(statistics.median(other[1] for _, other in runs), 1),
        "p50_ratio": round(statistics.median(one[1] / other[1] for one, other in runs), 3),
    }


def main() -> None:
    """Run and write the result."""
    parser = arguments(__doc__)
    parser.add_argument("--infinity", type=Path, required=True, help="folder with infinity_emb and its python")
    parser.add_argument("--only", choices=["default", "int8", "float32"], nargs="*")
    options = parser.parse_args()
    bed = make_bed(options)
    memory = make_memory(bed, options.pairs)
    model = bed.root / "transformers-clip"
    write_model(model, options.infinity / "python")
    settings: dict[str, dict[str, str]] = {
        "default": {},
        "int8": {"int8_pictures": str(bed.root / "photos")},
        "float32": {"dtype": "float32"},
    }
    for name in options.only or list(settings):
        environ = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"} if name == "float32" else {}
        modalities = ("image",) if name == "int8" else ("image", "text")
        os.environ.update(environ)  # for both servers
        with infinity(model, options.infinity, environ) as theirs, reco_server(bed, memory, **settings[name]) as ours:
            write_result("serving-infinity", {name: compare(bed, ours, theirs, str(model), options, modalities)})


if __name__ == "__main__":
    main()
