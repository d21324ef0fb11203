"""`reco train` by gradient: its checkpoint and its work folder, several processes, and what it refuses with code 2."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from memory import Memory
from models.checkpoint import load_fusion
from models.checkpoint_files import checkpoint_id, read_config
from models.training.dataset.embedding_rows import MappedRows
from models.training.recipes import paper_recipe, recipe
from reco.cli import app

QUICK = ["--design", "gate", "--k", "5", "--epochs", "2", "--batch-size", "60", "--device", "cpu"]


def train(memory: Memory, output: Path, *options: str) -> tuple[int, str]:
    """Exit code, and what was said as one line."""
    result = CliRunner().invoke(app, ["train", str(memory.path), "-o", str(output), *options])
    return result.exit_code, " ".join(result.output.split())


def test_training_leaves_a_checkpoint_and_the_candidates_for_the_next_run(
    named_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told = train(named_memory, tmp_path, *QUICK, "--set", "miss=0.2", "--set", "num_candidates=20", "--amp")
    assert code == 0, told
    assert "validation loss" in told
    assert "recipe gate: Learns a few hundred numbers" in told  # and what it costs
    assert load_fusion(tmp_path).config.design == "gate"
    assert read_config(tmp_path)["trained"]["epochs"] == 2
    work = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert len(work) == 2  # of the pairs to train on and to validate; the state of the finished run is gone
    assert all(name.startswith("candidates-") for name in work)

    searched: list[int] = []
    take = MappedRows.take
    monkeypatch.setattr(MappedRows, "take", lambda rows, ids: searched.append(len(ids)) or take(rows, ids))
    assert train(named_memory, tmp_path, *QUICK, "--set", "num_candidates=20")[0] == 0
    assert sum(searched) == 4 * 240  # read to RAM for both parts, but not searched


def test_quiet_training_says_nothing(named_memory: Memory, tmp_path: Path) -> None:
    command = ["-q", "train", str(named_memory.path), "-o", str(tmp_path), *QUICK]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, done.output) == (0, "")


def test_json_is_alone_on_standard_output(named_memory: Memory, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", str(named_memory.path), "-o", str(tmp_path), *QUICK, "--json"])
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert (made["design"], made["k"], made["fusion"]) == ("gate", 5, str(tmp_path))
    assert made["checkpoint"] == checkpoint_id(tmp_path)
    assert made["memory_digest"] == read_config(tmp_path)["trained"]["memory_digest"]


def break_off(memory: Memory, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick run that is over but for its checkpoint."""

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("models.checkpoint.save_fusion", broken)
        assert train(memory, output, *QUICK)[0] != 0


