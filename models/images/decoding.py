"""An image file to upright RGB: one set of rules for the service and the builder.

The magic bytes decide the format; EXIF orientation is applied; transparency is laid on white; 16-bit grey is scaled,
not clipped; CMYK is converted by Pillow; of an animation the first frame counts; colour profiles are ignored. A JPEG
can be decoded at a half, a quarter or an eighth of its size, for whoever makes it small anyway.
Imports Pillow and numpy.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.errors import ImageError
from models.images.headers import image_error, read_header
from models.images.orientation import read_orientation

# Raise it whenever the rules above change: embeddings made under other rules are another encoder's. Who resizes is no
# rule, but a precision, as the dtype is.
RULES_VERSION = 1

# The decoders themselves, not Image.open: it adds only guessing between formats, and limits that warn before they hold.
_DECODERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,  # of an MPO, the first picture
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "AVIF": AvifImageFile,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACKGROUND = (255, 255, 255)
_PARTS = (8, 4, 2)  # of a JPEG's size: of 8 pixels of a block libjpeg computes 1, 2 or 4

# Pillow warns of odd metadata (EXIF, APNG), which we ignore. Once, here: filters cannot be changed per thread.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before a pixel is decoded.

    Decoding takes up to 4 bytes a pixel and a resize touches each once, so pixels bound memory and time; a strip of
    65,535 × 1 would be enlarged to gigapixels when its short side is fitted, so the aspect ratio is bounded too.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_aspect: int = 100


@dataclass(frozen=True)
class Picture:
    """A decoded file.

    Attributes:
        image: 8 bits, RGB or CMYK, transparency laid on white; not turned yet.
        size: width and height of what is on it, in its pixels: where a JPEG was decoded at a part of its size, the last
            column and row may stand for less than a pixel.
        orientation: how to turn it, as EXIF counts: 1 to 8.
    """

    image: Image.Image
    size: tuple[float, float]
    orientation: int

    def upright(self) -> Image.Image:
        """The image turned; CMYK stays CMYK."""
        return turn(self.image, self.orientation)


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """An image as its orientation, 1 to 8, says that it is meant."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def decode_image(data: bytes, limits: ImageLimits | None = None, *, enough: int | None = None) -> Image.Image:
    """Decode an image file to upright RGB.

    Args:
        data, limits, enough: as `decode_picture`.

    Returns:
        A Pillow image of mode RGB, 8 bits, oriented as its EXIF says, transparency laid on white.

    Raises:
        ImageError: image_empty, image_too_large, image_format_unsupported, image_truncated, image_undecodable,
            image_too_many_pixels, image_aspect_ratio. Nothing else: whatever a decoder raises becomes one of these.
    """
    image = decode_picture(data, limits or ImageLimits(), enough=enough).upright()
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_picture(data: bytes, limits: ImageLimits, *, enough: int | None = None) -> Picture:
    """Decode an image file.

    Args:
        data: the file.
        limits: of the file, at its whole size.
        enough: pixels of the shorter side that suffice: a JPEG is decoded at the smallest part of its size, down to an
            eighth, that has as many. None is the whole size.

    Raises:
        ImageError: as `decode_image`.
    """
    if not data:
        raise image_error("image_empty")
    if len(data) > limits.max_bytes:
        raise image_error("image_too_large")
    header = read_header(data)
    if header.size is not None:
        _check_size(header.size, limits)
    try:
        with _DECODERS[header.format](io.BytesIO(data)) as image:
            _check_size(image.size, limits)  # again: this is what is allocated, whatever the header was read as
            size = _draft(image, enough) if enough and header.scales else image.size
            image.load()
            # After loading: a PNG may carry its EXIF behind the pixels.
            return Picture(_flatten(image), size, read_orientation(image.info.get("exif")))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise image_error("image_too_many_pixels") from error
    except Exception as error:  # hostile bytes make decoders raise anything: OSError, SyntaxError, ...
        raise image_error("image_undecodable" if header.complete else "image_truncated") from error


def _draft(image: ImageFile.ImageFile, enough: int) -> tuple[float, float]:
    """Have a JPEG decoded at a part of its size, and how large it is then: `Picture.size`.

    CMYK is left alone: who resizes it does not know of sizes that are no whole pixels.
    """
    width, height = image.size
    part = next((part for part in _PARTS if min(width, height) // part >= enough), 1)
    if part == 1 or image.mode == "CMYK" or image.draft(None, (width // part, height // part)) is None:
        return image.size
    return width / part, height / part


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    short, long = sorted(size)
    if short < 1:
        raise image_error("image_undecodable")
    if short * long > limits.max_pixels:
        raise image_error("image_too_many_pixels")
    if long > short * limits.max_aspect:
        raise image_error("image_aspect_ratio")


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":
        image = _scale_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, _BACKGROUND)
        canvas.paste(image, mask=image)  # half the memory of Image.alpha_composite
        return canvas
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")


def _scale_grey(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits by 1/257, rounded; Pillow's own conversion clips at 255, which leaves a white sheet."""
    # Which grey is transparent is a 16-bit value: look for it before scaling makes neighbours equal.
    transparent = image.info.pop("transparency", None)
    opaque = None if transparent is None else np.asarray(image) != transparent
    grey = image.point(lambda value: value / 257 + 0.5).convert("L")
    if opaque is not None:
        grey.putalpha(Image.fromarray(opaque))
    return grey
