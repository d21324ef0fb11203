"""The small picture of an image that a memory may keep of it. Imports Pillow only."""

import io

from PIL import Image

THUMBNAIL_PX = 96
_QUALITY = 80  # about 3 kB at 96 px


def make_thumbnail(image: Image.Image, longer_px: int = THUMBNAIL_PX) -> bytes:
    """A JPEG whose longer side has at most `longer_px` pixels; the same image gives the same bytes."""
    small = image.copy()
    small.thumbnail((longer_px, longer_px))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
