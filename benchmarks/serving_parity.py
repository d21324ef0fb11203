"""How far embeddings are from plain open_clip's: by file format, dtype and who resizes, and a batch against one alone.

    python -m benchmarks.serving_parity --photos /path/to/photographs

The reference opens the same file with Pillow, turns it upright, lays it on white where it is transparent, applies
open_clip's own transform and encodes alone in float32. Told are the smallest cosines over all photographs. Random
weights: trained ones are less sensitive to rounding, not more. Takes about three minutes; writes
benchmarks/results/serving-parity.json.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps

from benchmarks.decoding import laid_together
from benchmarks.serving_bed import Bed, arguments, make_bed, write_result
from models.encoder import Encoder

NUM_IMAGES, NUM_TEXTS = 24, 64
_FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "WEBP": {"quality": 90},
    "AVIF": {"quality": 80},
    "GIF": {},
}
_LARGE = {"JPEG, 4032×3024": (4032, 3024), "JPEG, 1793×1345": (1793, 1345)}


def files_of(bed: Bed, kind: str) -> list[bytes]:
    """The photographs in another format, or with what a format can have."""
    files = []
    for data in bed.photos[:NUM_IMAGES]:
        image, extra = Image.open(io.BytesIO(data)), {}
        name = kind
        if kind == "JPEG, turned by EXIF":
            name, exif = "JPEG", Image.Exif()
            exif[0x0112] = 6
            extra = {"exif": exif}
        elif kind == "JPEG, CMYK":
            name, image = "JPEG", image.convert("CMYK")
        elif kind == "PNG, transparent":
            name = "PNG"
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        elif kind == "JPEG, 96 px":
            name, image = "JPEG", image.resize((128, 96))
        elif kind in _LARGE:
            name, image = "JPEG", laid_together(bed, _LARGE[kind], len(files))
        file = io.BytesIO()
        image.save(file, name, **_FORMATS[name], **extra)
        files.append(file.getvalue())
    return files


def reference_pixels(data: bytes, transform: Callable[[Image.Image], torch.Tensor]) -> torch.Tensor:
    """What a careful user of open_clip would feed it."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode in ("RGBA", "LA", "PA"):
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return transform(image)


def smallest_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Over rows."""
    return round(float(np.einsum("nd,nd->n", one.astype(np.float64), other.astype(np.float64)).min()), 6)


@torch.inference_mode()
def main() -> None:
    """Run and write the result."""
    options = arguments(__doc__).parse_args()
    bed = make_bed(options)
    model = open_clip.create_model(f"local-dir:{bed.encoder}").eval()
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    encoders = {
        (dtype, mode): Encoder.open(str(bed.encoder), device="cpu", dtype=dtype, preprocess=mode)
        for dtype in ("float32", "bfloat16")
        for mode in ("exact", "fast")
    }
    kinds = [*_FORMATS, "JPEG, turned by EXIF", "JPEG, CMYK", "PNG, transparent", "JPEG, 96 px", *_LARGE]
    formats: dict[str, Any] = {}
    for kind in kinds:
        files = files_of(bed, kind)
        plain = [model.encode_image(reference_pixels(data, transform)[None], normalize=True)[0] for data in files]
        expected = torch.stack(plain).numpy()
        formats[kind] = {
            f"{dtype}, {mode}": smallest_cosine(
                np.concatenate([encoder.encode_image(encoder.preprocess(data)[None]) for data in files]), expected
            )
            for (dtype, mode), encoder in encoders.items()
        }
    texts = bed.texts[:NUM_TEXTS]
    text_rows, batches = {}, {}
    for dtype in ("float32", "bfloat16"):
        encoder = encoders[dtype, "fast"]
        ids = encoder.tokenize(texts).ids
        alone = np.concatenate([encoder.encode_text(row[None]) for row in ids])
        text_rows[dtype] = smallest_cosine(alone, model.encode_text(ids, normalize=True).numpy())
        pixels = torch.stack([encoder.preprocess(data) for data in bed.photos[:NUM_IMAGES]])
        images_alone = np.concatenate([encoder.encode_image(row[None]) for row in pixels])
        batches[dtype] = {
            "image": smallest_cosine(encoder.encode_image(pixels), images_alone),
            "text": smallest_cosine(encoder.encode_text(ids), alone),
        }
    result = {"images": NUM_IMAGES, "texts": NUM_TEXTS, "photos_drawn": bed.drawn, "smallest_cosine_by_format": formats}
    write_result("serving-parity", {**result, "smallest_cosine_of_texts": text_rows, "batch_against_alone": batches})


if __name__ == "__main__":
    main()
