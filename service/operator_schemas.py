"""Bodies of the operator's routes. Depends on pydantic only."""

from pydantic import BaseModel, Field


class ReloadAnswer(BaseModel):
    """What is served now."""

    changed: bool = Field(description="False: there was nothing new.")
    memory_version: int
    digest: str
    num_items: int
    fusion: str | None
    space: str
