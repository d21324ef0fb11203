"""Bodies and options of requests: strict types, closed sets of fields, and a Problem that points at what is wrong.

Depends on pydantic and problems. Counts and ranges that settings bound are checked where these are known.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from service.problems import ItemError, Problem

Model = TypeVar("Model", bound=BaseModel)
EnhanceMode = Literal["both", "image", "text", "none"]
EncodingFormat = Literal["float", "base64"]
OnError = Literal["fail", "partial"]


_EXPECTED = "expected"  # the type of errors whose message says what is to be there


def without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class RequestModel(BaseModel):
    """Strict types, and a misspelt field is refused rather than ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_null(cls, value: Any, info: ValidationInfo) -> Any:
        """Leaving an option out means "the service's default"; null would be a second word for it."""
        if value is None and cls.model_fields[str(info.field_name)].json_schema_extra is without_default:
            raise PydanticCustomError(_EXPECTED, "no null: leave it out for the service's default")
        return value


class EmbedOptions(RequestModel):
    """The options of both embed routes; in the query string when the body is a raw image."""

    enhance: bool | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description="Refine with the memory. Default: whether the service has a fusion checkpoint.",
    )
    k: int | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description="Neighbours per query, from 1 to RECO_MAX_K (100), or what the fusion takes if that is less. "
        "Default: the fusion checkpoint's own.",
    )
    return_original: bool = Field(False, description="Add the frozen encoder's embedding.")
    return_neighbours: bool = Field(False, description="Add id, key, caption and similarity of each neighbour.")
    encoding_format: EncodingFormat = Field("float", description="base64 of little-endian float32.")
    on_error: OnError = Field("fail", description="partial: a bad item gets an `error`, the others are answered.")


class EmbedImageRequest(EmbedOptions):
    images: list[str] = Field(
        description="Base64 (standard, padded) or data:image/...;base64, URIs; 1 to RECO_MAX_IMAGES (64)."
    )


def _listed(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise PydanticCustomError(_EXPECTED, "a string, or a list of strings")
    return [value] if isinstance(value, str) else value


_ONE_OR_MORE: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
    "description": "One text or a list of up to RECO_MAX_TEXTS (256), each up to RECO_MAX_TEXT_CHARACTERS (2,000).",
}


class EmbedTextRequest(EmbedOptions):
    texts: Annotated[list[str], BeforeValidator(_listed), WithJsonSchema(_ONE_OR_MORE)]


class ClassifyOptions(RequestModel):
    """What is asked about the images; form fields or query parameters when the body is not JSON."""

    labels: list[str] | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description="1 to RECO_MAX_LABELS (1,000) different labels. This or label_set.",
    )
    label_set: str | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description="Name of a label set of the service, see /label_sets. This or labels.",
    )
    templates: list[str] | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description='Prompts with {} for the label, averaged. Default: the label set\'s, or ["a photo of a {}."].',
    )
    enhance: EnhanceMode | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=without_default,
        description="Which side is refined. Default: both if the service has a fusion checkpoint, else none.",
    )
    k: int | SkipJsonSchema[None] = Field(None, json_schema_extra=without_default, description="Neighbours per query.")
    compare: bool = Field(False, description="Add the un-enhanced answer.")
    top_k: int | SkipJsonSchema[None] = Field(
        None,
        ge=1,
        json_schema_extra=without_default,
        description="Answer with the `top` labels, best first, in place of numbers for all labels.",
    )
    on_error: OnError = Field("fail", description="partial: a bad image gets an `error`, the others are answered.")


class ClassifyRequest(ClassifyOptions):
    images: list[str] = Field(description="As for /embed/image.")


class LabelSetRequest(RequestModel):
    """A label set, in a request and in a file."""

    labels: list[str] = Field(description="1 to RECO_MAX_LABELS (1,000) different labels.")
    templates: list[str] | SkipJsonSchema[None] = Field(
        None, json_schema_extra=without_default, description="For requests that name none."
    )


def validate(model: type[Model], values: Mapping[str, Any], *, beside: Sequence[str] = ()) -> Model:
    """Build a request model.

    Args:
        beside: fields that the body may have beside those of the model, to be told with them.

    Raises:
        Problem: field_missing, field_unknown or field_invalid, with pointers of our own words and numbers.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)
        # An option may be None inside only: that a wrong value is not None either is no news.
        found = [_item_error(item, model) for item in told if item["type"] != "none_required"]
        extensions: dict[str, Any] = {}
        if any(item.code == "field_unknown" for item in found):
            extensions["known_fields"] = sorted([*beside, *model.model_fields])
        expected = _expected(next(item for item in told if item["type"] != "none_required"))
        if expected is not None:
            extensions["expected"] = expected
        problem = Problem(found[0].code, errors=list(dict.fromkeys(found))[:_MAX_LISTED], extensions=extensions)
        raise problem from None


_MAX_LISTED = 64
_CODES = {"missing": "field_missing", "extra_forbidden": "field_unknown"}


_FORMS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list of strings",  # of what else is none in a request
    "string_type": "a string",
}


def _expected(item: Mapping[str, Any]) -> str | None:
    """What is to be in the place of a wrong value, in our own words; None where the code says it all."""
    told = item.get("ctx", {})
    match item["type"]:
        case "literal_error":
            words = str(told["expected"]).replace("True", "true")
            return f"one of {words}" if " or " in words else words
        case "greater_than_equal":
            return f"at least {told['ge']}"
        case "expected":
            return str(item["msg"])
    return _FORMS.get(item["type"])


def _item_error(item: Mapping[str, Any], model: type[BaseModel]) -> ItemError:
    """An unknown field is the client's own text, so its pointer stops at the parent."""
    code = _CODES.get(item["type"], "field_invalid")
    named = [part for part in item["loc"] if isinstance(part, int) or part in model.model_fields][:2]
    return ItemError("".join(f"/{part}" for part in named), code)
