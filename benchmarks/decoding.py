"""What a picture costs before it is encoded, by its size and by who makes it small, and what that changes.

    python -m benchmarks.decoding --photos /path/to/photographs

Pictures are laid together of photographs, so that they are sharp at any size, and saved as JPEG of quality 90, some
turned as phones do. Processor time of one thread, by turns: open_clip's transform (`exact`), torch's resize of all
pixels, and of the part of them that libjpeg decodes (`fast`). Then the cosine to `exact` of embeddings by the trained
encoder of the demo at the sizes where its part is just enough, by how many times the encoder's side that is; beside
it what saving the same picture at quality 85 changes. Takes about two minutes; writes benchmarks/results/decoding.json.
"""

import io
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import models.images.preprocessor as preprocessor
from benchmarks.serving_bed import Bed, arguments, make_bed, write_result
from models.encoder import Encoder
from models.images.preprocessor import Preprocessor

TRAINED = Path(__file__).parents[1] / "demo" / "tiny_clip"
SIZES = ((640, 480), (1600, 1200), (2048, 1536), (4032, 3024))
TIMES, NUM_PICTURES = (2, 3, 4), 60
_WHOLE = 10**6  # times the side: no part is enough


def laid_together(bed: Bed, size: tuple[int, int], number: int) -> Image.Image:
    """A picture of `size` full of photographs, each at its own resolution."""
    dice, photos = random.Random(number), bed.photos
    picture = Image.new("RGB", size)
    for top in range(0, size[1], 480):
        for left in range(0, size[0], 640):
            with Image.open(io.BytesIO(dice.choice(photos))) as photo:
                picture.paste(photo, (left, top))
    return picture


def jpeg(picture: Image.Image, quality: int = 90, orientation: int = 1) -> bytes:
    """A file of it."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    picture.save(file, "JPEG", quality=quality, exif=exif)
    return file.getvalue()


def ways(exact: Preprocessor, fast: Preprocessor) -> dict[str, Callable[[bytes], torch.Tensor]]:
    """All ways to make raw pixels of a file."""

    def times(count: int) -> Callable[[bytes], torch.Tensor]:
        def work(data: bytes) -> torch.Tensor:
            kept, preprocessor._ENOUGH = preprocessor._ENOUGH, count
            try:
                return fast(data, raw=True)
            finally:
                preprocessor._ENOUGH = kept

        return work

    return {
        "exact": lambda data: exact(data, raw=True),
        "whole": times(_WHOLE),
        "fast": times(preprocessor._ENOUGH),
        **{f"{count} times": times(count) for count in TIMES},
    }


def costs(bed: Bed, known: dict[str, Callable[[bytes], torch.Tensor]], rounds: int) -> dict[str, Any]:
    """Milliseconds of processor time a picture, by size: medians over pictures and rounds."""
    found: dict[str, Any] = {}
    for width, height in SIZES:
        for turned, orientation in (("", 1), (", turned", 6)):
            files = [jpeg(laid_together(bed, (width, height), n), orientation=orientation) for n in range(6)]
            spent: dict[str, list[float]] = {"exact": [], "whole": [], "fast": []}
            for _ in range(rounds):
                for data in files:
                    for way, seconds in spent.items():
                        began = time.thread_time()
                        known[way](data)
                        seconds.append(time.thread_time() - began)
            found[f"{width}x{height}{turned}"] = {
                way: round(1e3 * statistics.median(seconds), 2) for way, seconds in spent.items()
            }
    return found


def cosines(encoder: Encoder, one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> dict[str, float]:
    """Of embeddings of the same pictures: the smallest and the median."""
    rows = [encoder.encode_image(encoder.stack(pixels)) for pixels in (one, other)]
    found = np.einsum("nd,nd->n", *(row.astype(np.float64) for row in rows))
    return {"least": round(float(found.min()), 6), "median": round(float(np.median(found)), 6)}


def changes(bed: Bed, encoder: Encoder, exact: Preprocessor, fast: Preprocessor) -> dict[str, Any]:
    """Cosines to `exact` where half of a picture's side is just enough, for each number of times the encoder's."""
    found: dict[str, Any] = {}
    known = ways(exact, fast)
    for count in TIMES:
        short = 2 * count * encoder.preprocess.record["size"][0] + 1
        pictures = [
            laid_together(bed, (640, 480), n).resize((short * 4 // 3, short), Image.Resampling.LANCZOS)
            for n in range(NUM_PICTURES)
        ]
        expected = [known["exact"](jpeg(picture)) for picture in pictures]
        parts = [known[f"{count} times"](jpeg(picture)) for picture in pictures]
        saved = [known["exact"](jpeg(picture, quality=85)) for picture in pictures]
        found[f"{count} times"] = {
            "part": cosines(encoder, parts, expected),
            "quality_85": cosines(encoder, saved, expected),
        }
    return found


def main() -> None:
    """Run and write the result."""
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    bed = make_bed(options)
    large, small = (
        {mode: Encoder.open(str(path), device="cpu", dtype="float32", preprocess=mode) for mode in ("exact", "fast")}
        for path in (bed.encoder, TRAINED)
    )
    result = {
        "photos_drawn": bed.drawn,
        "milliseconds": costs(bed, ways(large["exact"].preprocess, large["fast"].preprocess), options.rounds),
        "cosine_to_exact": changes(bed, small["fast"], small["exact"].preprocess, small["fast"].preprocess),
    }
    write_result("decoding", result)


if __name__ == "__main__":
    main()
