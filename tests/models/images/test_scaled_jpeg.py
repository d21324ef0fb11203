"""JPEGs that are decoded at a part of their size: the same embeddings, and nothing else about them changes."""

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from memory_builder.encoding.decoding import decode
from memory_builder.records import Record
from models.encoder import Encoder
from models.errors import ImageError
from models.images.decoding import ImageLimits, decode_picture
from models.images.preprocessor import Preprocessor

SIDE = 64
LEAST_COSINE, MOST_VALUES = 0.9998, 0.7  # values of 256, on average; 3 where a last column counts as a whole pixel
TRAINED = Path(__file__).parents[3] / "demo" / "tiny_clip"  # random weights would say nothing of what embeddings lose


@pytest.fixture(scope="module")
def fast() -> Encoder:
    return Encoder.open(str(TRAINED), device="cpu", dtype="float32", preprocess="fast")


@pytest.fixture(scope="module")
def exact() -> Preprocessor:
    return Encoder.open(str(TRAINED), device="cpu", dtype="float32", preprocess="exact").preprocess


def picture(width: int, height: int) -> Image.Image:
    """Clouds, grain, and hard edges everywhere: what scaling could get wrong."""
    dice = np.random.default_rng(width)
    layers = []
    for size in (4, 16, 64):
        noise = Image.fromarray(dice.integers(0, 256, (size, size, 3), dtype=np.uint8))
        layers.append(np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32))
    grain = dice.normal(0, 8, (height, width, 1))
    image = Image.fromarray(np.clip(np.average(layers, axis=0, weights=[4, 2, 1]) + grain, 0, 255).astype(np.uint8))
    draw, chance = ImageDraw.Draw(image), random.Random(height)
    for _ in range(60):
        x, y = chance.randrange(width), chance.randrange(height)
        colour = (chance.randrange(256), chance.randrange(256), chance.randrange(256))
        draw.text((x, y), "Fragile 25 %", fill=colour, font_size=max(8, height // 20))
    return image


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 92, **options})
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def lossless_jpeg(width: int, height: int) -> bytes:
    """Grey of 128: every pixel is what is foretold of it, which one bit says."""
    frame = b"\xff\xc3" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes([1, 0x11, 0])
    codes = b"\xff\xc4" + struct.pack(">HB", 20, 0) + bytes([1, *[0] * 15, 0])
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 1, 0, 0])
    return b"\xff\xd8" + frame + codes + scan + bytes((width * height + 7) // 8) + b"\xff\xd9"


@pytest.mark.parametrize("size", [(1040, 784), (1039, 785), (531, 787), (534, 385), (3101, 401)])
@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"progressive": True}, {"exif": turned(3)}, {"exif": turned(5)}, {"exif": turned(6)}],
    ids=["plain", "444", "progressive", "turned 3", "turned 5", "turned 6"],
)
def test_embeddings_are_those_of_the_whole(fast: Encoder, exact: Preprocessor, size, options) -> None:
    data = jpeg(picture(*size), **options)
    assert fast.preprocess.decode(data).image.width <= size[0] // 2 + 1
    small, whole = fast.preprocess(data), exact(data)
    assert float((small - whole).abs().mean()) * 0.27 * 256 <= MOST_VALUES
    one, other = fast.encode_image(torch.stack([small, whole]))
    assert float(one @ other) >= LEAST_COSINE


def test_grey_is_scaled_too(fast: Encoder, exact: Preprocessor) -> None:
    data = jpeg(picture(1039, 785).convert("L"))
    assert fast.preprocess.decode(data).image.size == (260, 197)
    one, other = fast.encode_image(torch.stack([fast.preprocess(data), exact(data)]))
    assert float(one @ other) >= LEAST_COSINE


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ((383, 450), (383, 450)),
        ((384, 450), (192, 225)),
        ((385, 450), (193, 225)),
        ((1535, 4500), (384, 1125)),
        ((1536, 4500), (192, 563)),
        ((1543, 7500), (193, 938)),
        ((4096, 4096), (512, 512)),  # an eighth is the least that libjpeg has
    ],
)
def test_the_smallest_part_that_is_enough(fast: Encoder, size: tuple[int, int], found: tuple[int, int]) -> None:
    assert fast.preprocess.enough == 3 * SIDE
    decoded = fast.preprocess.decode(jpeg(Image.new("RGB", size, "teal")))
    assert decoded.image.size == found
    assert decoded.size[0] / decoded.size[1] == size[0] / size[1]


def test_what_has_no_part_is_decoded_whole(fast: Encoder, exact: Preprocessor) -> None:
    image = picture(800, 600)
    png = io.BytesIO()
    image.save(png, "PNG")
    for data in (png.getvalue(), jpeg(image.convert("CMYK")), lossless_jpeg(800, 600)):
        assert fast.preprocess.decode(data).image.size == (800, 600)
        assert float((fast.preprocess(data) - exact(data)).abs().max()) <= 0.02
    assert exact.decode(jpeg(image)).image.size == (800, 600)


def test_limits_are_of_the_whole() -> None:
    data, limits = jpeg(Image.new("RGB", (1000, 1001))), ImageLimits(max_pixels=1_000_000)
    with pytest.raises(ImageError, match="more pixels") as caught:
        decode_picture(data, limits, enough=10)
    assert caught.value.code == "image_too_many_pixels"


def test_I27_damage_is_refused_as_ever(fast: Encoder, exact: Preprocessor) -> None:
    """Cut anywhere, or with a byte changed: whatever libjpeg says of the whole it says of a part."""

    def outcome(preprocess: Preprocessor, data: bytes) -> str:
        try:
            preprocess(data)
        except ImageError as error:
            return error.code
        return "decoded"

    chance = random.Random(0)
    for options in ({}, {"progressive": True}):
        data = jpeg(picture(523, 391), **options)
        damaged = [data[: chance.randrange(3, len(data))] for _ in range(20)]
        for _ in range(60):
            broken = bytearray(data)
            broken[chance.randrange(2, len(data))] = chance.randrange(256)
            damaged.append(bytes(broken))
        for one in damaged:
            assert outcome(fast.preprocess, one) == outcome(exact, one)


@pytest.mark.parametrize("thumbnail_px", [0, 96, 200, 700])
def test_a_thumbnail_changes_no_pixels_of_the_encoder(fast: Encoder, thumbnail_px: int) -> None:
    """The builder's pixels are the service's, and a thumbnail has the size that was asked for."""
    data = jpeg(picture(1039, 785), exif=turned(6))
    row = decode(Record("a", "a thing", lambda: data, ""), fast.preprocess, thumbnail_px)
    assert torch.equal(row.pixels, fast.preprocess(data))
    if thumbnail_px:
        assert row.thumbnail is not None
        thumbnail = Image.open(io.BytesIO(row.thumbnail))
        assert thumbnail.size == (pytest.approx(thumbnail_px * 785 / 1039, abs=1), thumbnail_px)