def test_a_run_that_was_broken_off_goes_on_unless_told_otherwise(
    named_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(named_memory, tmp_path, monkeypatch)
    state = next((tmp_path / "work").glob("training-*.safetensors"))
    assert "taking up the run" not in train(named_memory, tmp_path, *QUICK, "--epochs", "3")[1]  # another run
    assert state.exists()
    assert "taking up the run" in train(named_memory, tmp_path, *QUICK)[1]
    assert not state.exists()
    state.write_bytes(b"damaged")
    code, told = train(named_memory, tmp_path, *QUICK)
    assert code == 2
    assert "--restart" in told
    assert train(named_memory, tmp_path, *QUICK, "--restart")[0] == 0


def test_the_learning_rate_can_be_chosen_on_validation(named_memory: Memory, tmp_path: Path) -> None:
    code, told = train(named_memory, tmp_path, *QUICK, "--learning-rate", "auto")
    assert code == 0, told
    for rate in ("0.0003", "0.001", "0.003", "0.01", "0.03"):
        assert f" {rate}: validation loss" in told
    chosen = read_config(tmp_path)["trained"]["learning_rate"]
    assert f"learning rate {chosen:g}" in told
    assert chosen in [0.01 * factor for factor in (0.03, 0.1, 0.3, 1.0, 3.0)]
    assert not list((tmp_path / "work").glob("training-*")), "nothing outlives its run"
    again = train(named_memory, tmp_path, *QUICK, "--learning-rate", "auto", "--restart")
    assert f"learning rate {chosen:g}" in again[1]


def test_a_rate_that_a_broken_off_run_chose_is_told_to_be_that(
    named_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    auto = [*QUICK, "--epochs", "1", "--learning-rate", "auto"]
    with monkeypatch.context() as patch:
        patch.setattr("models.checkpoint.save_fusion", broken)
        assert train(named_memory, tmp_path, *auto)[0] != 0
    assert list((tmp_path / "work").glob("training-*.rate.json"))
    code, told = train(named_memory, tmp_path, *auto)
    assert (code, "as chosen by the run that was broken off (--restart" in told) == (0, True), told
    assert not list((tmp_path / "work").glob("training-*"))
    assert "broken off" not in train(named_memory, tmp_path, *auto)[1]


def test_choosing_a_rate_leaves_a_broken_off_run_at_the_recipes_own_alone(
    named_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(named_memory, tmp_path, monkeypatch)
    monkeypatch.setattr("models.training.gradients.rates.choose_learning_rate", lambda *_: 3e-3)
    for restart in ([], ["--restart"]):
        assert train(named_memory, tmp_path, *QUICK, "--learning-rate", "auto", *restart)[0] == 0
        assert read_config(tmp_path)["trained"]["learning_rate"] == 3e-3
    assert "taking up the run" in train(named_memory, tmp_path, *QUICK)[1]


def test_the_papers_recipe_is_the_papers() -> None:
    config = recipe("faithful", 512, name="paper")
    assert config == paper_recipe(config.fusion)
    told = (config.batch_size, config.epochs, config.learning_rate, config.weight_decay, config.fusion.k)
    assert told == (4096, 10, 1e-3, 1e-5, 10)


def test_the_papers_recipe_trains_the_papers_layer(named_memory: Memory, tmp_path: Path) -> None:
    code, told = train(named_memory, tmp_path, "--recipe", "paper", "--k", "5", "--epochs", "1", "--device", "cpu")
    assert code == 0, told
    assert load_fusion(tmp_path).config.design == "faithful"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "mis=0.3"], "there is no setting 'mis'"),
        (["--set", "miss=3"], "miss is a share from 0 to 1"),
        (["--set", "near_duplicate=0"], "near_duplicate is a cosine above 0"),
        (["--set", "epochs=3"], "epochs is given twice"),
        (["--recipe", "mine"], "unknown recipe 'mine': choose one of paper"),
        (["--learning-rate", "fast"], "--learning-rate is a number or auto"),
        (["--learning-rate", "1e40"], "take a lower learning rate"),
        (["--exclude-same-source", "planet"], "choose one of nothing, source, folder"),
        (["--k", "100", "--pairs", "00/0"], "1 of 240 items match 00/0: at least two are needed"),
        (["--pairs", "00/*", "--validate", "nothing/*"], "0 of 240 items match nothing/*"),
        (["--folders"], "--design gate learns from single pairs"),
        (["--design", "evidence"], "--epochs is for designs trained by gradient"),
        (["--design", "evidence", "--recipe", "paper"], "--recipe is for designs"),
        (["--recipe", "paper"], "--recipe paper is of the design faithful, not of --design gate"),
        (["--design", "auto", "--recipe", "paper", "--folders"], "--recipe paper learns from single pairs"),
        (["--seed", "0", "--set", "seed=4"], "seed is given twice"),
        (["--set", "seed=-1"], "seed is a whole number from 0 to"),
        (["--k", "21", "--set", "num_candidates=20"], "num_candidates is 20, but --k 21"),
        (["--design", "other"], "unknown design 'other'"),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_code_2(
    named_memory: Memory, tmp_path: Path, options: list[str], told: str
) -> None:
    code, said = train(named_memory, tmp_path, *QUICK, *options)
    assert (code, told in said) == (2, True), said
    assert not (tmp_path / "config.json").exists()


def test_as_many_candidates_are_kept_as_neighbours_are_asked_for(named_memory: Memory, tmp_path: Path) -> None:
    code, told = train(named_memory, tmp_path, *QUICK, "--k", "90")
    assert code == 0, told
    searched = json.loads(next((tmp_path / "work").glob("candidates-*/search.json")).read_text())
    assert searched["num_candidates"] == 90


def test_a_seed_among_the_settings_is_the_seed_of_all_that_is_drawn(named_memory: Memory, tmp_path: Path) -> None:
    for name, seed in (("option", ["--seed", "4"]), ("setting", ["--set", "seed=4"])):
        assert train(named_memory, tmp_path / name, *QUICK, *seed)[0] == 0
    assert checkpoint_id(tmp_path / "option") == checkpoint_id(tmp_path / "setting")


def test_a_seed_beyond_what_torch_takes_is_refused_at_once(tmp_path: Path) -> None:
    for flag in ([], ["--train-encoder"]):
        command = ["train", *flag, str(tmp_path / "none"), "-o", str(tmp_path / "out"), "--seed", str(2**63)]
        done = CliRunner().invoke(app, command)
        assert (done.exit_code, "--seed" in done.output) == (2, True), done.output


def test_more_neighbours_than_the_memory_holds_are_refused(make_memory: Callable[..., Memory], tmp_path: Path) -> None:
    rows = np.eye(16)[:8]
    keys = [f"a/{number}" for number in range(8)]
    small = make_memory(tmp_path / "memory", rows, rows, keys=keys, captions=keys)
    code, told = train(small, tmp_path / "fusion", *QUICK, "--k", "10")
    assert (code, "--k 10, but the memory holds 8 items" in told) == (2, True), told
    assert train(small, tmp_path / "fusion", *QUICK, "--k", "7", "--validate", "a/[67]")[0] == 0


def test_what_names_no_memory_or_no_place_is_refused_before_anything_is_trained(
    named_memory: Memory, make_memory: Callable[..., Memory], tmp_path: Path
) -> None:
    pair = make_memory(tmp_path / "pair", np.eye(16)[:1], np.eye(16)[:1], keys=["a/0"], captions=["a"])
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)))
    missing = CliRunner().invoke(app, ["train", str(tmp_path / "none"), "-o", str(tmp_path / "fusion")])
    assert (missing.exit_code, "memory_not_found" in missing.output) == (2, True), missing.output
    for memory, output, options, told in (
        (pair, tmp_path / "fusion", ["--k", "1"], "the memory holds 1 item, too few"),
        (named_memory, file, [], "output_refused"),
        (named_memory, file / "fusion", [], "output_refused"),
        (named_memory, Path("/proc/fusion"), [], "output_refused"),
        (named_memory, named_memory.path, [], "holds a memory"),
        (named_memory, tmp_path / "fusion", ["--design", "gate", "--learning-rate", "0"], "a number above 0, not 0.0"),
        (named_memory, tmp_path / "fusion", ["--design", "gate", "--learning-rate", "-1"], "a number above 0"),
        (named_memory, tmp_path / "fusion", ["--design", "gate", "--learning-rate", "nan"], "a number above 0"),
        (named_memory, tmp_path / "fusion", ["--design", "gate", "--learning-rate", "inf"], "a number above 0"),
        (named_memory, tmp_path / "fusion", ["--seed", "-1"], "--seed"),
        (named_memory, tmp_path / "fusion", ["--device", "gpu"], "device_unavailable"),
        (named_memory, tmp_path / "fusion", ["--design", "auto", "--names", str(file)], "no text in UTF-8"),
        (named_memory, tmp_path / "fusion", ["--design", "auto", "--names", str(tmp_path / "no")], "No such file"),
    ):
        code, said = train(memory, output, *QUICK, *options)
        assert (code, told in said) == (2, True), said
    assert not (tmp_path / "fusion" / "config.json").exists()


