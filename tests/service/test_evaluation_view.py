"""What the page shows of `reco eval -o`: the figures of the checkpoint in use, or one sentence why there are none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.report import Evaluated, write_report
from evaluation.run import EvalConfig, evaluate
from evaluation.tasks import EvalTask
from evaluation.zero_shot import ZeroShotTask
from memory import Memory
from models.checkpoint import load_fusion
from models.checkpoint_files import checkpoint_id


@pytest.fixture(scope="module")
def evaluated(memory_dir: Path, fusion_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the fusion with its evaluation in it, as `reco eval … -o FUSION/evaluation` leaves it."""
    checkpoint = tmp_path_factory.mktemp("evaluated") / "fusion"
    shutil.copytree(fusion_dir, checkpoint)
    with Memory.open(memory_dir) as memory:
        texts = memory.rows("text")[:6].astype(np.float32)
        images = memory.rows("image")[:6].astype(np.float32)
        task = EvalTask(
            "six birds", ZeroShotTask(images, np.arange(6), texts), [f"bird {n}" for n in range(6)], list("abcdef")
        )
        fusion, config = load_fusion(checkpoint), EvalConfig(curves=True)
        shown = Evaluated(memory, {checkpoint_id(checkpoint): fusion}, [{}], config, "both")
        write_report(checkpoint / "evaluation", shown, [evaluate(task, memory, [fusion], config)])
    return checkpoint


def test_the_figures_of_the_checkpoint_in_use(serve: Any, evaluated: Path) -> None:
    written = json.loads((evaluated / "evaluation" / "results.json").read_text())
    with serve(engine=None, fusion=str(evaluated)) as service:
        told = service.client.get("/evaluation").json()
        gallery = service.client.get("/evaluation/gallery")
    assert told["found"] and told["same_fusion"] and told["same_memory"] and told["gallery"]
    [task], [wanted] = told["tasks"], written["tasks"]
    assert (
        task["measures"]["zero_shot"]["top-1"]["both"]["mean"]
        == wanted["measures"]["zero_shot"]["top-1"]["both"]["mean"]
    )
    assert task["memory_size"] == wanted["memory_size"]
    assert {one["class"] for one in task["per_class"]} == {f"bird {n}" for n in range(6)}
    assert gallery.status_code == 200
    assert "sandbox" in gallery.headers["content-security-policy"]
    assert "script-src" not in gallery.headers["content-security-policy"]


def test_figures_of_another_checkpoint_say_so(serve: Any, evaluated: Path, tmp_path: Path) -> None:
    told = json.loads((evaluated / "evaluation" / "results.json").read_text())
    told["fusion"]["checkpoints"][0]["id"] = "0" * 16
    told["memory"]["digest"] = "0" * 64
    (tmp_path / "results.json").write_text(json.dumps(told))
    with serve(evaluation=str(tmp_path)) as service:
        shown = service.client.get("/evaluation").json()
    assert (shown["found"], shown["same_fusion"], shown["same_memory"], shown["gallery"]) == (True, False, False, False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "was not evaluated yet"),
        ("{", "damaged"),
        ('{"format": 1, "tasks": [{"name": 3}]}', "damaged"),
        ('{"format": 9, "memory": {"digest": "", "version": 1, "items": 1}, "tasks": [], '
         '"fusion": {"design": "x", "k": 1, "checkpoints": []}}', "another version"),
    ],
)  # fmt: skip
def test_no_evaluation_is_one_sentence(serve: Any, tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with serve(evaluation=str(tmp_path)) as service:
        told = service.client.get("/evaluation").json()
        assert service.client.get("/evaluation/gallery").json()["code"] == "not_found"
    assert told["found"] is False
    assert reason in told["reason"]
    assert str(tmp_path) not in told["reason"]


def test_without_a_fusion_there_is_nothing_to_evaluate(serve: Any, make_settings: Callable[..., Any]) -> None:
    with serve(engine=None, fusion=None) as service:
        assert "No fusion" in service.client.get("/evaluation").json()["reason"]
