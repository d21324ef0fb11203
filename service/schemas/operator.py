"""Bodies of the operator's routes. Depends on pydantic and requests."""

from typing import ClassVar

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from service.schemas.answers import StoredItem
from service.schemas.requests import OnError, RequestModel, without_default


class PairsOptions(RequestModel):
    """What is said of the images; form fields or query parameters when the body is not JSON."""

    name: str | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description='What the images show; their caption is then "a photo of a NAME.". This or caption.',
    )
    caption: str | SkipJsonSchema[None] = Field(
        None, json_schema_extra=without_default, description="Their caption, as it is. This or name."
    )
    key: str | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description="Of one image, or what the keys of several begin with (KEY/0, KEY/1, ...). "
        "Default: a hash of image and caption.",
    )
    on_error: ClassVar[OnError] = "fail"  # all of them, or none
    replace: bool = Field(False, description="Take the place of other pairs of the same keys.")


class PairsRequest(PairsOptions):
    images: list[str] = Field(description="As for /embed/image.")


class MemoryNow(BaseModel):
    """What is served now."""

    memory_version: int
    digest: str
    num_items: int


class ReloadAnswer(MemoryNow):
    """What is served after a reload."""

    changed: bool = Field(description="False: there was nothing new.")
    fusion: str | None
    space: str
    keys_read: bool = Field(description="False: the keys could not be read, and those known before stay.")


class PairsAnswer(MemoryNow):
    """What became of the pairs; `memory_version` knows them."""

    caption: str
    added: list[str] = Field(description="Keys of the pairs stored.")
    present: list[str] = Field(description="Keys of pairs that were there already, image, caption and all.")
    replaced: int = Field(description="Pairs that made way.")


class PairRemovedAnswer(MemoryNow):
    """The memory without the pair."""

    removed: str = Field(description="Its key.")


class PairsListed(MemoryNow):
    """What operators added, the newest first."""

    total: int = Field(description="Pairs added in all.")
    pairs: list[StoredItem]


class PairAnswer(MemoryNow):
    """One pair of the memory."""

    pair: StoredItem
