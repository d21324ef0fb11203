"""Rows to embeddings: the encoder's own answers, in the corpus's order, each row stored or told why not."""

import hashlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memory_builder.encoding.decoding import decode
from memory_builder.encoding.lanes import ThreadLanes
from memory_builder.encoding.mapper import MappedUnit, Mapper
from memory_builder.known_keys import OTHER_PAIR, KnownKeys, StoredPair
from memory_builder.records import Record, Rejected, Row, RowRejected
from models.encoder import Encoder
from models.errors import EncoderError, ImageError, TextError
from models.images.decoding import decode_image

Draw = Callable[[int], bytes]


def draw(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((80, 60)).save(file, "PNG")
    return file.getvalue()


def record(key: str, image: bytes | None = None, caption: str = "a bird") -> Record:
    data = draw(sum(key.encode())) if image is None else image
    return Record(key, caption, lambda: data, f"source of {key}")


@contextmanager
def open_small(encoder: Any, **settings: Any) -> Iterator[Mapper]:
    options = {"batch_size": 4, "workers": 2, "thumbnail_px": 32} | settings
    lanes = ThreadLanes(encoder, **options)
    try:
        yield Mapper(encoder, lanes, batch_size=options["batch_size"], max_characters=100)
    finally:
        lanes.close()


def map_rows(encoder: Any, rows: list[Row], known: KnownKeys | None = None, **settings: Any) -> MappedUnit:
    with open_small(encoder, **settings) as mapper:
        return mapper.map_unit(rows, known or KnownKeys({}), lambda rows, rejected: None)


def cosine(left: Any, right: Any) -> float:
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def keys(unit: MappedUnit) -> list[str]:
    return unit.rows.items.column("key").to_pylist()  # type: ignore[no-any-return]


def codes(unit: MappedUnit) -> dict[str, str]:
    return {row.key: row.code for row in unit.rejected}


def test_rows_are_the_encoders_own_answers(encoder: Encoder) -> None:
    rows: list[Row] = [record(f"k{n}", caption=f"a {'red' if n % 3 else 'blue'} bird") for n in range(11)]
    unit = map_rows(encoder, rows)
    assert keys(unit) == [row.key for row in rows]
    assert unit.rows.image.dtype == unit.rows.text.dtype == np.float16
    for number, row in enumerate(rows):
        assert isinstance(row, Record)
        image = encoder.encode_image(encoder.preprocess(row.image())[None])[0]
        text = encoder.encode_text(encoder.tokenize([row.caption]).ids)[0]
        assert cosine(image, unit.rows.image[number]) >= 0.99999
        assert cosine(text, unit.rows.text[number]) >= 0.99999
        item = unit.rows.items.slice(number, 1).to_pylist()[0]
        assert item["content_sha256"] == hashlib.sha256(row.image()).hexdigest()
        assert (item["caption"], item["source"]) == (row.caption, row.source)


def test_the_same_bytes_give_the_same_tensor_as_the_service(encoder: Encoder, photo_bytes: dict[str, bytes]) -> None:
    for name, data in photo_bytes.items():
        decoded = decode(record(name, data), encoder.preprocess, 96)
        assert torch.equal(decoded.pixels, encoder.preprocess(data)), name


def test_bytes_do_not_depend_on_threads_and_order_not_on_batches(encoder: Encoder) -> None:
    rows: list[Row] = [record(f"k{n}", caption=f"a bird {n % 5}") for n in range(30)]
    rows[7] = Rejected("r", "missing_image", "", "")
    first, again = (map_rows(encoder, rows, workers=threads) for threads in (1, 7))
    assert np.array_equal(first.rows.image, again.rows.image)
    assert np.array_equal(first.rows.text, again.rows.text)
    assert first.rows.items.equals(again.rows.items)
    other = map_rows(encoder, rows, batch_size=30)
    assert other.rows.items.equals(first.rows.items)
    assert np.allclose(other.rows.image, first.rows.image, atol=1e-3)


def test_thumbnails(encoder: Encoder, photo_bytes: dict[str, bytes]) -> None:
    rows: list[Row] = [record(name, data) for name, data in photo_bytes.items()]
    thumbnails = map_rows(encoder, rows).rows.items.column("thumbnail").to_pylist()
    for (name, data), thumbnail in zip(photo_bytes.items(), thumbnails, strict=True):
        small, whole = Image.open(io.BytesIO(thumbnail)), decode_image(data)
        assert (small.format, small.mode, max(small.size)) == ("JPEG", "RGB", 32)
        expected = np.asarray(whole.resize(small.size, Image.Resampling.BICUBIC), dtype=float)
        assert np.abs(np.asarray(small, dtype=float) - expected).mean() < 8, name
    assert map_rows(encoder, rows, thumbnail_px=0).rows.items.column("thumbnail").null_count == len(rows)


def bad_images(photo: bytes) -> dict[str, bytes]:
    header = bytearray(photo)
    at = header.index(b"\xff\xc0") + 5
    header[at : at + 4] = b"\xff\xdc\xff\xdc"
    file = io.BytesIO()
    Image.new("RGB", (2000, 10)).save(file, "PNG")
    return {
        "empty": b"",
        "text": b"<html>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "cut": photo[: len(photo) // 2],
        "start": photo[:10],
        "huge": bytes(header),
        "strip": file.getvalue(),
        "large": photo + bytes(21 << 20),
    }


def test_B14_images_are_refused_with_the_services_codes(encoder: Encoder, photo_bytes: dict[str, bytes]) -> None:
    images = bad_images(photo_bytes["jpeg"])
    expected = {}
    for name, data in images.items():
        with pytest.raises(ImageError) as caught:
            encoder.preprocess(data)
        expected[name] = (caught.value.code, caught.value.detail)
    unit = map_rows(encoder, [record(name, data) for name, data in images.items()] + [record("good")])
    assert {row.key: (row.code, row.detail) for row in unit.rejected} == expected
    assert keys(unit) == ["good"]
    assert len({code for code, _ in expected.values()}) >= 5


def test_B13_captions_are_refused_with_the_services_codes_and_stored_as_checked(encoder: Encoder) -> None:
    captions = {
        "empty": "",
        "blank": " \u200b",
        "long": "x" * 101,
        "surrogate": "\udcff",
        "nul": "a\0b",
        "special": "a <end_of_text> b",
        "good": "two\nlines\tand a tab",
    }
    unit = map_rows(encoder, [record(key, caption=caption) for key, caption in captions.items()])
    assert codes(unit) == {
        "empty": "text_empty",
        "blank": "text_empty",
        "long": "text_too_long",
        "surrogate": "text_invalid_unicode",
        "nul": "text_control_character",
        "special": "text_special_token",
    }
    assert unit.rows.items.column("caption").to_pylist() == ["two lines and a tab"]


def test_B11_duplicates_are_not_decoded_and_the_first_is_kept(encoder: Encoder) -> None:
    def never() -> bytes:
        raise AssertionError("a duplicate was read")

    rows: list[Row] = [
        record("a"),
        Record("a", "again", never, ""),
        record("broken", b""),
        Record("broken", "a good one, too late", never, ""),
        Rejected("missing", "missing_caption", "", ""),
        Record("missing", "late", never, ""),
    ]
    unit = map_rows(encoder, rows)
    assert keys(unit) == ["a"]
    assert [(row.key, row.code) for row in unit.rejected] == [
        ("a", "duplicate_key"),
        ("broken", "image_empty"),
        ("broken", "duplicate_key"),
        ("missing", "missing_caption"),
        ("missing", "duplicate_key"),
    ]


def test_a_key_of_the_memory_is_already_stored_or_a_conflict(encoder: Encoder) -> None:
    same = record("same")
    content = hashlib.sha256(same.image()).hexdigest()
    known = KnownKeys(
        {
            "same": StoredPair(content, "a bird"),
            "image": StoredPair("other", "a bird"),
            "caption": StoredPair(hashlib.sha256(record("caption").image()).hexdigest(), "another bird"),
        }
    )
    unit = map_rows(encoder, [same, record("image"), record("caption"), record("new")], known)
    assert codes(unit) == {"same": "already_stored", "image": "duplicate_key", "caption": "duplicate_key"}
    assert keys(unit) == ["new"]


def test_readers_rejections_and_failed_reads_keep_their_place(encoder: Encoder) -> None:
    def gone() -> bytes:
        raise RowRejected("source_changed", "gone")

    rows = [record("a"), Rejected("b", "missing_image", "d", "s"), Record("c", "x", gone, "s"), record("d")]
    unit = map_rows(encoder, rows)
    assert keys(unit) == ["a", "d"]
    assert unit.rejected == (rows[1], Rejected("c", "source_changed", "gone", "s"))


class Faulty:
    """An encoder that cannot embed some rows; everything else is the real one's."""

    def __init__(self, encoder: Encoder, *, dark: float = -9.0, words: tuple[str, ...] = ()) -> None:
        self._encoder, self._dark, self._words = encoder, dark, words
        self.calls: list[int] = []
        self.tokenized: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_image(self, pixels: torch.Tensor) -> Any:
        bad = [row for row in range(len(pixels)) if pixels[row].mean() < self._dark]
        if bad:
            raise EncoderError("nonfinite_embedding", "", bad)
        return self._encoder.encode_image(pixels)

    def tokenize(self, texts: list[str]) -> Any:
        self.tokenized += texts
        if set(texts) & set(self._words):
            raise TextError("text_special_token", "special")
        return self._encoder.tokenize(texts)

    def encode_text(self, tokens: torch.Tensor) -> Any:
        self.calls.append(len(tokens))
        return self._encoder.encode_text(tokens)


def black() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    return file.getvalue()


def test_B19_a_row_the_encoder_cannot_embed_is_rejected_alone(encoder: Encoder) -> None:
    rows: list[Row] = [record(f"k{n}", black() if n in (1, 2) else None) for n in range(6)]
    unit = map_rows(Faulty(encoder, dark=-1.5), rows)
    assert codes(unit) == {"k1": "nonfinite_embedding", "k2": "nonfinite_embedding"}
    good = map_rows(encoder, [row for row in rows if row.key not in codes(unit)])
    assert keys(unit) == keys(good)
    assert np.allclose(unit.rows.image, good.rows.image, atol=1e-3)
    nothing = map_rows(Faulty(encoder, dark=99.0), rows)
    assert len(nothing.rejected) == 6
    assert nothing.rows.image.shape == nothing.rows.text.shape == (0, encoder.embed_dim)


def test_rejected_rows_keep_the_corpus_order_however_late_they_are_found(encoder: Encoder) -> None:
    late_image, late_text, early = record("a", black()), record("b", caption="secret"), record("c", b"")
    unit = map_rows(Faulty(encoder, dark=-1.5, words=("secret",)), [late_text, late_image, early])
    assert [row.key for row in unit.rejected] == ["b", "a", "c"]


def test_an_encoder_that_fails_as_a_whole_is_no_row_error(encoder: Encoder) -> None:
    def fail(pixels: torch.Tensor) -> Any:
        raise EncoderError("device_unavailable", "gone")

    broken = SimpleNamespace(encode_image=fail, preprocess=encoder.preprocess, embed_dim=128)
    with pytest.raises(EncoderError):
        map_rows(broken, [record("a")])


def test_captions_are_tokenized_once_each_where_all_are_taken(encoder: Encoder) -> None:
    counting = Faulty(encoder)
    map_rows(counting, [record(f"k{n}", caption=caption) for n, caption in enumerate(["one", "two", "one", "three"])])
    assert sorted(counting.tokenized) == ["one", "three", "two"]


def test_captions_are_encoded_once_each_and_refused_alone(encoder: Encoder) -> None:
    captions = ["one", "two", "one", "secret", "three", "two", "secret"]
    faulty = Faulty(encoder, words=("secret",))
    unit = map_rows(faulty, [record(f"k{n}", caption=caption) for n, caption in enumerate(captions)])
    assert sum(faulty.calls) == 3
    assert codes(unit) == {"k3": "text_special_token", "k6": "text_special_token"}
    assert np.array_equal(unit.rows.text[0], unit.rows.text[2])
    assert unit.rows.items.column("caption").to_pylist() == ["one", "two", "one", "three", "two"]


def test_progress_adds_up_and_a_stop_is_heard_between_batches(encoder: Encoder) -> None:
    rows: list[Row] = [record(f"k{n}", b"" if n % 3 == 0 else None) for n in range(10)]
    told: list[tuple[int, int]] = []
    with open_small(encoder) as mapper:
        mapper.map_unit(rows, KnownKeys({}), lambda *counts: told.append(counts))
    assert (sum(read for read, _ in told), sum(rejected for _, rejected in told)) == (10, 4)

    read = 0

    def endless() -> Iterator[Row]:
        nonlocal read
        while True:
            read += 1
            yield record(f"n{read}")

    def stop(rows: int, rejected: int) -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        open_small(encoder) as mapper,
    ):
        mapper.map_unit(endless(), KnownKeys({}), stop)
    assert read <= 4 + 2 * 4 + 1


