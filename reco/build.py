"""`reco build`: corpus to memory, resumable."""

from pathlib import Path
from typing import Annotated

import typer

from reco.console import BuildProgress, console, stop
from reco.stamps import stamp_directory

Corpus = Annotated[
    list[str],
    typer.Argument(
        help="Folders of images with captions (a.jpg + a.txt), CSV/TSV/JSONL tables with a path and a caption column, "
        "or webdataset tars; globs, braces and lists are expanded.",
        metavar="CORPUS...",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The memory: made, resumed or grown.", metavar="MEMORY")]
Model = Annotated[str, typer.Option(help="open_clip architecture, or a model directory.", envvar="RECO_MODEL")]
Pretrained = Annotated[
    str | None, typer.Option(help="open_clip pretrained tag of an architecture.", envvar="RECO_PRETRAINED")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.", envvar="RECO_DEVICE")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.", envvar="RECO_DTYPE")]
ImageColumn = Annotated[str | None, typer.Option(help="Of tables: the column of image paths.")]
CaptionColumn = Annotated[str | None, typer.Option(help="Of tables: the column of captions.")]
KeyColumn = Annotated[str | None, typer.Option(help="Of tables: the column of keys; paths by default.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images, then captions, in one call of the encoder.")]
UnitRows = Annotated[int, typer.Option(min=1, help="Rows that a crash can cost.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that decode ahead of the encoder.")]
ThumbnailPx = Annotated[int, typer.Option(min=0, help="Longer side of stored thumbnails; 0 stores none.")]
MaxErrorRate = Annotated[float, typer.Option(min=0, max=1, help="Share of unusable rows beyond which the build stops.")]


def build(
    corpus: Corpus,
    output: Output,
    model: Model = "ViT-B-32",
    pretrained: Pretrained = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    key_column: KeyColumn = None,
    batch_size: BatchSize = 64,
    unit_rows: UnitRows = 8192,
    threads: Threads = 4,
    thumbnail_px: ThumbnailPx = 96,
    max_error_rate: MaxErrorRate = 0.05,
) -> None:
    """Encode a corpus into a memory.

    Stopped or killed, the same command goes on where it was. Run it again with more corpora and the memory grows by
    what is new, as a new version; nothing is encoded twice. Rows that cannot be used are listed, with the reason, in
    MEMORY/work/rejected.jsonl. Examples:

        reco build photos/ -o my-memory --model ViT-B-32 --pretrained laion2b_s34b_b79k

        reco build 'shards/{00000..00099}.tar' products.csv -o my-memory --model path/to/model-directory
    """
    from memory_builder import BuildConfig, BuildInterrupted
    from memory_builder import build as build_memory
    from models.encoder import Encoder

    config = BuildConfig(
        corpora=tuple(corpus),
        memory=output,
        unit_rows=unit_rows,
        batch_size=batch_size,
        decode_threads=threads,
        thumbnail_px=thumbnail_px,
        max_error_rate=max_error_rate,
        stamps=stamp_directory(),
        image_column=image_column,
        caption_column=caption_column,
        key_column=key_column,
    )
    console.print(f"opening the encoder {model}")
    encoder = Encoder.open(model, pretrained, device=device, dtype=dtype)
    console.print(f"{encoder.name} on {encoder.device}, {encoder.dtype}, D = {encoder.embed_dim}")
    try:
        result = build_memory(config, encoder, BuildProgress())
    except BuildInterrupted as interrupted:
        stop(f"{interrupted}", code=128 + interrupted.signal)
    rejected = sum(result.rejected.values())
    console.print(
        f"{output}: version {result.version}, {result.num_items:,} items; "
        f"{result.added:,} added, {result.present:,} there already, {rejected:,} rejected"
        + ("" if result.created else "; nothing was new, so there is no new version")
    )
    for code, count in sorted(result.rejected.items()):
        console.print(f"  {count:,} x {code}")
    console.print(f"next: [bold]reco train {output} -o my-fusion[/]")
