"""`reco build`: its JSON, which is one object alone on standard output, and what is refused before any work."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from memory import Memory, read_manifest
from memory_builder import CorpusError
from reco.cli import app


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """300 pairs with keys, of which one repeats."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    sides = {side: rng.standard_normal((300, 16)).astype(np.float32) for side in ("image", "text")}
    keys = [f"k{number}" for number in range(299)] + ["k0"]
    np.savez(tmp_path / "set.npz", **sides, key=np.array(keys))
    return tmp_path / "set.npz"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four pictures with captions."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"red number {number}")
    return folder


def told(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["build", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_a_plan_a_build_and_the_same_build_again(arrays: Path) -> None:
    memory = arrays.parent / "memory"
    build = ("--embeddings", arrays, "--encoder-name", "some-clip", "-o", memory)
    plan = told(*build, "--plan")
    assert (plan["rows"], plan["rows_done"], plan["index"]) == (300, 0, "exact")
    assert plan["sources"][0]["rows"] == 300
    assert not memory.exists()
    first = told(*build)
    assert (first["version"], first["created"], first["num_items"], first["added"]) == (1, True, 299, 299)
    assert first["rejected"] == {"duplicate_key": 1}
    again = told(*build)
    assert (again["version"], again["created"], again["added"], again["present"]) == (1, False, 0, 299)
    assert (again["rejected"], again["rejected_earlier"]) == ({"duplicate_key": 1}, 1)
    seen = " ".join(CliRunner().invoke(app, ["build", *map(str, build)]).stderr.split())
    assert "0 added, 299 there already, 1 rejected earlier" in seen
    assert "rejected.jsonl; --retry-failed tries them again" in seen
    assert again["digest"] == first["digest"]


def test_a_plan_of_rows_that_cannot_be_stored_is_refused(encoder_dir: Path, tmp_path: Path) -> None:
    table = tmp_path / "table/pairs.csv"
    table.parent.mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "outside.png")
    table.write_text("image,caption\n" + "".join(f"{tmp_path}/outside.png,a bird {n}\n" for n in range(70)))
    call = ["build", str(table), "-o", str(tmp_path / "memory"), "--model", str(encoder_dir), "--plan"]
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 1, refused.output
    warning = "None of the first 64 rows can be stored: 64 path_outside."
    assert warning in " ".join(refused.stderr.split())
    assert "no row of the sample can be stored (path_outside)" in refused.stderr
    assert refused.stderr.count("relative to its own folder") == 2
    built = CliRunner().invoke(app, call[:-1])
    assert "relative to its own folder" in str(built.exception)


def test_what_comes_next_is_a_fusion_first_and_a_running_service_then(arrays: Path) -> None:
    build = ["build", "--encoder-name", "some-clip", "-o", str(arrays.parent / "memory"), "--embeddings"]
    first = CliRunner().invoke(app, [*build, str(arrays)]).stderr
    assert "reco train" in first
    assert "operator reload" not in first
    again = CliRunner().invoke(app, [*build, str(arrays)]).stderr
    assert "reco train" in again, "nothing was new, and there may be no fusion yet"
    rng = np.random.default_rng(1)
    more = {side: rng.standard_normal((5, 16)).astype(np.float32) for side in ("image", "text")}
    np.savez(arrays.parent / "more.npz", **more)
    grown = CliRunner().invoke(app, [*build, str(arrays.parent / "more.npz")]).stderr
    assert "reco operator reload" in grown
    assert "a fusion made before serves on; if there is none, `reco train" in grown


def test_a_fusion_of_a_memory_that_no_service_opens_is_not_sent_to_one(arrays: Path) -> None:
    memory = str(arrays.parent / "memory")
    told("--embeddings", arrays, "--encoder-name", "some-clip", "-o", memory)
    train = [
        "train",
        memory,
        "-o",
        str(arrays.parent / "fusion"),
        "--design",
        "gate",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(app, train)
    assert done.exit_code == 0, done.output
    assert "next: reco eval" in done.stderr
    assert "reco serve" not in done.stderr and "--model" not in done.stderr


def test_a_build_without_a_model_is_told_every_way_to_name_one(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECO_MODEL", raising=False)
    refused = CliRunner().invoke(app, ["build", str(photos), "-o", str(photos.parent / "memory")])
    assert refused.exit_code == 2
    for way in ("--model", "RECO_MODEL", "--pretrained", "RECO_PRETRAINED", "a directory with open_clip_config.json"):
        assert way in refused.stderr


def test_a_new_index(arrays: Path) -> None:
    memory = arrays.parent / "memory"
    told("--embeddings", arrays, "--encoder-name", "some-clip", "-o", memory)
    done = told("--reindex", "-o", memory, "--index-factory", "IVF4,SQ8")
    assert (done["version"], done["created"]) == (2, True)
    assert {index["modality"] for index in done["indices"]} == {"image", "text"}
    assert all(index["recall"]["recall"] > 0 for index in done["indices"])


def test_a_share_of_a_corpus_and_what_finishes_it(encoder_dir: Path, photos: Path, tmp_path: Path) -> None:
    build = (photos, "-o", tmp_path / "memory", "--model", encoder_dir, "--device", "cpu", "--unit-rows", 2)
    share = told(*build, "--worker", "0/2")
    assert (share["units"], share["units_of_all"], share["units_resumed"]) == (1, 2, 0)
    built = told(*build)
    assert (built["num_items"], built["units_resumed"], built["units_encoded"]) == (4, 1, 1)
    assert told(*build, "--plan")["rows_done"] == 4


def test_what_was_kept_there_already_and_rejected_is_told_apart(
    encoder_dir: Path, photos: Path, tmp_path: Path
) -> None:
    build = ["build", str(photos), "-o", str(tmp_path / "memory"), "--model", str(encoder_dir), "--device", "cpu"]
    build += ["--unit-rows", "2", "--max-error-rate", "1"]
    plan = CliRunner().invoke(app, [*build, "--plan", "--json"])
    assert json.loads(plan.stdout)["encoder_start_s"] > 0
    assert "to open the encoder" in plan.stderr
    assert CliRunner().invoke(app, [*build, "--worker", "0/2"]).exit_code == 0
    resumed = CliRunner().invoke(app, build)
    assert "kept of an earlier run: 2 rows in 1 unit" in resumed.output
    assert "ignored" not in resumed.output
    (photos / "notes.md").write_text("no row")
    (photos / "0.png").write_bytes(b"no picture")  # its unit is a new one, and row 1 in it is there already
    again = CliRunner().invoke(app, build)
    assert "there already, 1 rejected" in " ".join(again.output.split())
    assert "1 rejected, encoder" in again.output or "encoding, 1 rejected" in again.output
    assert "not stored" not in again.output
    said = " ".join(again.output.split())
    assert f"each with its file and reason: {tmp_path}/memory/work/rejected.jsonl" in said, said
    assert "1 file ignored" in said


def test_one_image_like_an_earlier_one_is_told_in_the_singular(encoder_dir: Path, photos: Path, tmp_path: Path) -> None:
    build = ["build", str(photos), "-o", str(tmp_path / "memory"), "--model", str(encoder_dir), "--device", "cpu"]
    build += ["--near-duplicates", "0.999999"]
    Image.effect_noise((32, 32), 90).convert("RGB").save(photos / "4.png")
    (photos / "4.txt").write_text("noise")
    (photos / "5.png").write_bytes((photos / "4.png").read_bytes())
    (photos / "5.txt").write_text("noise again")
    said = " ".join(CliRunner().invoke(app, build).output.split())
    assert "1 added image looks like an earlier item (1 byte for byte):" in said


def test_what_was_removed_is_not_told_as_there(encoder_dir: Path, photos: Path, tmp_path: Path) -> None:
    memory = str(tmp_path / "memory")
    build = ["build", str(photos), "-o", memory, "--model", str(encoder_dir), "--device", "cpu"]
    assert CliRunner().invoke(app, build).exit_code == 0
    assert "4 there already, 0 rejected" in " ".join(CliRunner().invoke(app, build).output.split())
    assert CliRunner().invoke(app, ["memory", "remove", memory, "--keys", "photos/2"]).exit_code == 0
    assert "3 items; 0 added, 4 there already, or removed since" in " ".join(
        CliRunner().invoke(app, build).output.split()
    )


def test_what_was_removed_is_told_with_the_option_that_brings_it_back(
    encoder_dir: Path, photos: Path, tmp_path: Path
) -> None:
    memory = str(tmp_path / "memory")
    build = ["build", str(photos), "-o", memory, "--model", str(encoder_dir), "--device", "cpu"]
    assert CliRunner().invoke(app, build).exit_code == 0
    assert CliRunner().invoke(app, ["memory", "remove", memory, "--keys", "photos/2"]).exit_code == 0
    Image.new("RGB", (8, 8), "red").save(photos / "2.png")  # so its unit is looked at again
    told = " ".join(CliRunner().invoke(app, [*build, "--upsert"]).stderr.split())
    assert "1 removed_earlier" in told
    assert "What was removed from the memory stays out; --restore-removed adds it again." in told


def test_captions_that_changed_are_told_with_the_option_that_replaces_them(
    encoder_dir: Path, photos: Path, tmp_path: Path
) -> None:
    build = ["build", str(photos), "-o", str(tmp_path / "memory"), "--model", str(encoder_dir), "--device", "cpu"]
    assert CliRunner().invoke(app, build).exit_code == 0
    (photos / "1.txt").write_text("another caption")
    told = " ".join(CliRunner().invoke(app, [*build, "--max-error-rate", "1"]).stderr.split())
    assert "1 rejected" in told
    assert "Of 1 row the memory holds another image or caption under the same key: --upsert replaces it." in told
    assert "key column" not in told


def test_a_folder_built_with_two_templates_has_both_wordings(encoder_dir: Path, tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / f"shop/{'mug' if number % 2 else 'cup'}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (20 * number, 9, 9)).save(path)
    memory = tmp_path / "two"
    build = ["build", str(tmp_path / "shop"), "-o", str(memory), "--model", str(encoder_dir), "--device", "cpu"]
    result = CliRunner().invoke(app, [*build, "--caption-from-folder", "a {}", "--caption-from-folder", "the {}"])
    assert result.exit_code == 0, result.output
    with Memory.open(memory, encoder=read_manifest(memory).encoder) as opened:
        assert set(opened.captions()) == {"a mug", "the mug", "a cup", "the cup"}


def test_printed_commands_are_quoted_for_a_shell(arrays: Path) -> None:
    memory = arrays.parent / "Läden & Äpfel" / "[bold]"
    quoted = shlex.quote(str(memory))
    build = ["build", "--encoder-name", "some-clip", "-o", str(memory), "--embeddings", str(arrays)]
    for arguments, command in (
        (build, f"reco train {quoted} -o my-fusion"),
        (["memory", "verify", str(memory)], f"reco memory verify {quoted} --full"),
        (["memory", "remove", str(memory), "--keys", "set/k0"], f"reco memory compact {quoted}"),
        (["memory", "compact", str(memory)], f"reco memory gc {quoted} --keep 1"),
        (["memory", "info", str(memory)], f"reco memory gc {quoted} --keep 1"),
    ):
        told = CliRunner().invoke(app, arguments)
        assert command in told.output, (arguments, told.output, told.exception)


@pytest.mark.parametrize("further", [(), ("--plan",), ("--worker", "0/2")])
def test_a_corpus_that_is_not_there_is_refused_before_the_encoder_is_opened(further: tuple[str, ...]) -> None:
    build = ["build", "nowhere/", "-o", "memory", "--model", "no-such-model", *further]
    result = CliRunner().invoke(app, build)
    assert isinstance(result.exception, CorpusError)  # the command line makes a sentence of it
    assert result.exception.code == "corpus_not_found"
    assert "opening the encoder" not in result.output
