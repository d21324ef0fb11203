"""Every way a request can end badly: the one table of codes, and RFC 9457 bodies made from it.

Depends on starlette only. A body holds fixed text, limits and positions: no input, path or exception text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """What a code means: the HTTP status it travels under and one fixed sentence."""

    status: int
    title: str


KINDS: Mapping[str, Kind] = {
    # 400: cannot be parsed
    "json_invalid": Kind(400, "The body is not strict JSON in UTF-8."),
    "json_duplicate_key": Kind(400, "An object in the body names the same key twice."),
    "json_too_deep": Kind(400, "The body is nested too deeply."),
    "multipart_invalid": Kind(400, "The multipart body cannot be parsed."),
    "multipart_truncated": Kind(400, "The multipart body ends before its closing boundary."),
    "request_invalid": Kind(400, "The request cannot be understood."),
    "chunks_too_small": Kind(400, "The body comes in too many tiny chunks."),
    # 401, 403: keys
    "unauthorized": Kind(401, "This takes a valid key: Authorization: Bearer KEY."),
    "scope_missing": Kind(403, "The key is not allowed to do this."),
    # 404, 405
    "not_found": Kind(404, "There is nothing at this path."),
    "model_not_found": Kind(404, "There is no model of this name here; /v1/models lists them."),
    "label_set_not_found": Kind(404, "There is no usable label set of this name; /label_sets lists them."),
    "item_not_found": Kind(404, "The memory holds no item of this id."),
    "pair_not_found": Kind(404, "The memory holds no pair of this key."),
    "thumbnail_not_found": Kind(404, "The memory holds no thumbnail of this item."),
    "method_not_allowed": Kind(405, "This path does not answer to this method."),
    # 408: the client, too slow
    "receive_timeout": Kind(408, "The request did not arrive within the time limit."),
    # 409: at odds with what is there
    "reload_in_progress": Kind(409, "A reload is under way; ask again when it has ended."),
    "reload_refused": Kind(409, "The new version was refused; the old one is served on."),
    "pair_exists": Kind(409, "The memory holds another pair of this key; replace=true puts this one in its place."),
    "memory_locked": Kind(409, "A build or another change is writing to the memory; try again when it has ended."),
    "memory_elsewhere": Kind(409, "This memory is kept elsewhere: change it where it is built, push it, reload."),
    # 413: too large
    "body_too_large": Kind(413, "The request body is larger than the limit."),
    "field_too_large": Kind(413, "A form field is larger than the limit."),
    "image_too_large": Kind(413, "An image has more bytes than the limit."),
    "image_too_many_pixels": Kind(413, "An image has more pixels than the limit."),
    # 415: type
    "media_type_unsupported": Kind(415, "This path does not take this content type."),
    "content_encoding_unsupported": Kind(415, "Compressed request bodies are not accepted."),
    "image_format_unsupported": Kind(415, "Not a JPEG, PNG, WebP, GIF or AVIF image."),
    # 421: addressed to somebody else
    "host_unknown": Kind(
        421, "The service does not go by this host name: ask by its address, or see RECO_ALLOWED_HOSTS."
    ),
    # 422: understood, not acceptable
    "json_too_complex": Kind(422, "The body holds more values than any acceptable request."),
    "field_missing": Kind(422, "A required field is missing."),
    "field_invalid": Kind(422, "A field has the wrong type or an impossible value."),
    "field_unknown": Kind(422, "A field is not known here."),
    "duplicate_field": Kind(422, "A form field or query parameter is given twice."),
    "batch_empty": Kind(422, "The request holds no item."),
    "batch_too_large": Kind(422, "The request holds more items than the limit."),
    "k_out_of_range": Kind(422, "k is not between 1 and the limit."),
    "option_conflict": Kind(422, "Two options of the request exclude each other."),
    "dimensions_unsupported": Kind(422, "Embeddings are not cut: leave dimensions out, or give their own length."),
    "token_ids_unsupported": Kind(
        422, "Token ids belong to another tokenizer: send texts (LangChain: check_embedding_ctx_length=False)."
    ),
    "enhancement_unavailable": Kind(422, "This service has no fusion checkpoint, so it cannot enhance."),
    "base64_invalid": Kind(422, "An image is not base64 in the standard alphabet with padding."),
    "data_uri_invalid": Kind(422, "A data URI is not of the form data:image/...;base64,..."),
    "url_not_supported": Kind(422, "URLs are not fetched; send the image itself."),
    "image_empty": Kind(422, "An image has no bytes."),
    "image_truncated": Kind(422, "An image file ends too early."),
    "image_undecodable": Kind(422, "An image file is damaged."),
    "image_aspect_ratio": Kind(422, "An image is too long for its width or too wide for its height."),
    "text_empty": Kind(422, "A text has no visible character."),
    "text_too_long": Kind(422, "A text has more characters than the limit."),
    "text_invalid_unicode": Kind(422, "A text holds a lone surrogate."),
    "text_control_character": Kind(422, "A text holds a control character."),
    "text_special_token": Kind(422, "A text holds one of the tokenizer's special tokens."),
    "labels_empty": Kind(422, "The request names no label."),
    "labels_too_many": Kind(422, "The request names more labels than the limit."),
    "labels_duplicate": Kind(422, "Two labels are the same but for case, spaces or Unicode form."),
    "label_set_name_invalid": Kind(
        422, "A label set's name is 1 to 64 letters, digits, dots, dashes or underscores, and no dot in front."
    ),
    "label_sets_full": Kind(422, "The service holds as many label sets as it may; delete one first."),
    "templates_empty": Kind(422, "The list of templates is empty; leave it out for the default."),
    "templates_too_many": Kind(422, "The request names more templates than the limit."),
    "key_invalid": Kind(422, "A key has 1 to 256 characters, no control character, and no slash at either end."),
    "name_or_caption": Kind(422, "Pairs need a name or a caption: exactly one of the two."),
    "template_invalid": Kind(422, "A template must hold {} exactly once and no other brace."),
    "work_too_large": Kind(422, "Labels times templates is more than the limit."),
    # 429: this caller, too fast
    "rate_limited": Kind(429, "More items than this key or address may send; Retry-After says when to go on."),
    "concurrency_limited": Kind(429, "More requests at once than this key or address may have under way."),
    # 431: headers
    "headers_too_large": Kind(431, "The request has more headers, or larger ones, than are accepted."),
    # 5xx: ours
    "internal_error": Kind(500, "A fault of this service; the request id finds it in the log."),
    "nonfinite_embedding": Kind(500, "The encoder gave no finite embedding for an item."),
    "memory_write_failed": Kind(503, "The memory cannot be written; its disk is full or read-only. It is unchanged."),
    "not_ready": Kind(503, "The service is not ready to answer."),
    "memory_unavailable": Kind(503, "The memory is kept elsewhere and does not answer; try again later."),
    "too_many_connections": Kind(503, "Too many connections are open; try again later."),
    "bodies_full": Kind(503, "Too many bytes of requests are under way; try again later."),
    "pixels_full": Kind(503, "Too many pixels are waiting to be decoded; try again later."),
    "queue_full": Kind(503, "Too many items are waiting; try again later."),
    "label_set_not_saved": Kind(503, "The folder of the label sets cannot be written."),
    "label_set_unreadable": Kind(
        404, "The label set's file is there and cannot be read: the reason that it is not found."
    ),
    "out_of_memory": Kind(503, "The service ran out of memory on this item; try again later."),
    "deadline_exceeded": Kind(504, "The answer was not ready within the time limit."),
}

REJECTIONS = frozenset(
    {
        "rate_limited",
        "concurrency_limited",
        "bodies_full",
        "pixels_full",
        "queue_full",
        "body_too_large",
        "deadline_exceeded",
        "not_ready",
        "receive_timeout",
        "too_many_connections",
    }
)


@dataclass(frozen=True)
class ItemError:
    """One bad item or field: where it is in the request (a JSON pointer) and what is wrong with it."""

    pointer: str
    code: str

    def render(self) -> dict[str, str]:
        return {"pointer": self.pointer, "code": self.code, "detail": KINDS[self.code].title}


@dataclass
class Problem(Exception):  # noqa: N818 (the RFC's own word)
    """Ends the request with the status of `code`.

    Attributes:
        code: A key of `KINDS`.
        errors: The bad items or fields, in request order.
        extensions: Further members of the body, our own words and numbers only (`limit`, `reason`, ...).
        headers: Further response headers.
    """

    code: str
    errors: Sequence[ItemError] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.code)

    @classmethod
    def of_items(cls, errors: Sequence[ItemError], limits: Mapping[str, int] | None = None) -> "Problem":
        """The first bad item gives the request its code and status, and the limit of the code; all are listed."""
        code = errors[0].code
        return cls(code, errors=errors, extensions={"limit": limits[code]} if limits and code in limits else {})


def known_code(code: str) -> str:
    """`code` if the table has it, else `internal_error`: an unmapped error of a lower room is our fault."""
    return code if code in KINDS else "internal_error"


def problem_response(problem: Problem, request_id: str) -> Response:
    """The RFC 9457 answer; its `type` leads to the row of the code on the service's own `/docs`."""
    kind = KINDS[problem.code]
    body: dict[str, Any] = {
        "type": f"/docs#{problem.code}",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": kind.title,
        "instance": request_id,
        "code": problem.code,
        **problem.extensions,
    }
    if problem.errors:
        body["errors"] = [error.render() for error in problem.errors]
    content = json.dumps(body, ensure_ascii=True, allow_nan=False)
    return Response(content, status_code=kind.status, media_type=MEDIA_TYPE, headers=response_headers(problem))


def response_headers(problem: Problem) -> dict[str, str]:
    """The problem's own headers, and when to come back."""
    headers = dict(problem.headers)
    if KINDS[problem.code].status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", "1")
    return headers
