"""The encoder on a GPU: the CPU's embeddings, from raw pixels, from graphs, from many threads, and after no room."""

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from memory import MODALITIES, Neighbours
from models.designs import DESIGNS, Design
from models.encoder import Encoder
from models.errors import EncoderError
from models.fusion import Fusion, FusionConfig
from models.graphed import SIZES, Graphed
from models.refine import RetrievalEnhancedEncoder

pytestmark = pytest.mark.gpu
LEAST_COSINE = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.99}


@pytest.fixture(scope="module", params=LEAST_COSINE)
def on_gpu(request: pytest.FixtureRequest, encoder_dir: Path) -> Encoder:
    return Encoder.open(str(encoder_dir), device="cuda", dtype=request.param)


def test_embeddings_are_the_cpus(on_gpu: Encoder, encoder: Encoder, photo_bytes: dict[str, bytes]) -> None:
    names = ("jpeg", "png_alpha", "webp", "gif", "cmyk_jpeg")
    raw = on_gpu.stack([on_gpu.preprocess(photo_bytes[name], raw=True) for name in names])
    assert raw.dtype == torch.uint8
    assert raw.is_pinned()
    pixels = torch.stack([encoder.preprocess(photo_bytes[name]) for name in names])
    expected = encoder.encode_image(pixels)
    least = LEAST_COSINE[on_gpu.dtype]
    for given in (raw, pixels):
        cosines = (on_gpu.encode_image(given) * expected).sum(axis=1)
        assert cosines.min() >= least
    texts = ["a red bird", "two", "a " * 30 + "bird"]
    tokens = encoder.tokenize(texts).ids
    assert (on_gpu.encode_text(tokens) * encoder.encode_text(tokens)).sum(axis=1).min() >= least


def test_a_row_does_not_depend_on_its_batch(on_gpu: Encoder) -> None:
    dice = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 256, (70, 3, 64, 64), generator=dice, dtype=torch.uint8)
    whole = on_gpu.encode_image(batch)
    for size in (1, 3, 7, 64):
        assert (on_gpu.encode_image(batch[:size]) * whole[:size]).sum(axis=1).min() >= LEAST_COSINE[on_gpu.dtype]


def test_many_threads_get_their_own(on_gpu: Encoder) -> None:
    dice = torch.Generator().manual_seed(1)
    batches = [torch.randint(0, 256, (n, 3, 64, 64), generator=dice, dtype=torch.uint8) for n in (1, 2, 5, 16)]
    expected = [on_gpu.encode_image(batch) for batch in batches]
    wrong: list[int] = []

    def ask(number: int) -> None:
        rounds = (on_gpu.encode_image(batches[number]) for _ in range(50))
        wrong.extend(number for rows in rounds if not np.array_equal(rows, expected[number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(batches)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_row_that_is_not_finite_is_blamed(on_gpu: Encoder) -> None:
    pixels = torch.zeros(3, 3, 64, 64)
    pixels[1] = torch.nan
    with pytest.raises(EncoderError) as caught:
        on_gpu.encode_image(pixels)
    assert list(caught.value.rows) == [1]


def test_a_graph_is_the_function_it_was_made_of() -> None:
    device = torch.device("cuda")
    weights = torch.randn(32, 16, device=device)

    def function(batch: torch.Tensor) -> torch.Tensor:
        return (batch @ weights).softmax(dim=-1)

    tower = Graphed(function, device)
    with torch.inference_mode():
        for rows in (1, 3, *SIZES, SIZES[-1] + 5):
            for _ in range(2):
                batch = torch.randn(rows, 32)
                torch.testing.assert_close(tower(batch), function(batch.cuda()).cpu())


def test_after_a_warm_up_nothing_is_recorded_any_more(encoder_dir: Path) -> None:
    encoder = Encoder.open(str(encoder_dir), device="cuda")
    encoder.warm_up(64)
    recorded = len(encoder._embed_image._recorded), len(encoder._embed_text._recorded)
    for size in range(1, 65, 9):
        encoder.encode_image(torch.ones(size, 3, 64, 64, dtype=torch.uint8))
        encoder.encode_text(encoder.tokenize(["a red bird"] * size).ids)
    assert (len(encoder._embed_image._recorded), len(encoder._embed_text._recorded)) == recorded


def test_X19_room_that_runs_out_is_found_again(encoder_dir: Path) -> None:
    """A batch that finds no room fails alone; when there is room, the same batch is answered."""
    encoder = Encoder.open(str(encoder_dir), device="cuda", dtype="float32")
    batch = torch.zeros(256, 3, 64, 64, dtype=torch.uint8)
    encoder.encode_image(batch[:1])
    torch.cuda.empty_cache()
    taken = torch.cuda.memory_reserved() / torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(taken + 1e-5)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            encoder.encode_image(batch)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert encoder.encode_image(batch).shape == (256, encoder.embed_dim)


@pytest.mark.parametrize("design", DESIGNS)
def test_every_fusion_refines_as_on_a_cpu(encoder_dir: Path, encoder: Encoder, design: Design) -> None:
    torch.manual_seed(0)
    fusion = Fusion(FusionConfig(design=design, embed_dim=encoder.embed_dim, k=5)).eval()
    on_cpu = RetrievalEnhancedEncoder(encoder, _Nothing(), copy.deepcopy(fusion))
    on_gpu = RetrievalEnhancedEncoder(Encoder.open(str(encoder_dir), device="cuda"), _Nothing(), fusion)
    dice = np.random.default_rng(0)
    for size, k in ((1, 5), (3, 5), (20, 2), (300, 5), (3, 5)):
        queries, values, keys = (_unit(dice, size, k, encoder.embed_dim) for k in (None, k, k))
        found = Neighbours(
            ids=np.zeros((size, k), np.int64),
            similarities=np.sort(dice.random((size, k), dtype=np.float32))[:, ::-1].copy(),
            values=values,
            keys=keys,
            mask=np.arange(k) < dice.integers(0, k + 1, size)[:, None],
        )
        for modality in MODALITIES:
            ours, theirs = (one.fuse(queries, found, modality=modality) for one in (on_gpu, on_cpu))
            assert (ours * theirs).sum(axis=1).min() >= 0.9999


class _Nothing:
    """A memory nobody searches."""


def _unit(dice: np.random.Generator, size: int, k: int | None, embed_dim: int) -> np.ndarray:
    rows = dice.standard_normal((size, *(() if k is None else (k,)), embed_dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
