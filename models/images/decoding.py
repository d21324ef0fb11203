"""An image file to upright RGB: one set of rules for the service and the builder.

The magic bytes decide the format; EXIF orientation is applied; transparency is laid on white; 16-bit grey is scaled,
not clipped; CMYK is converted by Pillow; of an animation the first frame counts; colour profiles are ignored.
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


def decode_image(data: bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode an image file to upright RGB.

    Returns:
        A Pillow image of mode RGB, 8 bits, oriented as its EXIF says, transparency laid on white.

    Raises:
        ImageError: image_empty, image_too_large, image_format_unsupported, image_truncated, image_undecodable,
            image_too_many_pixels, image_aspect_ratio. Nothing else: whatever a decoder raises becomes one of these.
    """
    image = decode_unconverted(data, limits or ImageLimits())
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_unconverted(data: bytes, limits: ImageLimits) -> Image.Image:
    """As `decode_image`, but CMYK stays CMYK.

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
            image.load()
            # After loading: a PNG may carry its EXIF behind the pixels.
            return _orient(_flatten(image), read_orientation(image.info.get("exif")))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise image_error("image_too_many_pixels") from error
    except Exception as error:  # hostile bytes make decoders raise anything: OSError, SyntaxError, ...
        raise image_error("image_undecodable" if header.complete else "image_truncated") from error


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


def _orient(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
