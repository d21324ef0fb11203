"""The rules that turn bytes into the encoder's input, and the rows I1 to I27 of the threat model."""

import binascii
import io
import pickle
import random
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageFile

from models.errors import ImageError
from models.images.decoding import ImageLimits, decode_image
from models.images.headers import read_header
from models.images.preprocessor import Preprocessor

MAGIC = {
    "jpeg": b"\xff\xd8\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "webp": b"RIFF\x00\x40\x00\x00WEBPVP8 ",
    "gif": b"GIF89a",
    "avif": b"\x00\x00\x00\x1cftypavif",
}


def file_of(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand: `rows` are unfiltered scan lines, each with its filter byte."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return MAGIC["png"] + header + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND")


def insert_after_ihdr(data: bytes, extra: bytes) -> bytes:
    return data[:33] + extra + data[33:]


def refusal(data: bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, limits)
    return caught.value.code


def fastest_ms(work: Callable[[], object], repeats: int = 5) -> float:
    """CPU time, the best of a few: what it costs, not what the neighbours on this machine cost."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times) * 1000


# What is refused, by row of the threat model


@pytest.mark.parametrize(
    "data",
    [
        bytes(1 << 20),
        b"hello",
        b"<!doctype html><html></html>",
        b"%PDF-1.7\n",
        b'{"image": 1}',
        b"\xff",
        b"RIFF",
    ],
    ids=["zeros", "text", "html", "pdf", "json", "one byte", "riff"],
)
def test_I01_not_an_image(data: bytes) -> None:
    assert refusal(data) == "image_format_unsupported"


def test_I01_no_bytes() -> None:
    assert refusal(b"") == "image_empty"


def test_I02_svg() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    assert refusal(svg) == "image_format_unsupported"


@pytest.mark.parametrize("data", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"P6 2 2 255\n" + bytes(12)], ids=["eps", "ppm"])
def test_I03_postscript_and_ppm(data: bytes) -> None:
    assert refusal(data) == "image_format_unsupported"


@pytest.mark.parametrize("file_format", ["TIFF", "BMP", "ICO", "TGA", "JPEG2000", "ICNS", "DDS", "SGI"])
def test_I04_other_formats_pillow_can_read(file_format: str) -> None:
    data = file_of(Image.new("RGB", (64, 64), "red"), file_format)
    assert refusal(data) == "image_format_unsupported"


def test_I04_heic_brand_is_not_avif() -> None:
    assert refusal(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)) == "image_format_unsupported"


@pytest.mark.parametrize("keep", ["first 10 bytes", "half", "all but 2 bytes"])
def test_I05_truncated_jpeg(photo_bytes: dict[str, bytes], keep: str) -> None:
    data = photo_bytes["jpeg"]
    cut = {"first 10 bytes": 10, "half": len(data) // 2, "all but 2 bytes": -2}[keep]
    assert refusal(data[:cut]) == "image_truncated"


@pytest.mark.parametrize("name", ["png", "webp", "gif", "avif", "cmyk_jpeg", "png_alpha"])
def test_I05_truncated_others(photo_bytes: dict[str, bytes], name: str) -> None:
    data = photo_bytes[name]
    assert refusal(data[: len(data) // 2]) == "image_truncated"


def test_I05_truncated_progressive_jpeg() -> None:
    data = file_of(Image.linear_gradient("L").convert("RGB"), "JPEG", progressive=True)
    assert refusal(data[: len(data) // 2]) == "image_truncated"


def test_I05_every_cut_is_refused_or_loses_nothing(photo_bytes: dict[str, bytes]) -> None:
    for name in ("jpeg", "png", "webp", "gif", "avif"):
        data = photo_bytes[name]
        whole = decode_image(data).tobytes()
        for cut in (
            *range(0, 64),
            *range(64, len(data), max(1, len(data) // 60)),
            *range(len(data) - 16, len(data)),
        ):
            try:
                assert decode_image(data[:cut]).tobytes() == whole  # only what follows the pixels is missing
            except ImageError as error:
                assert error.code in {"image_empty", "image_format_unsupported", "image_truncated"}, (
                    name,
                    cut,
                )


def test_I05_pillow_may_not_fill_in_missing_data() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS is not None


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(file_of(Image.new("RGB", (16, 16)), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def avif_claiming(width: int, height: int) -> bytes:
    data = bytearray(file_of(Image.new("RGB", (64, 64)), "AVIF"))
    start = data.index(b"ispe") + 8
    data[start : start + 8] = struct.pack(">II", width, height)
    return bytes(data)


BOMBS = {
    "I06 png of 89 megapixels in 11 KB": png(9449, 9449, 1, 0, bytes(9449 * (1 + 1182))),
    "I07 png of 178 megapixels": png(13370, 13370, 1, 0, bytes(13370 * (1 + 1672))),
    "I08 webp of 34 bytes": b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f" + struct.pack("<I", 16382 | 10899 << 14) + bytes(9),
    "I08 webp canvas": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0" + b"\xff\x3f\0",
    "I08 webp lossy": b"RIFF\x1a\0\0\0WEBPVP8 \x0e\0\0\0" + b"\x10\0\0\x9d\x01\x2a" + b"\xff\x3f\xff\x3f" + bytes(4),
    "I10 jpeg of 65500²": jpeg_claiming(65500, 65500),
    "I10 jpeg of 176 megapixels": jpeg_claiming(16000, 11000),
    "I11 gif screen": b"GIF89a" + struct.pack("<HH", 13000, 13000) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
    # Pillow fills the area to dispose of when it opens the file, before it can be asked for the size.
    "I11 gif that disposes of its screen": b"GIF89a"
    + struct.pack("<HH", 13000, 13000)
    + b"\0\0\0!\xf9\4\x08\0\0\0\0,\0\0\0\0"
    + struct.pack("<HH", 13000, 13000)
    + b"\0\2\2D\1\0;",
    "I17 gif first frame larger than its screen": b"GIF89a\1\0\1\0\0\0\0,"
    + struct.pack("<HHHH", 0, 0, 13000, 13000)
    + b"\0\2\2D\1\0;",
    "I17 gif frame far outside": b"GIF89a\1\0\1\0\0\0\0," + struct.pack("<HHHH", 60000, 60000, 1, 1) + b"\0\2\2D\1\0;",
}


@pytest.mark.parametrize("name", BOMBS)
def test_I06_to_I11_and_I17_bombs_are_refused_from_the_header(name: str) -> None:
    data = BOMBS[name]
    assert refusal(data) == "image_too_many_pixels"
    assert fastest_ms(lambda: refusal(data)) <= 5


def test_I09_avif_bomb() -> None:
    data = avif_claiming(8000, 8000)
    assert len(data) < 1000
    assert refusal(data) == "image_too_many_pixels"
    assert fastest_ms(lambda: refusal(data)) <= 5


def test_bombs_beyond_pillows_own_limits_are_refused_alike_when_ours_is_higher() -> None:
    # Pillow warns above 89 and refuses above 178 megapixels; both stay inside.
    limits = ImageLimits(max_pixels=300_000_000)
    assert refusal(BOMBS["I08 webp canvas"], limits) == "image_too_many_pixels"
    gif = BOMBS["I17 gif first frame larger than its screen"].replace(
        struct.pack("<HH", 13000, 13000), struct.pack("<HH", 17000, 17000)
    )
    assert refusal(gif, limits) == "image_too_many_pixels"


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_I12_compressed_chunk_bomb(photo_bytes: dict[str, bytes], kind: bytes) -> None:
    bomb = chunk(kind, b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    assert refusal(insert_after_ihdr(photo_bytes["png"], bomb)) == "image_undecodable"


def test_I12_many_profiles_that_inflate_a_thousandfold(photo_bytes: dict[str, bytes]) -> None:
    # Each is below Pillow's limit and takes 2 ms: 20,000 of them would take 40 s.
    data = insert_after_ihdr(photo_bytes["png"], chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 2000)
    assert refusal(data) == "image_undecodable"
    assert fastest_ms(lambda: refusal(data)) <= 5


def structure_bombs(photo_bytes: dict[str, bytes]) -> dict[str, bytes]:
    jpeg, gif = photo_bytes["jpeg"], photo_bytes["gif"]
    start = jpeg.index(b"\xff\xda")
    palette_end = 13 + (3 << (gif[10] & 7) + 1)
    scan = jpeg[start : start + 14]
    return {
        "png of a million chunks": insert_after_ihdr(photo_bytes["png"], chunk(b"abCd") * 1_000_000),
        "jpeg of a million segments": jpeg[:2] + b"\xff\xfe\x00\x02" * 1_000_000 + jpeg[2:],
        "jpeg with megabytes of junk": jpeg[:2] + b"\xff\xfe\x00\x02" + b"\x01" * 5_000_000 + jpeg[2:],
        "jpeg with megabytes of fill": jpeg[:2] + b"\xff" * 5_000_000 + jpeg[2:],
        "jpeg of ten thousand scans": jpeg[:start] + scan * 10_000 + jpeg[start:],
        "gif of a million comment blocks": gif[:palette_end]
        + b"!\xfe"
        + b"\x01a" * 1_000_000
        + b"\0"
        + gif[palette_end:],
        "gif of a million extensions": gif[:palette_end] + b"!\xf0\0" * 1_000_000 + gif[palette_end:],
    }


def test_I13_structure_without_content_is_bounded(photo_bytes: dict[str, bytes]) -> None:
    for name, data in structure_bombs(photo_bytes).items():
        assert refusal(data) == "image_undecodable", name
        # Pillow alone takes 0.4 to 6 s for these, holding the interpreter.
        assert fastest_ms(lambda data=data: refusal(data), repeats=3) <= 250, name


@pytest.mark.parametrize("size", [(65535, 1), (1, 65535), (101, 1), (10001, 100)])
def test_I14_aspect_ratio(size: tuple[int, int]) -> None:
    assert refusal(file_of(Image.new("1", size), "PNG")) == "image_aspect_ratio"


def test_I14_the_limit_itself_is_accepted() -> None:
    assert decode_image(file_of(Image.new("L", (1000, 10)), "PNG")).size == (1000, 10)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 224), (224, 3)])
def test_I15_tiny_images_are_images(encoder, size: tuple[int, int]) -> None:
    pixels = encoder.preprocess(file_of(Image.new("RGB", size, (10, 200, 30)), "PNG"))
    assert pixels.shape == (3, 64, 64)
    assert torch.isfinite(pixels).all()


def test_I15_no_size_at_all() -> None:
    assert refusal(png(0, 0, 8, 2, b"")) == "image_undecodable"
    assert refusal(b"GIF89a" + bytes(4) + b"\0\0\0;") in {"image_undecodable", "image_truncated"}


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_I16_animations_count_their_first_frame(file_format: str) -> None:
    frames = [Image.new("RGB", (32, 24), (i % 256, 255 - i % 256, 90)) for i in range(500)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = file_of(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(np.asarray(decode_image(data)), np.asarray(frames[0]))
    assert fastest_ms(lambda: decode_image(data)) <= 5


def test_I16_mpo_counts_its_first_picture() -> None:
    first, second = Image.new("RGB", (64, 48), (200, 10, 10)), Image.new("RGB", (64, 48), (10, 10, 200))
    data = file_of(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.asarray(decode_image(data)).mean(axis=(0, 1))[0] > 190


# What is accepted, and what it becomes


def test_I18_cmyk_jpeg_is_near_its_rgb_twin(encoder, photo_bytes: dict[str, bytes]) -> None:
    pixels = torch.stack([encoder.preprocess(photo_bytes[name]) for name in ("cmyk_jpeg", "jpeg")])
    cmyk, rgb = encoder.encode_image(pixels)
    assert float(cmyk @ rgb) >= 0.98


def test_I19_grey_of_16_bits_is_scaled_not_clipped() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = file_of(Image.fromarray(ramp), "PNG")
    decoded = np.asarray(decode_image(data)).astype(int)
    assert decoded.mean() == pytest.approx(127.5, abs=0.01)
    assert (decoded[..., 0] == (ramp / 257 + 0.5).astype(int)).all()
    assert (decoded[..., 0] == decoded[..., 2]).all()


def test_I19_a_transparent_grey_of_16_bits_is_exact() -> None:
    rows = b"".join(b"\0" + struct.pack(">4H", 30000, 30001, 0, 65535) for _ in range(4))
    data = png(4, 4, 16, 0, rows, extra=chunk(b"tRNS", struct.pack(">H", 30000)))
    decoded = np.asarray(decode_image(data))[0, :, 0].tolist()
    assert decoded == [255, 117, 0, 255]  # only 30000 is transparent, not its neighbour


TRANSPARENT_RED = (255, 0, 0, 0)


def palette_png(transparency: object) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    return file_of(image, "PNG", transparency=transparency)


@pytest.mark.parametrize(
    "data",
    [
        file_of(Image.new("RGBA", (8, 8), TRANSPARENT_RED), "PNG"),
        file_of(Image.new("RGBA", (8, 8), TRANSPARENT_RED), "WEBP", lossless=True, exact=True),
        file_of(Image.new("RGBA", (8, 8), TRANSPARENT_RED), "AVIF"),
        file_of(Image.new("LA", (8, 8), (0, 0)), "PNG"),
        palette_png(1),
        palette_png(b"\xff\x00"),
        file_of(Image.new("RGB", (8, 8), (255, 0, 0)), "PNG", transparency=(255, 0, 0)),
        file_of(Image.new("L", (8, 8), 7), "PNG", transparency=7),
        file_of(Image.new("1", (8, 8), 0), "PNG", transparency=0),
        png(8, 8, 16, 6, (b"\0" + struct.pack(">4H", 65535, 0, 0, 0) * 8) * 8),
        png(8, 8, 16, 4, (b"\0" + struct.pack(">2H", 0, 0) * 8) * 8),
    ],
    ids=["RGBA", "webp", "avif", "LA", "P+int", "P+bytes", "RGB+tRNS", "L+tRNS", "1+tRNS", "RGBA16", "LA16"],
)
def test_I20_transparent_becomes_white(data: bytes) -> None:
    decoded = decode_image(data)
    assert decoded.mode == "RGB"
    assert np.asarray(decoded).min() == 255


def test_I20_half_transparent_is_half_white(photo_bytes: dict[str, bytes]) -> None:
    decoded = decode_image(file_of(Image.new("RGBA", (4, 4), (200, 0, 100, 128)), "PNG"))
    assert np.abs(np.asarray(decoded)[0, 0].astype(int) - (227, 127, 177)).max() <= 1
    photo = np.asarray(decode_image(photo_bytes["png"])).astype(int)
    faded = np.asarray(decode_image(photo_bytes["png_alpha"])).astype(int)
    assert faded[0].min() >= 253  # alpha nearly 0 above ...
    assert np.abs(faded[-1] - photo[-1]).max() <= 6  # ... and nearly 255 below


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA"])
def test_I20_opaque_colours_survive_every_mode(mode: str) -> None:
    decoded = decode_image(file_of(Image.new("RGB", (8, 8), "white").convert(mode), "PNG"))
    assert decoded.mode == "RGB"
    assert np.asarray(decoded).min() == 255


def test_I21_float_and_lab_tiffs_are_refused_with_their_format() -> None:
    for mode in ("F", "I", "LAB"):
        assert refusal(file_of(Image.new(mode, (8, 8)), "TIFF")) == "image_format_unsupported"


def exif_block(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


FIRST_ROW_OF_TWIN = {1: "ab", 2: "ba", 3: "dc", 4: "cd", 5: "ac", 6: "ca", 7: "db", 8: "bd"}
CORNERS = {"a": (250, 10, 10), "b": (10, 250, 10), "c": (10, 10, 250), "d": (250, 250, 10)}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9, 99])
def test_I22_orientation_of_all_twins(orientation: int, order: str) -> None:
    stored = Image.new("RGB", (64, 32))
    for letter, corner in zip("abcd", [(0, 0), (32, 0), (0, 16), (32, 16)], strict=True):
        stored.paste(CORNERS[letter], (*corner, corner[0] + 32, corner[1] + 16))
    exif = b"Exif\0\0" + exif_block(orientation, order)
    for data in (file_of(stored, "JPEG", quality=95, exif=exif), file_of(stored, "PNG", exif=exif)):
        upright = decode_image(data)
        assert upright.size == ((32, 64) if 5 <= orientation <= 8 else (64, 32))
        width, height = upright.size
        for letter, x in zip(FIRST_ROW_OF_TWIN.get(orientation, "ab"), (width // 4, 3 * width // 4), strict=True):
            difference = np.subtract(upright.getpixel((x, height // 4)), CORNERS[letter])
            assert np.abs(difference).max() < 60, (orientation, letter)


def test_I22_orientation_equals_pillows(photo_bytes: dict[str, bytes]) -> None:
    from PIL import ImageOps

    photo = Image.open(io.BytesIO(photo_bytes["png"]))
    for orientation in range(1, 9):
        for file_format in ("JPEG", "WEBP", "PNG", "AVIF"):
            exif = Image.Exif()
            exif[0x0112] = orientation
            data = file_of(photo, file_format, exif=exif)
            expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            assert decode_image(data).tobytes() == expected.tobytes(), (orientation, file_format)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        exif_block(6)[:-8],
        exif_block(6).replace(b"\x03\0\x01\0", b"\x07\0\x01\0"),
        b"garbage" * 9,
        bytes(range(256)),
    ],
)
def test_I22_corrupt_exif_is_harmless(photo_bytes: dict[str, bytes], exif: bytes) -> None:
    segment = b"Exif\0\0" + exif
    app1 = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    data = photo_bytes["jpeg"]
    decoded = decode_image(data[:2] + app1 + data[2:])
    assert decoded.tobytes() == decode_image(data).tobytes()


@pytest.mark.parametrize("profile", [b"", b"not a profile", bytes(300_000)], ids=["empty", "corrupt", "huge"])
def test_I23_colour_profile_is_ignored(photo_bytes: dict[str, bytes], profile: bytes) -> None:
    photo = Image.open(io.BytesIO(photo_bytes["png"])).convert("RGB")
    for file_format, options in (("PNG", {}), ("JPEG", {"quality": 90}), ("WEBP", {"quality": 90})):
        plain = decode_image(file_of(photo, file_format, **options))
        assert decode_image(file_of(photo, file_format, icc_profile=profile, **options)).tobytes() == plain.tobytes()


@pytest.mark.parametrize("tail", [b"PK\x03\x04" + bytes(range(256)) * 400, b"<script>x</script>", b"<?php x ?>"])
def test_I24_what_follows_the_image_is_ignored(photo_bytes: dict[str, bytes], tail: bytes) -> None:
    for name in ("jpeg", "png", "gif"):
        assert decode_image(photo_bytes[name] + tail).tobytes() == decode_image(photo_bytes[name]).tobytes()


def test_I25_the_magic_decides(photo_bytes: dict[str, bytes]) -> None:
    # There is no name and no content type to be misled by; all of one photograph agree.
    reference = np.asarray(decode_image(photo_bytes["png"])).astype(int)
    for name in ("jpeg", "webp", "avif", "gif"):
        assert np.abs(np.asarray(decode_image(photo_bytes[name])).astype(int) - reference).mean() < 20, name


def test_I26_wrong_checksum(photo_bytes: dict[str, bytes]) -> None:
    data = bytearray(photo_bytes["png"])
    data[29] ^= 0xFF  # the checksum of IHDR
    assert refusal(bytes(data)) == "image_undecodable"


def outcome(data: bytes) -> str:
    try:
        image = decode_image(data)
    except ImageError as error:
        return error.code
    assert image.mode == "RGB"
    assert image.width * image.height <= ImageLimits().max_pixels
    return "ok"


def test_I26_mutations_are_decoded_or_refused(photo_bytes: dict[str, bytes]) -> None:
    draw = random.Random(26)
    names = sorted(photo_bytes)
    seen = set()
    for round_ in range(2000):
        data = bytearray(photo_bytes[names[round_ % len(names)]])
        for _ in range(draw.choice((1, 1, 3, 20))):
            # Half of the hits in the head, where the structure is.
            place = draw.randrange(min(len(data), 200) if draw.random() < 0.5 else len(data))
            action = draw.random()
            if action < 0.6:
                data[place] ^= 1 << draw.randrange(8)
            elif action < 0.8:
                data[place : place + draw.randrange(8)] = draw.randbytes(draw.randrange(8))
            else:
                data[place] = draw.choice((0, 255))
        seen.add(outcome(bytes(data)))
    assert {"ok", "image_truncated", "image_undecodable"} <= seen


def test_I27_random_bytes_after_the_magic() -> None:
    draw = random.Random(27)
    for round_ in range(2000):
        magic = draw.choice(list(MAGIC.values()))
        assert outcome(magic + draw.randbytes(draw.randrange(2000))) != "ok", round_


# Limits, messages, warnings


def test_limits_are_the_callers(photo_bytes: dict[str, bytes]) -> None:
    data = photo_bytes["jpeg"]
    assert refusal(data, ImageLimits(max_bytes=len(data) - 1)) == "image_too_large"
    assert refusal(data, ImageLimits(max_pixels=120 * 90 - 1)) == "image_too_many_pixels"
    assert refusal(data, ImageLimits(max_aspect=1)) == "image_aspect_ratio"
    exact = ImageLimits(max_bytes=len(data), max_pixels=120 * 90, max_aspect=2)
    assert decode_image(data, exact).size == (120, 90)


def test_a_long_scan_is_followed_to_its_end() -> None:
    # Scans are searched in pieces of 1 MiB: the end marker may lie across a border.
    head = file_of(Image.new("RGB", (16, 16)), "JPEG")
    head = head[: head.index(b"\xff\xda") + 14]
    for length in range(2**20 - 8, 2**20 + 8):
        scan = b"\xff\x00" * (length // 2) + b"\x01" * (length % 2)
        assert read_header(head + scan + b"\xff\xd9").complete
        assert not read_header(head + scan).complete


def test_progressive_scans_are_counted_and_measured_in_pixels() -> None:
    data = file_of(Image.linear_gradient("L").convert("RGB"), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    last_scan = data[start:-2]
    assert decode_image(data[:-2] + last_scan * 20 + data[-2:]).size == (256, 256)
    assert refusal(data[:-2] + last_scan * 120 + data[-2:]) == "image_undecodable"
    large = bytearray(data[:-2] + last_scan * 20 + data[-2:])
    frame = large.index(b"\xff\xc2")
    large[frame + 5 : frame + 9] = struct.pack(">HH", 7000, 7000)
    assert refusal(bytes(large)) == "image_undecodable"


def test_the_message_is_ours_and_crosses_processes(photo_bytes: dict[str, bytes]) -> None:
    messages: dict[str, set[str]] = {}
    for data in (b"", b"x", photo_bytes["jpeg"][:100], photo_bytes["png"][:100], photo_bytes["webp"][:50]):
        with pytest.raises(ImageError) as caught:
            decode_image(data)
        error = caught.value
        messages.setdefault(error.code, set()).add(error.detail)
        twin = pickle.loads(pickle.dumps(error))
        assert (twin.code, twin.detail) == (error.code, error.detail)
    assert set(messages) == {"image_empty", "image_format_unsupported", "image_truncated"}
    assert all(len(details) == 1 for details in messages.values())


def test_decoding_alone_warns_nobody_and_needs_no_torch(photo_bytes: dict[str, bytes]) -> None:
    # In a process of its own: pytest has its own filters.
    code = (
        "import sys, models.images.decoding as images\n"
        "for name in sys.stdin.buffer.read().split(b'|||'):\n"
        "    try: images.decode_image(name)\n"
        "    except images.ImageError: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    jpeg = photo_bytes["jpeg"]
    segment = b"Exif\0\0" + exif_block(1)[:14] + b"\x05\x01" + bytes(6)
    corrupt = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    animated = insert_after_ihdr(photo_bytes["png"], chunk(b"acTL", bytes(8)))
    files = b"|||".join([corrupt, animated, *BOMBS.values()])
    done = subprocess.run([sys.executable, "-c", code], input=files, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")


# Equal to open_clip

SQUASHED = {"size": 64, "resize_mode": "squash"}


def vit_b_32_config() -> dict[str, object]:
    return {"size": (224, 224), "interpolation": "bicubic", "resize_mode": "shortest"}


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "cmyk_jpeg"])
@pytest.mark.parametrize("config", [{"size": 64}, vit_b_32_config()], ids=["64px", "ViT-B-32"])
def test_pixels_equal_open_clips(photo_bytes: dict[str, bytes], name: str, config: dict[str, object]) -> None:
    theirs = image_transform_v2(PreprocessCfg(**config), is_train=False)
    expected = theirs(Image.open(io.BytesIO(photo_bytes[name])))
    actual = Preprocessor(config)(photo_bytes[name])
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)


def test_the_record_names_all_that_decides_the_pixels() -> None:
    record = Preprocessor(vit_b_32_config()).record
    assert record["size"] == [224, 224] == Preprocessor({**vit_b_32_config(), "size": 224}).record["size"]
    assert set(record) == {
        "size",
        "mode",
        "mean",
        "std",
        "interpolation",
        "resize_mode",
        "fill_color",
        "rules",
    }
    assert record["rules"] == 1


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (224, 224), (90, 120), (1000, 31), (64, 64), (65, 1)])
@pytest.mark.parametrize("config", [{"size": 64}, {**vit_b_32_config(), "interpolation": "bilinear"}, SQUASHED])
def test_fast_pixels_are_next_to_exact(size: tuple[int, int], config: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = file_of(Image.fromarray(noise), "PNG")
    exact, fast = Preprocessor(config), Preprocessor(config, mode="fast")
    assert (exact.mode, fast.mode) == ("exact", "fast")
    assert exact.record == fast.record
    levels = [
        torch.round((pixels(data) * torch.tensor(exact.record["std"])[:, None, None]) * 255) for pixels in (exact, fast)
    ]
    difference = (levels[0] - levels[1]).abs()
    assert (
        difference.max() <= 3
    )  # of noise; a photograph shows one: each direction may round by one, and enlarging adds
    assert difference.mean() < 0.5


@pytest.mark.parametrize("name", ["png_alpha", "cmyk_jpeg", "gif"])
def test_fast_follows_the_same_rules(photo_bytes: dict[str, bytes], name: str) -> None:
    exact, fast = (Preprocessor(vit_b_32_config(), mode=mode)(photo_bytes[name]) for mode in ("exact", "fast"))
    assert (exact - fast).abs().max() < 2.5 / 255 / 0.26


def test_a_transform_that_only_open_clip_has_stays_exact() -> None:
    assert Preprocessor({"size": (64, 32)}, mode="fast").mode == "exact"
    assert Preprocessor({"size": 64, "resize_mode": "longest"}, mode="fast").mode == "exact"
