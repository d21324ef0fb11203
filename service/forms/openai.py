"""The request of `/v1/embeddings`: OpenAI's fields, and Jina's list that mixes texts and images.

Which vectors a client gets is chosen by the model's name, the one thing every OpenAI-compatible client lets its user
set: `NAME` answers as the service does by default, `NAME:plain` with the frozen encoder's own embeddings.
Depends on images, schemas and problems.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from service.forms.images import Sent, read_image_string
from service.problems import ItemError, Problem
from service.schemas.requests import EncodingFormat, RequestModel
from service.settings import Settings

PLAIN = ":plain"
_IMAGE_URI = re.compile(r"data:image/", re.IGNORECASE)

_ONE: list[dict[str, Any]] = [
    {"type": "string", "description": "A text, or an image as a data:image/...;base64, URI."},
    {
        "title": "TextOrImage",
        "type": "object",
        "properties": {"text": {"type": "string"}, "image": {"type": "string"}},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    },
]
_INPUT: dict[str, Any] = {
    "anyOf": [*_ONE, {"type": "array", "minItems": 1, "items": {"anyOf": _ONE}}],
    "description": "One or a list: up to RECO_MAX_TEXTS (256) texts, RECO_MAX_IMAGES (64) images. No token ids.",
}


class EmbeddingsRequest(RequestModel):
    """OpenAI's embedding request; null is the same as leaving out, as its clients have it."""

    model: str = Field(description="A name from /v1/models; with :plain behind it, the frozen encoder's embeddings.")
    input: Annotated[Any, WithJsonSchema(_INPUT)]
    encoding_format: EncodingFormat | None = Field(None, description="base64 of little-endian float32.")
    embedding_type: EncodingFormat | None = Field(None, description="Jina's word for encoding_format.")
    dimensions: int | None = Field(None, description="The embedding's own length, or leave it out.")
    normalized: Literal[True] | None = Field(None, description="Jina's: embeddings always have length 1.")
    user: str | None = Field(None, description="Taken for compatibility, not used and not logged.")

    def format(self) -> EncodingFormat:
        """How the vectors travel.

        Raises:
            Problem: option_conflict, if its two names say different things.
        """
        asked = {name for name in (self.encoding_format, self.embedding_type) if name is not None}
        if len(asked) > 1:
            raise Problem("option_conflict", errors=[ItemError("/embedding_type", "option_conflict")])
        return asked.pop() if asked else "float"


@dataclass
class Inputs:
    """What is to be embedded, apart by modality, each with its place in the request."""

    count: int
    images: list[Sent] = field(default_factory=list)
    image_places: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    text_places: list[int] = field(default_factory=list)
    single: bool = False

    def pointer(self, place: int) -> str:
        """Where an input stands in the request."""
        return "/input" if self.single else f"/input/{place}"

    def add(self, value: Any, place: int, settings: Settings) -> None:
        """Take one input in.

        Raises:
            Problem: field_invalid, token_ids_unsupported.
        """
        kind, content = _modality_of(value, self.pointer(place))
        if kind == "image":
            self.images.append(read_image_string(content, self.pointer(place), settings))
            self.image_places.append(place)
        else:
            self.texts.append(content)
            self.text_places.append(place)


def split_inputs(value: Any, settings: Settings) -> Inputs:
    """Sort the `input` of a request into images and texts.

    Raises:
        Problem: batch_empty, batch_too_large, field_invalid, token_ids_unsupported.
    """
    if not isinstance(value, list):
        inputs = Inputs(1, single=True)
        inputs.add(value, 0, settings)
        return inputs
    if not value:
        raise Problem("batch_empty")
    inputs = Inputs(len(value))
    for place, one in enumerate(value):
        inputs.add(one, place, settings)
        for found, limit in ((inputs.images, settings.max_images), (inputs.texts, settings.max_texts)):
            if len(found) > limit:
                raise Problem("batch_too_large", extensions={"limit": limit})
    return inputs


def asks_for_plain(name: str, served: str) -> bool:
    """Whether a model's name asks for the frozen encoder's embeddings.

    Raises:
        Problem: model_not_found, if this service has no model of that name.
    """
    if name == served:
        return False
    if name == served + PLAIN:
        return True
    raise Problem("model_not_found", errors=[ItemError("/model", "model_not_found")])


def check_dimensions(asked: int | None, embed_dim: int) -> None:
    """Refuse to cut embeddings: CLIP was not trained for it, and a cut vector would belong to no known space.

    Raises:
        Problem: dimensions_unsupported.
    """
    if asked is not None and asked != embed_dim:
        where = ItemError("/dimensions", "dimensions_unsupported")
        raise Problem("dimensions_unsupported", errors=[where], extensions={"limit": embed_dim})


def _modality_of(value: Any, pointer: str) -> tuple[Literal["image", "text"], str]:
    if isinstance(value, str):
        return ("image" if _IMAGE_URI.match(value) else "text"), value
    if isinstance(value, dict) and len(value) == 1:
        [(name, content)] = value.items()
        if isinstance(content, str) and name in ("image", "text"):
            return name, content
    if _are_tokens(value if isinstance(value, list) else [value]):
        raise Problem("token_ids_unsupported", errors=[ItemError(pointer, "token_ids_unsupported")])
    expected = 'a string, {"text": "..."} or {"image": "..."}, or a list of them'
    raise Problem("field_invalid", errors=[ItemError(pointer, "field_invalid")], extensions={"expected": expected})


def _are_tokens(values: Iterable[Any]) -> bool:
    return all(type(value) is int for value in values)
