"""Which encoder made the embeddings: checked against it, trusted, or declared by a name; and `reco build` saying so."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from memory import EncoderMismatch, Memory
from memory_builder import (
    BuildConfig,
    BuildResult,
    ConfigError,
    CorpusError,
    EmbeddingsReader,
    Origin,
    OriginError,
    build_from_embeddings,
    open_embeddings,
)
from models.checkpoint import load_fusion, save_fusion
from models.encoder import Encoder
from models.errors import CheckpointError
from models.fusion import Fusion, FusionConfig
from reco.cli import app

ROWS = 40


def draw(seed: int) -> bytes:
    """A small picture that differs from every other seed's."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((80, 60)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def other_encoder_dir(tmp_path_factory: pytest.TempPathFactory, encoder_dir: Path) -> Path:
    """The tiny CLIP with another text projection."""
    directory = tmp_path_factory.mktemp("other") / "encoder"
    shutil.copytree(encoder_dir, directory)
    weights = load_file(directory / "open_clip_model.safetensors")
    weights["text_projection"] = weights["text_projection"].roll(1, dims=1).contiguous()
    save_file(weights, directory / "open_clip_model.safetensors")
    return directory


@pytest.fixture(scope="module")
def other_encoder(other_encoder_dir: Path) -> Encoder:
    return Encoder.open(str(other_encoder_dir), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> dict[str, Any]:
    """What the tiny CLIP makes of forty pairs, in float16 and not of unit length, as others may have cached it."""
    captions = [f"a bird with a red wing, number {seed // 2}" for seed in range(ROWS)]
    image = np.stack([encoder.encode_image(encoder.preprocess(draw(seed))[None])[0] for seed in range(ROWS)])
    text = encoder.encode_text(encoder.tokenize(captions).ids)
    return {"image": (7 * image).astype(np.float16), "text": (7 * text).astype(np.float16), "caption": captions}


@pytest.fixture
def open_cached(tmp_path: Path, cached: dict[str, Any]) -> Callable[..., list[EmbeddingsReader]]:
    """The embeddings as an opened source; arrays by name replace or, as None, leave out."""

    def write(**arrays: Any) -> list[EmbeddingsReader]:
        given = {name: array for name, array in ({**cached} | arrays).items() if array is not None}
        np.savez(tmp_path / "cache.npz", **given)
        return open_embeddings(config(tmp_path))

    return write


def config(tmp_path: Path, memory: str = "memory") -> BuildConfig:
    return BuildConfig((str(tmp_path / "cache.npz"),), tmp_path / memory)


OpenCached = Callable[..., list[EmbeddingsReader]]


def build_declared(tmp_path: Path, readers: list[EmbeddingsReader], name: str = "some-clip") -> BuildResult:
    return build_from_embeddings(config(tmp_path), readers, Origin.undeclared(name, readers[0].embed_dim))


def test_the_encoder_that_made_them_is_recognised_and_opens_the_memory(
    tmp_path: Path, open_cached: OpenCached, encoder: Encoder
) -> None:
    readers = open_cached()
    origin = Origin.opened(encoder, readers)
    assert (origin.known_by, origin.captions) == ("checked", 20)  # two images share each caption
    assert origin.median_cosine > 0.999
    build_from_embeddings(config(tmp_path), readers, origin)
    with Memory.open(tmp_path / "memory", encoder=encoder.fingerprint.record()) as opened:
        assert opened.manifest.encoder == encoder.fingerprint.record()
        assert opened.describe()["encoded_with"]["embeddings"] == "checked"
        query = encoder.encode_image(encoder.preprocess(draw(11))[None])
        assert opened.search(query, 1, modality="image").ids[0, 0] == 11


def test_another_encoder_is_refused(open_cached: OpenCached, other_encoder: Encoder) -> None:
    message = r"20 captions encoded again, the median cosine.*0\.99 expected.*means over many prompts.*--trust-model"
    with pytest.raises(OriginError, match=message) as caught:
        Origin.opened(other_encoder, open_cached())
    assert caught.value.code == "encoder_disagrees"


def test_captions_out_of_step_with_their_texts_are_refused(
    open_cached: OpenCached, encoder: Encoder, cached: dict[str, Any]
) -> None:
    with pytest.raises(OriginError):
        Origin.opened(encoder, open_cached(text=np.roll(cached["text"], 2, axis=0)))


def test_a_few_odd_texts_do_not_hide_the_right_encoder(
    open_cached: OpenCached, encoder: Encoder, cached: dict[str, Any]
) -> None:
    text = cached["text"].copy()
    text[4:8], text[10:12] = 1, 0
    captions = [*cached["caption"][:-2], "", "a <end_of_text> b"]
    assert Origin.opened(encoder, open_cached(text=text, caption=captions)).known_by == "checked"


def test_trust_and_absent_captions_are_told_apart(
    open_cached: OpenCached, encoder: Encoder, other_encoder: Encoder
) -> None:
    assert Origin.opened(other_encoder, open_cached(), trust=True).known_by == "trusted"
    unchecked = Origin.opened(encoder, open_cached(caption=None))
    assert (unchecked.known_by, unchecked.captions) == ("unchecked", 0)


def test_another_dimension_is_refused_even_when_trusted(open_cached: OpenCached, encoder: Encoder) -> None:
    narrow = open_cached(image=np.ones((ROWS, 8), np.float16), text=np.ones((ROWS, 8), np.float16))
    with pytest.raises(CorpusError, match=r"of D = 128 and cache of D = 8"):
        Origin.opened(encoder, narrow, trust=True)


@pytest.mark.parametrize("name", ["", "two words", "../up", "-x", "a" * 101, "naïve"])
def test_a_name_is_one_word(name: str) -> None:
    with pytest.raises(ConfigError, match="one word"):
        Origin.undeclared(name, 8)


def test_memories_of_one_name_are_compatible_and_grow(tmp_path: Path, open_cached: OpenCached) -> None:
    build_declared(tmp_path, open_cached())
    more = open_cached(key=[f"more {row}" for row in range(ROWS)])
    assert build_declared(tmp_path, more).num_items == 2 * ROWS
    with pytest.raises(EncoderMismatch, match=r"name some-clip \(D = 128\) only, and here by other-clip.*same name"):
        build_declared(tmp_path, more, "other-clip")


def test_a_service_with_a_real_encoder_refuses_it_and_says_what_to_do(
    tmp_path: Path, open_cached: OpenCached, encoder: Encoder
) -> None:
    build_declared(tmp_path, open_cached())
    with pytest.raises(EncoderMismatch, match=r"declared by the name some-clip.*reco build --embeddings.*--model"):
        Memory.open(tmp_path / "memory", encoder=encoder.fingerprint.record())


def test_a_memory_of_a_real_encoder_does_not_grow_by_a_name(
    tmp_path: Path, open_cached: OpenCached, encoder: Encoder
) -> None:
    readers = open_cached()
    build_from_embeddings(config(tmp_path), readers, Origin.opened(encoder, readers))
    with pytest.raises(EncoderMismatch, match="--model instead of --encoder-name"):
        build_declared(tmp_path, readers)


def test_a_fusion_belongs_to_the_name(tmp_path: Path, encoder: Encoder) -> None:
    ours, same = (Origin.undeclared("some-clip", 128).encoder for _ in range(2))
    save_fusion(tmp_path, Fusion(FusionConfig("gate", 128)), ours)
    load_fusion(tmp_path, same)
    other = Origin.undeclared("other-clip", 128).encoder
    assert ours["weights_sha256"] != other["weights_sha256"]
    with pytest.raises(CheckpointError, match=r"another encoder \(some-clip\) than the one in use \(other-clip\)"):
        load_fusion(tmp_path, other)
    with pytest.raises(CheckpointError, match=r"declared by the name some-clip only.*reco build --embeddings.*--model"):
        load_fusion(tmp_path, encoder.fingerprint.record())


# The command


@pytest.fixture
def reco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run `reco build --embeddings cache.npz -o memory` with more arguments: exit code, and output on one line."""
    monkeypatch.delenv("RECO_MODEL", raising=False)
    monkeypatch.delenv("RECO_PRETRAINED", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str]:
        source = ("--embeddings", str(tmp_path / "cache.npz"))
        done = CliRunner().invoke(app, ["build", *source, "-o", str(tmp_path / "memory"), *arguments])
        return done.exit_code, " ".join(done.output.split())

    return run


Reco = Callable[..., tuple[int, str]]


def test_the_command_checks_the_encoder_and_says_so(
    open_cached: OpenCached, reco: Reco, encoder_dir: Path, other_encoder_dir: Path
) -> None:
    open_cached()
    code, told = reco("--model", str(other_encoder_dir), "--device", "cpu")
    assert (code, "encoder_disagrees" in told, "--trust-model" in told) == (2, True, True)
    code, told = reco("--model", str(encoder_dir), "--device", "cpu")
    assert code == 0, told
    assert "20 captions encoded again: median cosine to the stored 1.0000" in told
    assert "40 added, 0 there already, 0 rejected" in told


def test_the_command_says_what_was_not_checked(open_cached: OpenCached, reco: Reco, encoder_dir: Path) -> None:
    open_cached(caption=None)
    assert "could not be checked" in reco("--model", str(encoder_dir), "--device", "cpu")[1]
    assert "on trust" in reco("--model", str(encoder_dir), "--device", "cpu", "--trust-model")[1]


def test_the_command_with_a_name_only(open_cached: OpenCached, reco: Reco, tmp_path: Path) -> None:
    open_cached()
    code, told = reco("--encoder-name", "some-clip")
    assert code == 0, told
    assert "undeclared encoder some-clip, D = 128" in told
    assert json.loads((tmp_path / "memory/HEAD").read_bytes())["version"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which encoder made these embeddings? Name it with --model"),
        (("--encoder-name", "two words"), "not one word"),
        (("--encoder-name", "x", "--model", "ViT-B-32"), "--encoder-name is for an encoder that is not opened"),
        (("--encoder-name", "x", "--trust-model"), "--trust-model says nothing without --model"),
        (("photos", "--encoder-name", "x"), "one of the two"),
    ],
)
def test_a_command_that_contradicts_itself_is_told_so(
    open_cached: OpenCached, reco: Reco, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    open_cached()
    code, told = reco(*arguments)
    assert (code, message in told) == (2, True), told
    assert not (tmp_path / "memory").exists()


def test_wrong_embeddings_end_with_code_2_and_one_sentence(open_cached: OpenCached, reco: Reco) -> None:
    with pytest.raises(CorpusError) as caught:
        open_cached(text=None)
    code, told = reco("--encoder-name", "some-clip")
    assert (code, told) == (2, f"reco: {caught.value}")


@pytest.mark.parametrize("arguments", [[], ["photos", "--trust-model"], ["photos", "--encoder-name", "x"]])
def test_options_of_embeddings_need_embeddings(arguments: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["build", "-o", str(tmp_path / "memory"), *arguments])
    assert done.exit_code == 2
    assert "--embeddings" in done.output
