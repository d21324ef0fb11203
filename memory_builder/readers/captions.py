"""The caption in the file beside an image: plain text, or "caption" of a JSON object. Imports records.py."""

import json

from memory_builder.readers.reader import MAX_CAPTION_BYTES
from memory_builder.records import RowRejected

# In order of preference, where an image has more than one.
PLAIN_EXTENSIONS = ("txt", "caption")
MAX_JSON_BYTES = 1 << 20


def most_bytes(extension: str) -> int:
    """How much of a caption file is read at most."""
    return MAX_JSON_BYTES if extension == "json" else MAX_CAPTION_BYTES


def read_caption(data: bytes, extension: str) -> str:
    """The caption in a file's bytes, white space around it removed (a text file ends in a line feed).

    Bytes that are not UTF-8 become lone surrogates: the check of all texts then gives them its own code.

    Raises:
        RowRejected: text_too_long, caption_invalid (JSON that is none, or whose caption is no text),
            missing_caption.
    """
    if len(data) > most_bytes(extension):
        raise RowRejected("text_too_long", "The caption file is larger than any caption may be.")
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if extension != "json":
        return text.strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RowRejected("caption_invalid", "The JSON file beside the image is not valid JSON.") from None
    caption = value.get("caption") if isinstance(value, dict) else None
    if caption is None:
        raise RowRejected("missing_caption", "The JSON file beside the image has no caption.")
    if not isinstance(caption, str):
        raise RowRejected("caption_invalid", "The caption in the JSON file is not a text.")
    return caption.strip()
