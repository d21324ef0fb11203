"""The encoder: what it answers, that open_clip answers the same, and what it refuses to open."""

import io
import json
import os
import pickle
import shutil
import socket
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.encoder import Encoder
from models.errors import EncoderError

TEXTS = [
    "a photo of a red bird",
    "two umbrellas in the rain",
    "bird",
    "a spotted duck swimming under the snow " * 4,
]


def open_directory(directory: Path) -> Encoder:
    return Encoder.open(str(directory), device="cpu", dtype="float32")


@pytest.fixture
def directory(encoder_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder that a test may damage."""
    return Path(shutil.copytree(encoder_dir, tmp_path / "encoder"))


def refusal(model: str | Path, pretrained: str | None = None) -> EncoderError:
    with pytest.raises(EncoderError) as caught:
        Encoder.open(str(model), pretrained, device="cpu", dtype="float32")
    assert caught.value.message.endswith((".", ")"))
    return caught.value


def rewrite_weights(directory: Path, change) -> None:
    path = directory / "open_clip_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def pixels_of(encoder: Encoder, photo_bytes: dict[str, bytes]) -> torch.Tensor:
    return torch.stack([encoder.preprocess(photo_bytes[name]) for name in ("jpeg", "png_alpha", "webp", "gif")])


# What it answers


def test_embeddings_are_unit_norm_float32(encoder: Encoder, photo_bytes: dict[str, bytes]) -> None:
    images = encoder.encode_image(pixels_of(encoder, photo_bytes))
    texts = encoder.encode_text(encoder.tokenize(TEXTS).ids)
    for embeddings in (images, texts):
        assert embeddings.shape == (4, encoder.embed_dim) == (4, 128)
        assert embeddings.dtype == np.float32
        assert embeddings.flags.c_contiguous
        assert embeddings.flags.writeable
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_attributes(encoder: Encoder, encoder_dir: Path) -> None:
    assert encoder.name == encoder_dir.name
    assert encoder.context_length == 40
    assert (encoder.device, encoder.dtype) == ("cpu", "float32")
    assert encoder.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_no_inputs_no_rows(encoder: Encoder) -> None:
    assert encoder.encode_image(torch.zeros(0, 3, 64, 64)).shape == (0, 128)
    assert encoder.encode_text(encoder.tokenize([]).ids).shape == (0, 128)


def test_a_row_does_not_depend_on_its_batch(encoder: Encoder, photo_bytes: dict[str, bytes]) -> None:
    pixels, ids = pixels_of(encoder, photo_bytes), encoder.tokenize(TEXTS).ids
    images, texts = encoder.encode_image(pixels), encoder.encode_text(ids)
    for row in range(4):
        np.testing.assert_allclose(encoder.encode_image(pixels[row : row + 1])[0], images[row], atol=1e-5)
        np.testing.assert_allclose(encoder.encode_text(ids[row : row + 1])[0], texts[row], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_image(pixels.flip(0)), images[::-1], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_text(ids.flip(0)), texts[::-1], atol=1e-5)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "cmyk_jpeg"])
def test_images_equal_open_clips(encoder: Encoder, encoder_dir: Path, photo_bytes: dict[str, bytes], name: str) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{encoder_dir}")
    expected_pixels = preprocess(Image.open(io.BytesIO(photo_bytes[name])))
    exact = Encoder.open(str(encoder_dir), device="cpu", dtype="float32", preprocess="exact")
    assert torch.equal(exact.preprocess(photo_bytes[name]), expected_pixels)
    pixels = encoder.preprocess(photo_bytes[name])  # fast, the default
    assert exact.fingerprint.id == encoder.fingerprint.id
    with torch.inference_mode():
        expected = model.eval().encode_image(expected_pixels[None], normalize=True)[0].numpy()
    assert float(encoder.encode_image(pixels[None])[0] @ expected) >= 0.99999


def test_texts_equal_open_clips(encoder: Encoder, encoder_dir: Path) -> None:
    model = open_clip.create_model(f"local-dir:{encoder_dir}").eval()
    ids = encoder.tokenize(TEXTS).ids
    with torch.inference_mode():
        expected = model.encode_text(ids, normalize=True).numpy()
    actual = encoder.encode_text(ids)  # without the padding that open_clip computes
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert (np.einsum("bd,bd->b", actual, expected) >= 0.99999).all()


def test_weights_are_frozen_and_batch_norm_is_in_eval(encoder_dir: Path, photo_bytes: dict[str, bytes]) -> None:
    fresh = open_directory(encoder_dir)
    pixels = pixels_of(fresh, photo_bytes)
    first = fresh.encode_image(pixels)
    np.testing.assert_array_equal(fresh.encode_image(pixels), first)
    assert not any(parameter.requires_grad for parameter in fresh._model.parameters())
    assert not any(module.training for module in fresh._model.modules())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_precision_is_the_same_encoder(
    encoder: Encoder, encoder_dir: Path, photo_bytes: dict[str, bytes], dtype: str
) -> None:
    half = Encoder.open(str(encoder_dir), device="cpu", dtype=dtype)
    assert half.dtype == dtype
    assert half._model.visual.bn1.num_batches_tracked.dtype == torch.int64
    pixels, ids = pixels_of(encoder, photo_bytes), encoder.tokenize(TEXTS).ids
    for whole, cast in (
        (encoder.encode_image(pixels), half.encode_image(pixels)),
        (encoder.encode_text(ids), half.encode_text(ids)),
    ):
        assert cast.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(cast, axis=1), 1, atol=1e-6)  # normalised in float32
        assert (np.einsum("bd,bd->b", whole, cast) > 0.999).all()
    assert half.fingerprint.id == encoder.fingerprint.id
    assert half.fingerprint.encoded_with() == {"device": "cpu", "dtype": dtype}


# J25: what is not finite is never returned


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_J25_not_finite_inputs_name_their_rows(encoder: Encoder, photo_bytes: dict[str, bytes], value: float) -> None:
    pixels = pixels_of(encoder, photo_bytes)
    pixels[[1, 3]] = value
    with pytest.raises(EncoderError) as caught:
        encoder.encode_image(pixels)
    assert caught.value.code == "nonfinite_embedding"
    assert caught.value.rows == (1, 3)
    good = encoder.encode_image(pixels[[0, 2]])
    assert np.isfinite(good).all()
    assert pickle.loads(pickle.dumps(caught.value)).rows == (1, 3)


def test_J25_zero_features_are_not_an_embedding(directory: Path) -> None:
    rewrite_weights(directory, lambda weights: weights["text_projection"].zero_())
    error = refusal(directory)  # already its probes cannot be answered
    assert error.code == "nonfinite_embedding"
    assert error.rows == (0,)


def test_J25_weights_that_are_not_finite_are_refused_at_the_door(directory: Path) -> None:
    rewrite_weights(directory, lambda weights: weights["visual.attnpool.c_proj.bias"].fill_(float("nan")))
    assert refusal(directory).code == "nonfinite_embedding"


@pytest.mark.parametrize("value", [float("nan"), 1000.0])
def test_J25_a_logit_scale_that_is_not_finite_is_refused_at_the_door(directory: Path, value: float) -> None:
    rewrite_weights(directory, lambda weights: weights["logit_scale"].fill_(value))
    assert refusal(directory).code == "weights_invalid"


# What it refuses to open


@pytest.mark.parametrize("model", ["no/such/place", "/no/such/place", "./nowhere"])
def test_missing_directory(model: str) -> None:
    assert refusal(model).code == "encoder_directory_missing"


@pytest.mark.parametrize("model", ["ViT-Z-99", "", "hf-hub", "vit-b-32"])
def test_unknown_architecture(model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(model).code in {"architecture_unknown", "config_missing"}


def test_missing_configuration(directory: Path) -> None:
    (directory / "open_clip_config.json").unlink()
    assert refusal(directory).code == "config_missing"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"model_cfg": {}}',
        '{"model_cfg": {"embed_dim": 4, "vision_cfg": 1, "text_cfg": {}}}',
        '{"model_cfg": {"embed_dim": 128, "vision_cfg": {"no_such_field": 1}, "text_cfg": {}}}',
        "\xff",
        "[" * 100_000,
    ],
)
def test_damaged_configuration(directory: Path, text: str) -> None:
    (directory / "open_clip_config.json").write_bytes(text.encode("latin-1"))
    assert refusal(directory).code == "config_invalid"


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("preprocess_cfg", "interpolation", "nearest"),
        ("preprocess_cfg", "mean", 0.5),
        ("preprocess_cfg", "std", [0.5] * 4),
        ("text_cfg", "context_length", 1),
    ],
)
def test_a_configuration_that_no_probe_can_be_answered_with(
    directory: Path, part: str, setting: str, value: object
) -> None:
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    {**config, **config["model_cfg"]}[part][setting] = value
    path.write_text(json.dumps(config))
    assert refusal(directory).code == "config_invalid"


def test_towers_that_answer_with_unequal_numbers(directory: Path) -> None:
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["proj_type"] = "none"
    path.write_text(json.dumps(config))
    rewrite_weights(directory, lambda weights: weights.pop("text_projection"))
    error = refusal(directory)
    assert error.code == "config_invalid"
    assert "96" in error.message
    assert "128" in error.message


@pytest.mark.parametrize(
    ("side", "setting", "value"),
    [
        ("text_cfg", "hf_model_name", "someone/roberta"),
        ("vision_cfg", "timm_model_name", "hf-hub:someone/vit"),
        ("vision_cfg", "timm_model_name", "local-dir:/elsewhere"),
        ("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True}),
    ],
)
def test_F20_a_configuration_that_leads_out_of_its_directory_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, side: str, setting: str, value: object
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something was looked up"))
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][side][setting] = value
    path.write_text(json.dumps(config))
    error = refusal(directory)
    assert error.code == "config_remote"
    assert setting in error.message


def test_F20_a_model_directory_is_opened_without_a_network(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something was looked up"))
    encoder = open_directory(directory)
    assert encoder.encode_text(encoder.tokenize(["a bird"]).ids).shape == (1, encoder.embed_dim)


def test_missing_weights(directory: Path) -> None:
    (directory / "open_clip_model.safetensors").unlink()
    assert refusal(directory).code == "weights_missing"


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pt", "weights.pth", "a.ckpt"])
def test_pickled_weights_are_refused_and_never_read(
    directory: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was reached"))
    (directory / "open_clip_model.safetensors").rename(directory / name)
    error = refusal(directory)
    assert error.code == "weights_unsafe"
    assert "safetensors" in error.message
    assert refusal("ViT-B-32", str(directory / name)).code == "weights_unsafe"


def test_a_pickle_beside_the_weights_is_not_touched(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was reached"))
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": 1}))
    assert open_directory(directory).embed_dim == 128


def test_a_pickle_in_the_clothes_of_safetensors(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was reached"))
    (directory / "open_clip_model.safetensors").write_bytes(pickle.dumps({"weights": [1] * 100}))
    assert refusal(directory).code == "weights_invalid"


def test_truncated_and_empty_weights(directory: Path) -> None:
    path = directory / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert refusal(directory).code == "weights_invalid"
    path.write_bytes(b"")
    assert refusal(directory).code == "weights_invalid"
    save_file({}, path)
    assert refusal(directory).code == "weights_invalid"


def test_weights_of_another_shape_or_with_a_tensor_missing(directory: Path) -> None:
    rewrite_weights(directory, lambda weights: weights.pop("ln_final.weight"))
    assert refusal(directory).code == "weights_mismatch"
    rewrite_weights(directory, lambda weights: weights.update({"ln_final.weight": torch.ones(7)}))
    assert refusal(directory).code == "weights_mismatch"


def test_the_wrong_vocabulary_is_named(directory: Path) -> None:
    (directory / "bpe.txt.gz").unlink()  # open_clip then takes its own 49,408 tokens, and dies at the first text
    error = refusal(directory)
    assert error.code == "tokenizer_mismatch"
    assert "49408" in error.message


def test_a_line_feed_at_the_end_of_the_merges_is_named(directory: Path) -> None:
    import gzip

    path = directory / "bpe.txt.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\n"))
    error = refusal(directory)
    assert error.code == "tokenizer_mismatch"
    assert "line feed" in error.message


def test_damaged_merges(directory: Path) -> None:
    (directory / "bpe.txt.gz").write_bytes(b"not gzip")
    assert refusal(directory).code == "tokenizer_invalid"


def test_merges_named_by_path_only(directory: Path) -> None:
    config = json.loads((directory / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": "somewhere/else.gz"}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    assert open_directory(directory).context_length == 40  # the file beside the configuration wins
    (directory / "bpe.txt.gz").unlink()
    assert refusal(directory).code == "tokenizer_missing"


def test_an_architecture_is_not_opened_with_random_weights() -> None:
    error = refusal("ViT-B-32")
    assert error.code == "pretrained_missing"
    assert "laion2b_s34b_b79k" in error.message


def test_an_unknown_tag_or_file() -> None:
    assert refusal("ViT-B-32", "no_such_tag").code == "pretrained_unknown"
    assert refusal("ViT-B-32", "/no/such/file.safetensors").code == "pretrained_unknown"


def test_a_tag_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def unplugged(*_: object) -> str:
        raise FileNotFoundError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", unplugged)
    error = refusal("ViT-B/32", "laion2b_s34b_b79k")
    assert error.code == "pretrained_unavailable"
    assert "no route" not in error.message


def test_a_tag_that_arrives_as_a_pickle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was reached"))
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(tmp_path / "open_clip_pytorch_model.bin"))
    assert refusal("ViT-B-32", "laion2b_s34b_b79k").code == "weights_unsafe"


def test_a_tag_trained_with_another_activation_is_refused() -> None:
    error = refusal("ViT-B-32", "openai")
    assert error.code == "activation_mismatch"
    assert "ViT-B-32-quickgelu" in error.message


def test_weights_that_do_not_fit_the_architecture(encoder_dir: Path) -> None:
    error = refusal("RN50", str(encoder_dir / "open_clip_model.safetensors"))
    assert error.code == "weights_mismatch"


def test_device_and_dtype_are_checked_before_anything_is_loaded() -> None:
    for options, code in (({"dtype": "int4"}, "dtype_unknown"), ({"device": "tpu"}, "device_unavailable")):
        with pytest.raises(EncoderError) as caught:
            Encoder.open("no/such/place", **{"device": "cpu", **options})
        assert caught.value.code == code


@pytest.mark.parametrize("given", [None, "512"])
@pytest.mark.parametrize("variable", ["ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"])
def test_the_kernels_kept_on_a_cpu_are_bounded(
    encoder_dir, monkeypatch: pytest.MonkeyPatch, variable: str, given: str | None
) -> None:
    """Else one is kept for each number of tokens that is met. What the user set stays."""
    monkeypatch.setenv(variable, given or "")  # so that it is as before after the test
    if given is None:
        monkeypatch.delenv(variable)
    Encoder.open(str(encoder_dir), device="cpu", dtype="float32")
    assert os.environ[variable] == (given or "64")