def test_names_that_no_caption_has_are_told_before_anything_is_trained(
    named_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = sorted(set(named_memory.captions()))
    file = tmp_path / "names.txt"
    evidence = ["--design", "evidence", "--k", "5", "--names", str(file)]
    file.write_text("\n".join(["no such thing", *listed, "another thing"]))
    code, said = train(named_memory, tmp_path / "fusion", *evidence)
    assert code == 0, said
    assert f"names: {len(listed)} of {len(listed) + 2} in " in said
    assert "in no caption: no such thing, another thing" in said
    assert "one name" not in said
    file.write_text("\n".join([*listed, f"{listed[0]}!", listed[1].upper()]))
    code, said = train(named_memory, tmp_path / "again", *evidence)
    assert (code, f"the same words, so one name: {listed[0]} = {listed[0]}! " in said) == (0, True), said
    file.write_text("no such thing\nanother thing\n")
    monkeypatch.setattr("reco.train_loop.Loop.choose", lambda loop: pytest.fail("nothing is to be trained"))
    for design in ("auto", "evidence"):
        code, said = train(named_memory, tmp_path / "other", *evidence, "--design", design)
        assert (code, "no caption mentions no such thing, another thing: write names" in said) == (2, True), said
    file.write_text("\n".join(listed[:2]))
    code, said = train(named_memory, tmp_path / "other", *evidence)
    assert (code, "2 entities with at least two pairs, and the evidence design needs 8" in said) == (2, True), said


def test_rows_that_are_not_finite_are_refused(
    named_memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Memory.rows

    def broken(self: Memory, *which: object) -> np.ndarray:
        found = rows(self, *which)  # type: ignore[arg-type]
        found[-1] = np.nan
        return found

    monkeypatch.setattr(Memory, "rows", broken)
    code, told = train(named_memory, tmp_path, *QUICK)
    assert (code, "row 239 of the memory: its image embedding is not finite" in told) == (2, True), told
