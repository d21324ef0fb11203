"""The frozen CLIP encoder: images and texts to unit-norm embeddings, with the identity a memory is checked against.

Imports torch, open_clip (through models.sources) and the rooms beside it in models.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.devices import bound_cached_kernels, choose_device, choose_dtype
from models.errors import EncoderError, ImageError
from models.fingerprint import PROBE_TEXTS, Fingerprint, hash_weights, probe_images, round_probe
from models.graphed import Graphed, sizes_up_to
from models.images.decoding import ImageLimits
from models.images.preprocessor import PreprocessMode, Preprocessor
from models.images.raw_pixels import RawPixels
from models.pinned_rows import PinnedRows
from models.sources.opening import OpenedModel, one_line, open_model
from models.texts.tokenizer import Tokenizer, Tokens
from models.towers.cut_text import can_cut, cut, encode_text_cut
from models.towers.int8_tower import fit_int8_tower
from models.towers.packed_towers import Tower, pack_image_tower, pack_text_tower
from models.towers.products import has_products

FloatArray = NDArray[np.float32]
Embed = Callable[[torch.Tensor], torch.Tensor]
_UNIT = 1e-2  # how far a normalised row may be from unit norm: one that is not, was zero or not finite
_TEXT_LENGTHS = 16  # tokens on a GPU: a graph for each multiple
_WARM_LENGTHS = (16, 32)  # of most captions


class Encoder:
    """A frozen CLIP model, ready to encode.

    Attributes:
        name: for people: architecture and tag, or the name of its directory.
        embed_dim: D.
        context_length: L, in tokens with the two that mark start and end.
        logit_scale: the factor on similarities, exp already applied.
        device, dtype: where and in which precision it computes; embeddings are always float32.
        int8_cosine: of an image tower in 8 bits, the smallest cosine to float32 that it was admitted with; else None.
        preprocess: image bytes to (3, S, S) float32.
        takes_raw: whether raw pixels, uint8, are the quicker input: `preprocess(data, raw=True)`.
        packs_texts: whether a text costs its own tokens, and not those of the longest in its batch.
        fingerprint: what it is, see models.fingerprint.
    """

    def __init__(
        self,
        opened: OpenedModel,
        device: torch.device,
        dtype: torch.dtype,
        limits: ImageLimits,
        preprocess: PreprocessMode,
        *,
        int8_pictures: Sequence[bytes] | None = None,
    ) -> None:
        """Take over `opened.model`: freeze it, fingerprint it, cast it, move it. Use `Encoder.open`."""
        self.name = opened.name
        self.embed_dim = opened.embed_dim
        self.device = str(device)
        self.dtype = str(dtype).removeprefix("torch.")
        config: Any = opened.model.visual.preprocess_cfg  # type: ignore[union-attr]
        self.preprocess = Preprocessor(config, limits, mode=preprocess)
        self._tokenizer = Tokenizer(opened.tokenizer, opened.tokenizer.context_length)
        self.context_length = self._tokenizer.context_length
        # The identity comes from the weights as they are on disk: casting would make each precision another encoder.
        frozen = opened.model.eval().requires_grad_(False)
        weights_sha256 = hash_weights(frozen.state_dict())
        self.logit_scale = float(frozen.logit_scale.exp())  # type: ignore[operator]
        if not math.isfinite(self.logit_scale):  # no embedding would show it, but each answer about labels
            raise EncoderError(
                "weights_invalid", f"The logit scale of {self.name} is not finite. Copy its weights again."
            )
        self._device, self._dtype = device, dtype
        self._pinned = PinnedRows() if device.type == "cuda" else None
        self._raw_pixels = RawPixels(self.preprocess.record, device)
        self.takes_raw = device.type != "cpu"
        int8 = None if int8_pictures is None else fit_int8_tower(frozen, self._pixels_of(int8_pictures))
        towers = _choose_towers(frozen, device, dtype)
        self._image_tower, self._text_tower, self._text_multiple, self.packs_texts = towers
        self._model = frozen.to(device=device, dtype=dtype)
        self._embed_image: Embed = self._image_embeddings
        self._embed_text: Embed = self._text_embeddings
        if device.type == "cuda":
            self._embed_image = Graphed(self._image_embeddings, device)
            self._embed_text = Graphed(self._text_embeddings, device)
        self.fingerprint = Fingerprint(
            architecture=opened.architecture,
            weights_sha256=weights_sha256,
            preprocessing=self.preprocess.record,
            tokenizer=self._tokenizer.record(),
            embed_dim=self.embed_dim,
            probes=self._answer_probes(),
            device=self.device,
            dtype=self.dtype,
        )
        self.int8_cosine: float | None = None
        if int8 is not None:  # after the probes: they are the identity, and 8 bits a precision
            self._image_tower, self.int8_cosine = int8

    @classmethod
    def open(
        cls,
        model: str,
        pretrained: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        limits: ImageLimits | None = None,
        preprocess: PreprocessMode = "fast",
        int8_pictures: Sequence[bytes] | None = None,
    ) -> "Encoder":
        """Open an encoder.

        Args:
            model: an architecture of open_clip, or a local directory with open_clip_config.json,
                open_clip_model.safetensors and, for a vocabulary of its own, bpe.txt.gz.
            pretrained: for an architecture: open_clip's tag, or the path of a safetensors file.
            device: auto (cuda, cpu), or a torch device.
            dtype: auto (what the device is fast in), float32, bfloat16 or float16. Weights are cast, not operations.
            limits: what images are refused before decoding.
            preprocess: fast or exact, see `Preprocessor`; like the dtype no part of what the encoder is.
            int8_pictures: files of pictures like those it will see: the image tower computes in 8 bits, fitted on half
                of them and held to the other half (`models.towers.int8_tower`). On a CPU only.

        Raises:
            EncoderError: with the code of what is missing, unsafe or does not fit together.
        """
        chosen = choose_device(device)
        precision = choose_dtype(dtype, chosen)  # before loading: a wrong word should not cost a minute
        if int8_pictures is not None and chosen.type != "cpu":
            raise EncoderError("int8_unavailable", f"8 bits are for a CPU, and the device is {chosen}. Leave int8 off.")
        if chosen.type == "cpu":
            bound_cached_kernels()
        opened = open_model(str(model), pretrained)
        try:
            return cls(opened, chosen, precision, limits or ImageLimits(), preprocess, int8_pictures=int8_pictures)
        except (EncoderError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):  # it is not the model
            raise
        except Exception as error:  # as in building: whatever a layer or the transform says to a wrong configuration
            raise EncoderError("config_invalid", f"{opened.name} answers to no probe: {one_line(error)}.") from error

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Texts that passed `check_text` to (B, L) int64 ids, and which of them were cut.

        Raises:
            TextError: text_special_token.
        """
        return self._tokenizer(texts)

    def stack(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Rows of one shape and dtype, together: what the towers take, until the thread's next call.

        For a GPU they lie in pinned memory, from where it copies them itself.
        """
        return torch.stack(list(rows)) if self._pinned is None else self._pinned.stack(rows)

    def encode_image(self, pixels: torch.Tensor) -> FloatArray:
        """Embed preprocessed images.

        Args:
            pixels: (B, 3, S, S), rows from `preprocess`: float32, or uint8 if they are raw.

        Returns:
            (B, D) float32, unit norm, C-contiguous; row i does not depend on the other rows.

        Raises:
            EncoderError: nonfinite_embedding, with the rows to blame.
        """
        assert pixels.ndim == 4, f"pixels must be (B, 3, S, S), got {tuple(pixels.shape)}"
        return self._embed(self._embed_image, pixels)

    def encode_text(self, tokens: torch.Tensor) -> FloatArray:
        """Embed tokenized texts.

        Args:
            tokens: (B, L) int64, `Tokens.ids`.

        Returns:
            (B, D) float32, unit norm, C-contiguous; row i does not depend on the other rows.

        Raises:
            EncoderError: nonfinite_embedding, with the rows to blame.
        """
        assert tokens.ndim == 2, f"tokens must be (B, L), got {tuple(tokens.shape)}"
        if self._text_multiple is not None and len(tokens):
            tokens = cut(tokens, self._text_multiple)
        return self._embed(self._embed_text, tokens)

    def warm_up(self, most: int) -> None:
        """Record what a GPU is asked for batches of up to `most` images and short texts; nothing to do on a CPU."""
        if self._device.type != "cuda":
            return
        for size in sizes_up_to(most):
            self._embed_image(torch.zeros((size, 3, *self.preprocess.record["size"]), dtype=torch.uint8))
            for length in _WARM_LENGTHS:
                self._embed_text(torch.zeros((size, min(length, self.context_length)), dtype=torch.int64))

    def _embed(self, embed: Embed, batch: torch.Tensor) -> FloatArray:
        if len(batch) == 0:
            return np.zeros((0, self.embed_dim), dtype=np.float32)
        with torch.inference_mode():
            rows = np.ascontiguousarray(embed(batch).cpu().numpy())  # (B, D)
        if rows.shape != (len(batch), self.embed_dim):
            raise EncoderError(
                "config_invalid",
                f"The model answers with {rows.shape[1:]} numbers an input, and its embed_dim is {self.embed_dim}.",
            )
        lengths = np.linalg.norm(rows, axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < _UNIT)).tolist()  # written so that NaN is wrong
        if wrong:
            raise EncoderError(
                "nonfinite_embedding",
                f"The encoder's answer is zero or not finite for {len(wrong)} of {len(batch)} inputs. Check its "
                "weights; in float16, try bfloat16 or float32.",
                wrong,
            )
        return rows

    def _image_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S), raw or not, to (B, D) float32 of unit norm, on the device."""
        pixels = pixels.to(self._device)
        pixels = self._raw_pixels(pixels) if pixels.dtype == torch.uint8 else pixels
        return _unit(self._image_tower(pixels.to(self._dtype), normalize=False))

    def _text_embeddings(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, length) to (B, D) float32 of unit norm, on the device."""
        return _unit(self._text_tower(tokens.to(self._device), normalize=False))

    def _pixels_of(self, pictures: Sequence[bytes]) -> torch.Tensor:
        """(N, 3, S, S) float32; no row if there is no picture."""
        if not pictures:
            return torch.zeros(0)
        try:
            return torch.stack([self.preprocess(data) for data in pictures])
        except ImageError as error:
            raise EncoderError("int8_pictures", f"A picture to fit 8 bits on cannot be used: {error.detail}") from None

    def _answer_probes(self) -> dict[str, list[list[float]]]:
        # One at a time: the record must not depend on how a batch of two is computed.
        images = [self.encode_image(self.preprocess(data)[None])[0] for data in probe_images()]
        texts = [self.encode_text(self.tokenize([text]).ids)[0] for text in PROBE_TEXTS]
        return {"image": [round_probe(row) for row in images], "text": [round_probe(row) for row in texts]}


def _unit(features: torch.Tensor) -> torch.Tensor:
    """Features (B, D) at unit norm, in float32 whatever the towers computed in; zeros and overflows get none."""
    features = features.float()
    unit: torch.Tensor = features / features.norm(dim=-1, keepdim=True)
    return unit


class _Towers(NamedTuple):
    """The image and the text tower; of what the length of texts is to be a multiple, None takes them whole; and whether
    the text tower leaves the padding out itself."""

    image: Tower
    text: Tower
    text_multiple: int | None
    packs_texts: bool = False


def _choose_towers(model: Any, device: torch.device, dtype: torch.dtype) -> _Towers:
    """The fastest towers that give the model's own features, before it is cast and moved."""
    packs = has_products(device, dtype)
    image = (pack_image_tower(model, dtype) if packs else None) or model.encode_image
    if packs and (packed := pack_text_tower(model, dtype)):
        return _Towers(image, packed, None, packs_texts=True)
    if can_cut(model):
        return _Towers(image, partial(encode_text_cut, model), _TEXT_LENGTHS if device.type == "cuda" else 1)
    return _Towers(image, model.encode_text, None)
