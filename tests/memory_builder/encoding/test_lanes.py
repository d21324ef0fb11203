"""However batches are decoded and encoded, and by how many workers: the same bytes, and no batch is lost."""

import os
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from memory import Memory
from memory_builder import BuildConfig, build
from memory_builder.encoding.caption_batches import CaptionEncoder
from memory_builder.encoding.decoding import Candidate, Refused
from memory_builder.encoding.lanes import ProcessLanes, ThreadLanes
from memory_builder.encoding.lanes.decode_pool import DecodePool
from memory_builder.encoding.lanes.lane import Encoded
from memory_builder.errors import WorkerLost
from memory_builder.records import Record
from models.encoder import Encoder

WriteFolder = Callable[..., Path]


def test_digest_is_the_same_with_any_number_of_workers_of_any_kind(
    tmp_path: Path, encoder: Encoder, write_folder: WriteFolder
) -> None:
    photos = write_folder(tmp_path / "photos", range(70))
    (photos / "001/00012.jpg").write_bytes(b"no image")
    config = BuildConfig((str(photos),), tmp_path / "memory", unit_rows=16, batch_size=8, max_error_rate=0.1)
    results = {}
    for workers, decoding in ((1, "threads"), (4, "threads"), (2, "processes")):
        place = tmp_path / f"{workers} {decoding}"
        results[place] = build(replace(config, memory=place, workers=workers, decoding=decoding), encoder)
    assert len({result.digest for result in results.values()}) == 1
    for place, result in results.items():
        assert result.rejected == {"image_format_unsupported": 1}
        with Memory.open(place) as memory:
            assert len(memory.keys()) == 69


def refused_or_not(candidates: Sequence[Candidate], lanes: ProcessLanes | ThreadLanes) -> list[bool]:
    return [isinstance(outcome, Refused) for outcome in lanes.images(candidates).result()]


def suicidal(marker: Path, image: bytes) -> bytes:
    """Kills the process that reads it, the first time."""
    if not marker.exists():
        marker.write_text("killed")
        os.kill(os.getpid(), signal.SIGKILL)
    return image


def always_deadly() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def hanging() -> bytes:
    signal.pause()
    raise AssertionError


def test_X09_a_process_that_dies_costs_its_batch_one_more_try(
    tmp_path: Path, encoder: Encoder, photo_bytes: dict[str, bytes]
) -> None:
    image = photo_bytes["jpeg"]
    once = Candidate(Record("a", "a bird", partial(suicidal, tmp_path / "marker", image), ""))
    good = Candidate(Record("b", "a bird", partial(bytes, image), ""))
    bad = Candidate(Record("c", "a bird", partial(bytes, b"no image"), ""))
    deadly = Candidate(Record("d", "a bird", always_deadly, ""))
    lanes = ProcessLanes(encoder, workers=1, batch_size=4, thumbnail_px=32)
    try:
        assert refused_or_not([once, bad, good], lanes) == [False, True, False]
        assert (tmp_path / "marker").exists()
        with pytest.raises(WorkerLost):
            lanes.images([deadly]).result()
        assert refused_or_not([good], lanes) == [False], "the next batch has a new process"
    finally:
        lanes.close()


def test_X09_its_loss_is_told_across_processes_as_a_ray_worker_does() -> None:
    lost = pickle.loads(pickle.dumps(WorkerLost()))
    assert type(lost) is WorkerLost
    assert (str(lost), lost.code) == (str(WorkerLost()), "worker_lost")


def test_X09_a_process_that_hangs_is_told_of(encoder: Encoder) -> None:
    pool = DecodePool(encoder.preprocess, workers=1, thumbnail_px=0, hangs_after_s=1)
    slot = str(Path(os.devnull))
    try:
        decode = partial(pool.decode, slot, (0,), torch.float32, [Candidate(Record("a", "x", hanging, ""))])
        with pytest.raises(WorkerLost):
            pool.outcomes(decode(), decode)
    finally:
        pool.close()


def test_times_tell_where_the_lanes_were(encoder: Encoder, photo_bytes: dict[str, bytes]) -> None:
    before = torch.get_num_threads()
    lanes = ThreadLanes(encoder, workers=2, batch_size=4, thumbnail_px=0)
    batch = [Candidate(Record(str(n), "x", partial(bytes, photo_bytes["jpeg"]), "")) for n in range(4)]
    assert all(isinstance(outcome, Encoded) for outcome in lanes.images(batch).result())
    lanes.close()
    seconds = lanes.seconds()
    assert 0 < seconds["decode"] + seconds["encode"] < seconds["total"]
    assert torch.get_num_threads() == before


def test_captions_of_like_length_share_a_batch_and_come_back_in_order(encoder: Encoder) -> None:
    captions = [f"{'a red bird on a branch ' * (n % 3)}a bird {n}" for n in range(10)]
    lengths: list[int] = []

    class Lengths(ThreadLanes):
        def texts(self, tokens: torch.Tensor):
            lengths.extend(tokens.count_nonzero(dim=1).tolist())
            return super().texts(tokens)

    lanes = Lengths(encoder, workers=2, batch_size=4, thumbnail_px=0)
    texts, refused = CaptionEncoder(encoder, lanes, 4).encode(captions, lambda: None)
    lanes.close()
    assert not refused
    assert lengths == sorted(lengths)
    for caption in captions:
        expected = encoder.encode_text(encoder.tokenize([caption]).ids)[0]
        assert abs(float(texts[caption].astype("f4") @ expected) - 1) < 1e-3


def test_packed_captions_share_a_batch_by_their_tokens(encoder: Encoder) -> None:
    """Each number of tokens has kernels of its own: batches have nearly the same, however long their captions are."""
    if not encoder.packs_texts:
        pytest.skip("texts are not packed on this CPU")
    captions = [f"{'a red bird on a branch ' * (n % 5)}a bird {n}" for n in range(300)]
    batches: list[tuple[int, int]] = []  # tokens of all its captions, of the longest

    class Counted(ThreadLanes):
        def texts(self, tokens: torch.Tensor):
            lengths = tokens.count_nonzero(dim=1)
            batches.append((int(lengths.sum()), int(lengths.max())))
            return super().texts(tokens)

    lanes = Counted(encoder, workers=2, batch_size=8, thumbnail_px=0)
    texts, _ = CaptionEncoder(encoder, lanes, 8).encode(captions, lambda: None)
    lanes.close()
    assert set(texts) == set(captions)
    assert all(budget - longest < total <= budget for total, longest in batches[:-1] for budget in [8 * 16])


def test_a_caption_longer_than_a_batch_has_one_of_its_own(encoder: Encoder) -> None:
    lanes = ThreadLanes(encoder, workers=1, batch_size=1, thumbnail_px=0)
    captions = ["a bird", "a red bird on a branch of an old tree beside two umbrellas at night " * 2]
    texts, _ = CaptionEncoder(encoder, lanes, 1).encode(captions, lambda: None)
    lanes.close()
    assert set(texts) == set(captions)