def test_units_led_at_once_hand_in_their_images_one_after_the_other(encoder: Encoder) -> None:
    """Side by side both would be held whole until both are done, and no unit's images would run beside texts."""
    handed_in: list[str] = []

    class Noting(ThreadLanes):
        def images(self, candidates: Any) -> Any:
            handed_in.append(candidates[0].record.key[0])
            return super().images(candidates)

    lanes = Noting(encoder, batch_size=2, workers=2, thumbnail_px=0)
    mapper = Mapper(encoder, lanes, batch_size=2, max_characters=100)
    units = [[record(f"{name}{n}") for n in range(20)] for name in "ab"]
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda rows: mapper.map_unit(rows, KnownKeys({}), lambda *_: None), units))
    lanes.close()
    assert [keys(unit) for unit in done] == [[row.key for row in unit] for unit in units]
    assert handed_in in (["a"] * 10 + ["b"] * 10, ["b"] * 10 + ["a"] * 10)


def test_a_unit_that_fails_gives_its_turn_away(encoder: Encoder) -> None:
    def stop(read: int, rejected: int) -> None:
        raise KeyboardInterrupt

    with open_small(encoder) as mapper:
        with pytest.raises(KeyboardInterrupt):
            mapper.map_unit([record(f"k{n}") for n in range(9)], KnownKeys({}), stop)
        assert len(keys(mapper.map_unit([record("a")], KnownKeys({}), lambda *_: None))) == 1


