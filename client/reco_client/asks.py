"""Requests as the service wants them. No connection is touched here.

Depends on numpy and the parts beside it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import numpy as np

from reco_client.batches import Batch
from reco_client.errors import RequestRefused
from reco_client.images import ImageSource, read_image
from reco_client.options import listed_labels
from reco_client.results import ItemError

NPY = "application/x-npy"
UNREADABLE = "file_unreadable"  # ours: the service never saw it
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF_A_PAIR = "the text holds half of a surrogate pair, as bytes that are no UTF-8 come out"


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        first: place in the call of its first input.
        places: of each input that is sent, in the batch; the others are in `errors`.
        errors: by place in the call, inputs that could not even be sent.
        partial: with on_error="partial": an input that cannot be used is one of `errors`, and the call goes on.
        repeatable: whether it may be sent again when nobody knows if it arrived.
    """

    method: str
    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    places: Sequence[int] = ()
    errors: Mapping[int, ItemError] = field(default_factory=dict)
    partial: bool = False
    repeatable: bool = True

    @property
    def places_in_call(self) -> Sequence[int]:
        """Of the inputs that are sent."""
        return [self.first + place for place in self.places]

    def without(self, refused: RequestRefused) -> "Ask":
        """The same with nothing left to send, where an answer blames all that was: an input too large to be read.

        Raises:
            RequestRefused: it blames something else, or the call is to fail with any input.
        """
        if not self.partial or len(refused.items) < len(self.places):
            raise refused
        return replace(self, places=(), errors={**self.errors, **{item.index: item for item in refused.items}})


def ask_texts(batch: Batch[str], options: Mapping[str, Any]) -> Ask:
    """A request to embed texts.

    Raises:
        TypeError: an input that is no string, as an empty cell of a table is.
        ValueError: a text with half of a surrogate pair, as from bytes that are no UTF-8, unless on_error is "partial".
    """
    texts, places, errors = [], [], {}
    partial = options.get("on_error") == "partial"
    for place, one in enumerate(batch.inputs):
        where = batch.first + place
        if not isinstance(one, str):
            raise TypeError(f"a text is a string, not {type(one).__name__}: input {where}")
        if _is_unicode(one):
            texts.append(one)
            places.append(place)
        elif partial:
            errors[where] = ItemError(where, "text_invalid_unicode", _HALF_A_PAIR)
        else:
            raise ValueError(f"{_HALF_A_PAIR}: input {where}")
    body = {"texts": texts, **_given(options), **_form(options)}
    arguments = {"json": body, "headers": _accept(options)}
    return Ask("POST", "/embed/text", arguments, batch.first, places, errors, partial)


def ask_images(path: str, batch: Batch[ImageSource], options: Mapping[str, Any]) -> Ask:
    """A request with images, as a form: a third less to send than base64.

    Raises:
        OSError, TypeError, ValueError: an image that cannot be read, unless on_error is "partial".
    """
    files: list[tuple[str, tuple[str, bytes]]] = []
    places, errors = [], {}
    partial = options.get("on_error") == "partial"
    for place, source in enumerate(batch.inputs):
        try:
            files.append(("files", ("image", read_image(source))))
            places.append(place)
        except (OSError, TypeError, ValueError) as error:
            if not partial:
                raise
            detail = error.strerror or "" if isinstance(error, OSError) else str(error)
            errors[batch.first + place] = ItemError(batch.first + place, UNREADABLE, detail)
    embeds = path == "/embed/image"
    given = _given(options) | (_form(options) if embeds else {})
    words = {name: value if isinstance(value, str) else _json(value) for name, value in given.items()}
    arguments = {"files": files, "data": words, "headers": _accept(options) if embeds else {}}
    return Ask("POST", path, arguments, batch.first, places, errors, partial)


def ask_label_sets() -> Ask:
    """A request for all of them."""
    return Ask("GET", "/label_sets")


def ask_label_set(method: str, name: str) -> Ask:
    """A request about one label set."""
    # A deletion that arrived, and whose answer did not, would be told as a set that is not there.
    return Ask(method, f"/label_sets/{_quoted(name)}", repeatable=method != "DELETE")


def ask_put_label_set(name: str, labels: Sequence[str], templates: Sequence[str] | None) -> Ask:
    """A request to make or replace one.

    Raises:
        TypeError: a string where a list of them is to be.
    """
    body = {"labels": listed_labels("labels", labels)}
    if templates is not None:
        body["templates"] = listed_labels("templates", templates)
    return replace(ask_label_set("PUT", name), arguments={"json": body})


def ask_add_pairs(images: Iterable[ImageSource], options: Mapping[str, Any]) -> Ask:
    """A request to put images into the memory. Not repeated when nobody knows if it arrived.

    Raises:
        OSError, TypeError: an image that cannot be read.
        ValueError: there is none.
    """
    batch = Batch(0, list(images))
    if not batch.inputs:
        raise ValueError("there is no image to add")
    ask = ask_images("/operator/pairs", batch, {name: value for name, value in options.items() if value is not None})
    return replace(ask, repeatable=False)


def ask_pairs(limit: int, offset: int) -> Ask:
    """A request to list what was added."""
    return Ask("GET", "/operator/pairs", {"params": {"limit": limit, "offset": offset}})


def ask_pair(method: str, key: str) -> Ask:
    """A request to show a pair of the memory, or to take it out; a key may hold slashes."""
    return Ask(method, f"/operator/pairs/{'/'.join(map(_quoted, key.split('/')))}", repeatable=method == "GET")


def _quoted(part: str) -> str:
    """A part of a path; one of dots alone would be taken for a step up."""
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def _is_unicode(text: str) -> bool:
    return text.isascii() or not _SURROGATE.search(text)


def _json(value: Any) -> str:
    """Letters as they are, which takes less room, but for what only an escape can say."""
    told = json.dumps(value, ensure_ascii=False)
    return told if _is_unicode(told) else json.dumps(value)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given, numpy's numbers as Python's; the service has a default for each other."""
    given = {name: value for name, value in options.items() if value is not None}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}


def _form(options: Mapping[str, Any]) -> dict[str, str]:
    return {} if _plain(options) else {"encoding_format": "base64"}


def _accept(options: Mapping[str, Any]) -> dict[str, str]:
    """An array where an array holds all that was asked for; a bad answer is a problem in any case."""
    return {"Accept": NPY} if _plain(options) else {}


def _plain(options: Mapping[str, Any]) -> bool:
    more = options.get("return_original") or options.get("return_neighbours") or options.get("on_error") == "partial"
    return not more
