"""The EXIF orientation of an image, from its raw EXIF block. Imports nothing of ours.

Pillow's own reader parses all of EXIF, warns about what is odd in it and can fail on it; one number is all we need.
"""

import struct
from typing import Final

_ORIENTATION_TAG = 0x0112
_SHORT = 3
UPRIGHT: Final = 1  # where nothing has to be turned


def read_orientation(exif: object) -> int:
    """The orientation, 1 to 8; 1 (upright) if there is none, or none that can be read.

    Args:
        exif: the block as Pillow finds it (`image.info["exif"]`), with or without its "Exif" prefix; anything else,
            None included, is upright.
    """
    if not isinstance(exif, bytes):
        return UPRIGHT
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and count == 1 and 1 <= value <= 8 else UPRIGHT
    except struct.error:  # a block that ends early, or points outside itself
        return UPRIGHT
    return UPRIGHT
