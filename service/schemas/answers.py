"""Bodies of answers, as documentation: answers.py writes them, and no float walks through a validator.

Depends on pydantic and the words of requests.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.schemas.requests import EnhanceMode


class Neighbour(BaseModel):
    id: int = Field(description="Row of the item in the memory.")
    key: str
    caption: str
    similarity: float = Field(description="Inner product of unit vectors.")


class ErrorItem(BaseModel):
    pointer: str = Field(description="JSON pointer into the request, for example /images/3.")
    code: str
    detail: str


class ProblemBody(BaseModel):
    """RFC 9457, application/problem+json. `code` is stable; `errors` names the bad items."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="The request id.")
    code: str
    errors: list[ErrorItem] | None = None
    limit: int | None = None
    known_fields: list[str] | None = None
    expected: str | None = Field(None, description="What would be taken in the place of what was sent.")
    reason: str | None = None
    line: int | None = Field(None, description="Of a body that is no JSON: where, from 1, with `column`.")
    column: int | None = None


class AnswerHead(BaseModel):
    """Where the vectors of an answer come from: equal `space` means comparable."""

    model: str
    space: str
    memory_version: int
    fusion: str | None = Field(description="Id of the fusion checkpoint; null without one.")
    degraded: bool | None = Field(None, description="True: plain embeddings, the memory was away (RECO_MEMORY_AWAY).")


class EmbeddingItem(BaseModel):
    index: int
    embedding: list[float] | str | None = Field(None, description="(D,) unit norm; as encoding_format says.")
    original: list[float] | str | None = None
    neighbours: list[Neighbour] | None = None
    truncated: bool | None = Field(None, description="Texts only: longer than the encoder's context, and cut.")
    error: ErrorItem | None = Field(None, description="Only with on_error=partial, and then in place of the rest.")


class Usage(BaseModel):
    items: int


class EmbedAnswer(AnswerHead):
    enhanced: bool
    original_space: str | None = Field(None, description="Space of `original`, when it was asked for.")
    data: list[EmbeddingItem]
    usage: Usage


class OpenAIEmbedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="(D,) unit norm; as encoding_format says.")


class OpenAIUsage(BaseModel):
    prompt_tokens: int = Field(description="Tokens of the texts, start and end mark included; images have none.")
    total_tokens: int


class OpenAIAnswer(AnswerHead):
    object: Literal["list"]
    data: list[OpenAIEmbedding]
    usage: OpenAIUsage


class OpenAIModel(AnswerHead):
    id: str = Field(description="The name to ask for.")
    object: Literal["model"]
    created: int = Field(description="Unix time since when this process serves it.")
    owned_by: str
    enhanced: bool = Field(description="Whether its embeddings are refined with the memory.")
    embed_dim: int
    modalities: list[str]


class ModelsAnswer(BaseModel):
    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIErrorItem(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="The field or input to blame, for example input[3].")
    code: str = Field(description="Stable; the same codes as elsewhere.")


class OpenAIError(BaseModel):
    """OpenAI's error object."""

    error: OpenAIErrorItem


class LabelScore(BaseModel):
    label: str
    label_index: int
    probability: float
    similarity: float


class Scores(BaseModel):
    label: str
    label_index: int
    probabilities: list[float] | None = Field(None, description="In the order of the labels; sum 1.")
    similarities: list[float] | None = Field(None, description="Cosines behind them.")
    top: list[LabelScore] | None = Field(None, description="With top_k, in place of the two lists.")


class ClassifyItem(BaseModel):
    index: int
    label: str | None = None
    label_index: int | None = None
    probabilities: list[float] | None = Field(None, description="In the order of the labels; sum 1.")
    similarities: list[float] | None = Field(None, description="Cosines behind them.")
    top: list[LabelScore] | None = Field(None, description="With top_k, in place of the two lists; best first.")
    original: Scores | None = Field(None, description="The un-enhanced answer, when `compare` asked for it.")
    error: ErrorItem | None = Field(None, description="Only with on_error=partial, and then in place of the rest.")


class Trust(BaseModel):
    """How far the memory is trusted for a label set, measured on what its labels find."""

    text: float = Field(description="Weight of the memory's evidence for the labels; 0: the frozen encoder's own.")
    image: float = Field(description="Weight for the images; 0: the frozen encoder's own.")
    unknown_labels: float = Field(description="Share of the labels, 0 to 1, of which the memory has nothing of theirs.")


class ClassifyAnswer(AnswerHead):
    enhance: EnhanceMode
    label_set: str | None = Field(None, description="The label set, if the request named one.")
    trust: Trust | None = Field(None, description="With a fusion that weighs label sets, unless enhance is none.")
    data: list[ClassifyItem]
    usage: Usage


class LabelSetSummary(BaseModel):
    name: str
    num_labels: int
    num_templates: int = Field(description="0: requests that name none get the service's default.")
    refused: str | None = Field(description="Why its file was refused; what it held before is served on, if anything.")


class LabelSetsAnswer(BaseModel):
    label_sets: list[LabelSetSummary]


class LabelSetAnswer(BaseModel):
    name: str
    labels: list[str]
    templates: list[str] | None = Field(description="null: requests that name none get the service's default.")


class StoredItem(BaseModel):
    id: int = Field(description="Row of the item in the memory.")
    key: str
    caption: str
    thumbnail: bool = Field(description="Whether /memory/items/{id}/thumbnail has an image of it.")


class ItemsAnswer(BaseModel):
    memory_version: int
    digest: str
    items: list[StoredItem]


class MemoryAnswer(BaseModel):
    model: str
    memory_version: int
    digest: str
    num_items: int
    embed_dim: int
    encoder: dict[str, Any]
    indices: list[dict[str, Any]]
    segments: list[dict[str, Any]]
    enhancement: bool = Field(description="Whether a fusion checkpoint is loaded.")
    fusion: str | None
    space: str
    original_space: str
    default_k: int
