"""`reco build --embeddings`: which encoder made them, opened and checked, or known by a word only."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from reco.console import console, stop
from reco.counted import counted

if TYPE_CHECKING:
    from memory_builder import EmbeddingsReader, Origin
    from models.encoder import Encoder


def origin_of(
    open_encoder: "Callable[[], Encoder] | None", name: str | None, trust: bool, readers: "list[EmbeddingsReader]"
) -> "Origin":
    """The encoder that embeddings are of: one that is opened, or a word for one."""
    return (
        _declared(name, readers, trust=trust) if open_encoder is None else _opened(open_encoder(), readers, trust=trust)
    )


def _opened(encoder: "Encoder", readers: "list[EmbeddingsReader]", *, trust: bool) -> "Origin":
    """The origin of embeddings whose encoder was named, and what is known about that."""
    from memory_builder import Origin

    origin = Origin.opened(encoder, readers, trust=trust)
    told = {
        "checked": f"{counted(origin.captions, 'caption')} encoded again: median cosine to the stored "
        f"{origin.median_cosine:.4f}",
        "trusted": f"not checked, as asked: that {encoder.name} made these embeddings is taken on trust",
        "unchecked": f"there are no captions, so it could not be checked that {encoder.name} made these embeddings",
    }
    console.print(told[origin.known_by])
    return origin


def _declared(name: str | None, readers: "list[EmbeddingsReader]", *, trust: bool) -> "Origin":
    """The origin of embeddings whose encoder is known by a word only."""
    from memory_builder import Origin

    if trust:
        stop("--trust-model says nothing without --model: name the encoder, or declare it with --encoder-name", code=2)
    if name is None:
        stop(
            "which encoder made these embeddings? Name it with --model and --pretrained, which checks it; or, where it "
            "cannot be opened, choose a word for it with --encoder-name, like clip-vit-b32-openai",
            code=2,
        )
    origin = Origin.undeclared(name, readers[0].embed_dim)
    console.print(f"undeclared encoder {name}, D = {readers[0].embed_dim}: no service will open this memory")
    return origin
