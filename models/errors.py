"""What models refuses, and why.

    InputError(code, detail)        one image or text cannot be used; the caller's own fault
        ImageError                  image_empty, image_too_large, image_format_unsupported, image_truncated,
                                    image_undecodable, image_too_many_pixels, image_aspect_ratio
        TextError                   text_empty, text_too_long, text_invalid_unicode, text_control_character,
                                    text_special_token
    EncoderError(code, message)     the encoder cannot be opened, or answered with something unusable
    CheckpointError(code, message)  a fusion checkpoint cannot be used

Codes are stable and part of the API. The text of an `InputError` is fixed per code: it never repeats the input, a path
or a third party's message, so it may be shown to anybody. This module imports nothing.
"""

from collections.abc import Sequence


class InputError(Exception):
    """One input that cannot be encoded; the other items of its batch are unharmed.

    Attributes:
        code: stable, lower-case, for programs.
        detail: one fixed sentence, for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)  # both in args: the error survives a process boundary
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class ImageError(InputError):
    """Bytes that are not an image we accept."""


class TextError(InputError):
    """A text that we do not encode."""


class EncoderError(Exception):
    """An encoder that cannot be opened or used.

    Codes: architecture_unknown, encoder_directory_missing, config_missing, config_invalid, config_remote,
    pretrained_missing, pretrained_unknown, pretrained_unavailable, activation_mismatch, weights_missing,
    weights_unsafe, weights_invalid, weights_mismatch, tokenizer_missing, tokenizer_invalid, tokenizer_mismatch,
    tokenizer_unavailable, device_unavailable, dtype_unknown, nonfinite_embedding, int8_unavailable, int8_pictures,
    int8_inaccurate. Of a place to write one: model_directory_taken, model_directory_refused.

    Attributes:
        code: stable, lower-case, for programs.
        message: what was wrong, what was expected, what to do.
        rows: for `nonfinite_embedding`, the rows of the batch that are to blame; empty otherwise.
    """

    def __init__(self, code: str, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(code, message, tuple(rows))
        self.code = code
        self.message = message
        self.rows = tuple(rows)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class CheckpointError(Exception):
    """A fusion checkpoint that cannot be saved or loaded.

    Attributes:
        code: stable, lower-case, for programs.
        message: what was wrong, what was expected, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
