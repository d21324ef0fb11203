"""`reco build`: a corpus, or embeddings that were cached before, to a memory; resumable."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reco.acknowledging import acknowledging
from reco.build_engine import EngineName, RayAddress, check_engine, opened_engine
from reco.build_origin import origin_of
from reco.build_plan import plan_encoding, plan_import
from reco.build_report import show_result
from reco.build_share import STOPPING, Worker, build_a_share
from reco.console import BuildProgress, console, loading, say, stop
from reco.index_options import IndexFactory, MaxBytesPerPair, Recall, Reindex, index_options
from reco.index_options import reindex as reindex_memory
from reco.memory_tables import Json, show_json
from reco.model_files import check_device, check_model
from reco.remote import AllowRemote, allowed, output_option
from reco.stamps import stamp_directory

if TYPE_CHECKING:
    from memory import IndexOptions
    from memory_builder import BuildConfig, BuildResult, EmbeddingsReader, Origin
    from memory_builder.engines import Engine
    from models.encoder import Encoder

DEFAULT_MODEL = "ViT-B-32"
_NO_MODEL = (
    "which encoder? Name it with --model (RECO_MODEL): a directory with open_clip_config.json and "
    "open_clip_model.safetensors, or an open_clip architecture, such as ViT-B-32, with --pretrained (RECO_PRETRAINED), "
    "such as laion2b_s34b_b79k. docs/choosing.md tells which suits"
)
_EMBEDDINGS = "Embeddings that were cached before"

Corpus = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders of images with captions (a.jpg + a.txt), webdataset tars, CSV/TSV/JSONL tables with a caption "
        "column and one of paths (relative to the table's folder and in it: absolute ones and .. are refused), Parquet "
        "and Arrow files with images or paths, or folders that save_to_disk wrote; globs, braces and lists are "
        "expanded. With --allow-remote also addresses, like 's3://bucket/shards/*.tar'.",
        metavar="CORPUS",
    ),
]
Output = Annotated[Path, output_option("The memory: made, resumed or grown.", "MEMORY")]
Model = Annotated[
    str | None,
    typer.Option(help=f"open_clip architecture, or a model directory. [{DEFAULT_MODEL}]", envvar="RECO_MODEL"),
]
Pretrained = Annotated[
    str | None, typer.Option(help="open_clip pretrained tag of an architecture.", envvar="RECO_PRETRAINED")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.", envvar="RECO_DEVICE")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto.", envvar="RECO_DTYPE")]
ImageColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--image-column",
        help="Of tables: the column of images or their paths. Repeatable: each gives pairs of its own, as does each "
        "image of a cell that is a list, with keys like SKU/front and SKU/0.",
    ),
]
CaptionColumn = Annotated[str | None, typer.Option(help="Of tables and metadata: the column of captions.")]
KeyColumn = Annotated[str | None, typer.Option(help="Of tables and metadata: the column of keys; paths by default.")]
CaptionFromFolder = Annotated[
    list[str] | None,
    typer.Option(
        "--caption-from-folder",
        help="Of folders: the caption of images that have none beside them, with {} for their own folder's name, like "
        "'a photo of a {}.' Repeatable: each image has one of them.",
        metavar="TEMPLATE",
    ),
]
CaptionTemplate = Annotated[
    list[str] | None,
    typer.Option(
        "--caption-template",
        help="Of tables: captions made of columns, like 'a photo of a {brand} {model}, {colour}.', with {} for the "
        "caption column. Repeatable: each pair has one for which its row has all that it names; a row with too little "
        "for any is rejected.",
        metavar="TEMPLATE",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images, then captions, in one call of the encoder.")]
UnitRows = Annotated[int, typer.Option(min=1, help="Rows that a crash can cost.")]
Workers = Annotated[int, typer.Option(min=0, help="Images decoded at the same time; 0: one for each core.")]
Decoding = Annotated[
    str, typer.Option(help="Where: threads, processes, or auto (threads for a CPU, processes for an accelerator).")
]
ThumbnailPx = Annotated[int, typer.Option(min=0, help="Longer side of stored thumbnails; 0 stores none.")]
Embeddings = Annotated[
    list[str] | None,
    typer.Option(
        help="Instead of CORPUS: a folder as clip-retrieval writes it (img_emb/, text_emb/, metadata/), or an .npz "
        "with image and text. No model runs. Repeatable.",
        metavar="PATH",
        rich_help_panel=_EMBEDDINGS,
    ),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        help="Without --model: a word for the encoder that made them, like clip-vit-b32-openai. The memory serves "
        "training and measuring; no service can open it.",
        metavar="NAME",
        rich_help_panel=_EMBEDDINGS,
    ),
]
TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model",
        help="Do not check that --model made them. For texts that are means over many prompts.",
        rich_help_panel=_EMBEDDINGS,
    ),
]
Upsert = Annotated[
    bool,
    typer.Option(
        "--upsert", help="Replace items whose key is there with another image or caption; without it they are rejected."
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Try rows again that were rejected before, and store what can be stored."),
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Count, try a sample, and tell time, disk, RAM and index; nothing is written. 1 if it cannot fit.",
    ),
]
RestoreRemoved = Annotated[
    bool, typer.Option("--restore-removed", help="Add items again that `reco memory remove` or purge took out.")
]
NearDuplicates = Annotated[
    float,
    typer.Option(min=0, max=1, metavar="COSINE", help="Report added images as similar to an earlier one; 0: none."),
]
MaxErrorRate = Annotated[float, typer.Option(min=0, max=1, metavar="SHARE", help="Unusable rows that stop the build.")]


def build(
    output: Output,
    corpus: Corpus = None,
    model: Model = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    image_columns: ImageColumns = None,
    caption_column: CaptionColumn = None,
    key_column: KeyColumn = None,
    caption_from_folder: CaptionFromFolder = None,
    caption_template: CaptionTemplate = None,
    batch_size: BatchSize = 64,
    unit_rows: UnitRows = 8192,
    workers: Workers = 0,
    decoding: Decoding = "auto",
    thumbnail_px: ThumbnailPx = 96,
    max_error_rate: MaxErrorRate = 0.05,
    upsert: Upsert = False,
    restore_removed: RestoreRemoved = False,
    retry_failed: RetryFailed = False,
    near_duplicates: NearDuplicates = 0.985,
    plan: Plan = False,
    embeddings: Embeddings = None,
    encoder_name: EncoderName = None,
    trust_model: TrustModel = False,
    recall: Recall = None,
    max_bytes_per_pair: MaxBytesPerPair = None,
    index_factory: IndexFactory = None,
    reindex: Reindex = False,
    worker: Worker = None,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    allow_remote: AllowRemote = None,
    as_json: Json = False,
) -> None:
    """Encode a corpus into a memory, or take embeddings over that were cached before.

    Stopped or killed, the same command goes on where it was; with more corpora the memory grows, as a new version.
    --plan tells first what it takes; MEMORY/work/rejected.jsonl lists the rows that were not stored. Examples:

        reco build photos/ 'shards/{00000..00099}.tar' -o my-memory --model ViT-B-32 --pretrained laion2b_s34b_b79k

        reco build --embeddings laion/ -o my-memory --model ViT-B-32 --pretrained openai
    """
    _say_first(corpus)
    from memory_builder import BuildConfig

    index = index_options(recall, max_bytes_per_pair, index_factory)
    if reindex and _reindexed(output, index, alone=not (corpus or embeddings), as_json=as_json):
        return
    check_engine(engine, ray_address, alone=not (plan or worker or embeddings))
    _check_sources((corpus, embeddings, worker), opened=bool(model or pretrained), said=(encoder_name, trust_model))
    config = BuildConfig(
        tuple(corpus or embeddings or ()),
        output,
        unit_rows=unit_rows,
        batch_size=batch_size,
        workers=workers,
        decoding=decoding,
        thumbnail_px=thumbnail_px,
        max_error_rate=max_error_rate,
        upsert=upsert,
        restore_removed=restore_removed,
        retry_failed=retry_failed,
        near_duplicates=near_duplicates,
        stamps=stamp_directory(),
        allow_remote=allowed(allow_remote),
        index=index,
        **_reading(image_columns, caption_column, key_column, caption_from_folder, caption_template),
    )
    open_encoder = partial(_open_encoder, model or DEFAULT_MODEL, pretrained, device, dtype)
    if embeddings:
        find_origin = partial(origin_of, open_encoder if model or pretrained else None, encoder_name, trust_model)
        _take_over(config, find_origin, plan=plan, as_json=as_json)
    else:
        ray = partial(opened_engine, engine, ray_address, config, (model or DEFAULT_MODEL, pretrained))
        _encode(config, open_encoder, ray, plan=plan, worker=worker, as_json=as_json)


def _reading(
    images: list[str] | None,
    caption: str | None,
    key: str | None,
    from_folder: list[str] | None,
    template: list[str] | None,
) -> dict[str, Any]:
    """How tables and folders are read, as BuildConfig has it."""
    return {
        "image_columns": tuple(dict.fromkeys(images or ())),
        "caption_column": caption,
        "key_column": key,
        "folder_templates": tuple(from_folder or ()),
        "caption_templates": tuple(template or ()),
    }


def _reindexed(memory: Path, index: "IndexOptions | None", *, alone: bool, as_json: bool) -> bool:
    """Index anew; True, for there is nothing else to do."""
    if not alone:
        stop("--reindex encodes nothing: leave CORPUS and --embeddings out, or --reindex", code=2)
    reindex_memory(memory, index, as_json=as_json)
    return True


def _say_first(corpus: list[str] | None) -> None:
    """The first line of what will load torch, said before anything is imported."""
    if corpus:
        say(f"looking at {corpus[0]}" + (f" and {len(corpus) - 1:,} more" if len(corpus) > 1 else ""), style="dim")


def _check_sources(
    named: tuple[list[str] | None, list[str] | None, str | None], *, opened: bool, said: tuple[str | None, bool]
) -> None:
    """Refuse what cannot be meant together."""
    (corpus, embeddings, worker), (encoder_name, trust_model) = named, said
    if worker and embeddings:
        stop("--worker is for a corpus that is encoded: embeddings are taken over by one machine", code=2)
    if bool(corpus) == bool(embeddings):
        stop("name either CORPUS, images to encode, or --embeddings, which are encoded already: one of the two", code=2)
    if (encoder_name or trust_model) and not embeddings:
        stop("--encoder-name and --trust-model are for --embeddings: a corpus is encoded with --model", code=2)
    if corpus and not opened:
        stop(_NO_MODEL, code=2)
    if encoder_name and opened:
        stop("--encoder-name is for an encoder that is not opened: leave it out, or --model (unset RECO_MODEL)", code=2)


def _open_encoder(model: str, pretrained: str | None, device: str, dtype: str) -> "Encoder":
    check_model(model)
    check_device(device)
    loading("torch and open_clip")
    from models.encoder import Encoder

    console.print(f"opening the encoder {model}")
    encoder = Encoder.open(model, pretrained, device=device, dtype=dtype)
    console.print(f"{encoder.name} on {encoder.device}, {encoder.dtype}, D = {encoder.embed_dim}")
    return encoder


def _encode(
    config: "BuildConfig",
    open_encoder: "Callable[[], Encoder]",
    open_engine: "Callable[[Encoder], AbstractContextManager[Engine | None]]",
    *,
    plan: bool,
    worker: str | None,
    as_json: bool,
) -> None:
    """Build from a corpus, or a share of it, or only tell what it would take."""
    from memory_builder import build as build_memory
    from memory_builder import check_corpora

    for sentence, is_warning in check_corpora(config).sentences:
        say(sentence, style="yellow" if is_warning else "dim")

    def work() -> "BuildResult":
        encoder = open_encoder()
        with open_engine(encoder) as engine:
            return build_memory(config, encoder, BuildProgress(), engine=engine)

    if plan:
        made = plan_encoding(config, open_encoder)
    elif worker is not None:
        made = build_a_share(config, worker, open_encoder)
    else:
        made = _tell(work, config)
    if as_json:
        show_json(made)


def _take_over(
    config: "BuildConfig", find_origin: "Callable[[list[EmbeddingsReader]], Origin]", *, plan: bool, as_json: bool
) -> None:
    """As `_encode`, from embeddings; what is named wrongly is a wrong command: exit code 2."""
    from memory_builder import ConfigError, CorpusError, OriginError, build_from_embeddings, open_embeddings

    try:
        readers = open_embeddings(config)
        if plan:
            made = plan_import(config, readers, find_origin)
        else:
            progress = BuildProgress("reading")
            made = _tell(lambda: build_from_embeddings(config, readers, find_origin(readers), progress), config)
    except (ConfigError, CorpusError, OriginError) as error:
        stop(f"{error}", code=2)
    if as_json:
        show_json(made)


def _tell(work: "Callable[[], BuildResult]", config: "BuildConfig") -> dict[str, Any]:
    """Build, and say what came of it; the same for programs."""
    from memory_builder import BuildInterrupted

    try:
        with acknowledging(STOPPING):
            result = work()
    except BuildInterrupted as interrupted:
        stop(f"{interrupted}", code=128 + interrupted.signal)
    show_result(result, config)
    return asdict(result)