def test_a_row_that_repeats_a_pair_is_no_duplicate(encoder: Encoder) -> None:
    """Whatever came of the first: stored, there already, or another than the memory's."""
    stored = record("stored")
    content = hashlib.sha256(stored.image()).hexdigest()
    known = KnownKeys({"stored": StoredPair(content, "a bird"), "changed": StoredPair("other", "a bird")})
    other = Record("a", "a bird", lambda: draw(9), "")
    again = record("a", caption="another bird")
    twice: list[Row] = [record("a"), record("a"), other, again, stored, stored, record("changed"), record("changed")]
    unit = map_rows(encoder, twice, known)
    assert keys(unit) == ["a"]
    assert [(row.key, row.code) for row in unit.rejected] == [
        ("a", "repeated"),
        ("a", "duplicate_key"),
        ("a", "duplicate_key"),
        ("stored", "already_stored"),
        ("stored", "repeated"),
        ("changed", "duplicate_key"),
        ("changed", "duplicate_key"),
    ]
    assert {row.detail for row in unit.rejected if row.key == "changed"} == {OTHER_PAIR}


def test_no_thumbnail_is_so_large_that_a_segment_of_them_cannot_be_written(encoder: Encoder) -> None:
    """16,384 of them make one record batch, whose bytes are counted in 31 bits."""
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    record = Record("k", "c", file.getvalue, "s")
    thumbnail = decode(record, encoder.preprocess, 1024).thumbnail
    assert thumbnail is not None
    assert 16_384 * len(thumbnail) < 2**31
