"""Classification: hand-checkable scores, and the four modes against a slow twin."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.classes.class_cache import class_key
from service.classes.class_embeddings import check_labels, check_templates, score
from service.pipeline.engine import Engine
from service.problems import Problem
from service.routes import classify as routes
from service.settings import Settings

LABELS = ["songbird", "duck", "red umbrella"]
TEMPLATES = ["a photo of a {}.", "a {} in the snow"]
SETTINGS = Settings(model="m", memory="m", stamps="s", max_labels=5, max_templates=3, max_class_texts=12)


def test_scores_by_hand() -> None:
    classes = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    probabilities, similarities = score(np.array([1, 0], dtype=np.float32), classes, logit_scale=np.log(2) / 0.4)
    np.testing.assert_allclose(similarities, [1, 0.6, 0], atol=1e-7)
    np.testing.assert_allclose(probabilities, np.array([2, 1, 2**-1.5]) / (3 + 2**-1.5), rtol=1e-6)


def test_a_huge_logit_scale_does_not_overflow() -> None:
    classes = np.eye(3, dtype=np.float32)
    probabilities, _ = score(classes[1], classes, logit_scale=1e308)
    np.testing.assert_array_equal(probabilities, [0, 1, 0])


@pytest.mark.parametrize(
    ("labels", "code", "pointers"),
    [
        ([], "labels_empty", []),
        (["a"] * 6, "labels_too_many", []),
        (["a", " "], "text_empty", ["/labels/1"]),
        (["a", "x" * 201, "\x07"], "text_too_long", ["/labels/1", "/labels/2"]),
        (["a", "b", "a"], "labels_duplicate", ["/labels/2"]),
        (["Straße", "STRASSE "], "labels_duplicate", ["/labels/1"]),
        (["caf\u00e9", "cafe\u0301"], "labels_duplicate", ["/labels/1"]),
        (["red  duck", " red duck"], "labels_duplicate", ["/labels/1"]),
    ],
)
def test_refused_labels(labels: list[str], code: str, pointers: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        check_labels(labels, SETTINGS)
    assert refused.value.code == code
    assert [error.pointer for error in refused.value.errors] == pointers


@pytest.mark.parametrize(
    ("templates", "code"),
    [
        ([], "templates_empty"),
        (["{}"] * 4, "templates_too_many"),
        (["a"], "template_invalid"),
        (["{} {}"], "template_invalid"),
        (["{x}"], "template_invalid"),
        (["{"], "template_invalid"),
        (["%s"], "template_invalid"),
        (["{} {x}"], "template_invalid"),
        (["{} }"], "template_invalid"),
        (["{0.__class__.__mro__}"], "template_invalid"),
        (["{:2000000000}"], "template_invalid"),
        (["{}\x00"], "text_control_character"),
        (["{}" + "x" * 2000], "text_too_long"),
    ],
)
def test_refused_templates(templates: list[str], code: str) -> None:
    with pytest.raises(Problem) as refused:
        check_templates(templates, ["a"], SETTINGS)
    assert refused.value.code == code


def test_a_template_is_as_long_as_it_is_with_the_longest_label_in_it() -> None:
    longest = SETTINGS.max_text_characters
    templates = ["{}", "x" * (longest - 4) + "{}", "x" * (longest - 5) + "{}"]
    check_templates(templates, ["a", "abcd"], SETTINGS)
    with pytest.raises(Problem, match="text_too_long") as refused:
        check_templates(templates, ["a", "abcde"], SETTINGS)
    assert [error.pointer for error in refused.value.errors] == ["/templates/1"]
    assert refused.value.extensions == {"limit": longest}


def test_labels_times_templates_is_bounded() -> None:
    check_templates(["{}"] * 3, list("abcd"), SETTINGS)
    with pytest.raises(Problem, match="work_too_large"):
        check_templates(["{}"] * 3, list("abcde"), SETTINGS)


def expected_scores(engine: Engine, data: bytes, mode: str) -> Any:
    """Frozen or refined on each side, one prompt at a time."""
    encoder, composed = engine.encoder, engine.composed
    image = encoder.encode_image(encoder.preprocess(data)[None])
    classes = []
    for label in LABELS:
        prompts = [
            encoder.encode_text(encoder.tokenize([template.replace("{}", label)]).ids)[0] for template in TEMPLATES
        ]
        mean = np.mean(prompts, axis=0)
        classes.append(mean / np.linalg.norm(mean))
    texts = np.stack(classes).astype(np.float32)
    if mode in ("both", "image"):
        image = composed.refine(image, modality="image", k=4).embeddings
    if mode in ("both", "text"):
        texts = composed.refine(texts, modality="text", k=4).embeddings
    logits = encoder.logit_scale * (texts @ image[0])
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@pytest.mark.parametrize("mode", ["both", "image", "text", "none"])
def test_each_mode_against_the_slow_twin(
    client: httpx.Client, engine: Engine, photo_bytes: dict[str, bytes], mode: str
) -> None:
    body = {
        "images": [base64.b64encode(photo_bytes[name]).decode() for name in ("jpeg", "gif")],
        "labels": LABELS,
        "templates": TEMPLATES,
        "enhance": mode,
        "compare": True,
    }
    answer = client.post("/classify", json=body)
    assert answer.status_code == 200, answer.text
    for item, name in zip(answer.json()["data"], ("jpeg", "gif"), strict=True):
        probabilities = expected_scores(engine, photo_bytes[name], mode)
        np.testing.assert_allclose(item["probabilities"], probabilities, atol=1e-4)
        np.testing.assert_allclose(
            item["original"]["probabilities"], expected_scores(engine, photo_bytes[name], "none"), atol=1e-4
        )
        assert item["label"] == LABELS[item["label_index"]] == LABELS[int(np.argmax(probabilities))]
        assert sum(item["probabilities"]) == pytest.approx(1)
    assert answer.json()["enhance"] == mode
    assert answer.json()["space"] == (engine.original_space if mode == "none" else engine.space)


def test_the_top_is_the_beginning_of_the_whole(client: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    body = {"images": [base64.b64encode(photo_bytes["jpeg"]).decode()], "labels": LABELS, "compare": True}
    [whole] = client.post("/classify", json=body).json()["data"]
    for top_k in (1, 2, 3, 100):
        [item] = client.post("/classify", json={**body, "top_k": top_k}).json()["data"]
        for told, full in ((item, whole), (item["original"], whole["original"])):
            order = np.argsort(full["probabilities"])[::-1][:top_k].tolist()
            assert [one["label_index"] for one in told["top"]] == order
            assert [one["label"] for one in told["top"]] == [LABELS[place] for place in order]
            for one in told["top"]:
                assert one["probability"] == pytest.approx(full["probabilities"][one["label_index"]], abs=1e-6)
                assert one["similarity"] == pytest.approx(full["similarities"][one["label_index"]], abs=1e-6)
            assert told["label"] == told["top"][0]["label"]
            assert "probabilities" not in told


def test_the_modes_differ(engine: Engine, photo_bytes: dict[str, bytes]) -> None:
    """Else the test above could not tell them apart."""
    rows = np.stack([expected_scores(engine, photo_bytes["jpeg"], mode) for mode in ("both", "image", "text", "none")])
    distances = np.abs(rows[:, None] - rows[None]).max(axis=-1)
    assert distances[~np.eye(4, dtype=bool)].min() > 1e-3


def test_the_three_forms_agree(client: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    photo = photo_bytes["png"]
    words = {"labels": '["songbird", "duck"]', "templates": '["a {}"]'}
    by_json = client.post(
        "/classify",
        json={"images": [base64.b64encode(photo).decode()], "labels": ["songbird", "duck"], "templates": ["a {}"]},
    )
    by_form = client.post("/classify", files={"files": photo}, data=words)
    by_raw = client.post("/classify", content=photo, params=words, headers={"Content-Type": "image/png"})
    rows = [answer.json()["data"][0]["probabilities"] for answer in (by_json, by_form, by_raw)]
    np.testing.assert_allclose(rows[1:], [rows[0]] * 2, atol=1e-5)


def test_more_prompts_than_the_queue_holds_go_through_in_parts(serve: Any, photo_bytes: dict[str, bytes]) -> None:
    with serve(max_queue_items=8) as small:
        labels = [f"bird {number}" for number in range(30)]
        body = {"images": [base64.b64encode(photo_bytes["png"]).decode()], "labels": labels}
        answer = small.client.post("/classify", json=body)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"][0]["probabilities"]) == 30


def test_partial_classification(client: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    body = {
        "images": [base64.b64encode(photo_bytes["png"]).decode(), "QUJD"],
        "labels": LABELS,
        "on_error": "partial",
    }
    good, bad = client.post("/classify", json=body).json()["data"]
    assert good["label"] in LABELS
    assert (bad["error"]["pointer"], bad["error"]["code"]) == ("/images/1", "image_format_unsupported")


@pytest.mark.parametrize(
    ("changes", "on_the_loop"),
    [
        ({"labels": ["duck", "wader"]}, True),
        ({"labels": [f"Vögel {number}" for number in range(300)]}, False),
        ({"label_set": "birds"}, False),
        ({"labels": ["duck"], "templates": ["a very " + "very " * 300 + "red {}"]}, False),
    ],
    ids=["few", "many", "named", "long"],
)
def test_many_or_long_labels_are_checked_beside_the_event_loop(
    serve: Any,
    photo_bytes: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    on_the_loop: bool,
) -> None:
    (tmp_path / "birds.txt").write_text("\n".join(f"Vögel {number}" for number in range(300)))
    checked: list[bool] = []

    def check(labels: Any, settings: Any) -> None:
        checked.append(asyncio._get_running_loop() is not None)

    with serve(label_sets=str(tmp_path)) as service:
        monkeypatch.setattr(routes, "check_labels", check)
        body = {"images": [base64.b64encode(photo_bytes["png"]).decode()], **changes}
        assert service.client.post("/classify", json=body).status_code == 200
    assert checked == [on_the_loop]


def test_labels_that_fill_a_body_are_refused_before_their_key_is_reckoned(
    client: httpx.Client, photo_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the event loop, 60 MB of them took a second."""
    keyed: list[int] = []

    def key(engine: Any, labels: list[str], *rest: Any) -> str:
        keyed.append(sum(map(len, labels)))
        return class_key(engine, labels, *rest)

    monkeypatch.setattr(routes, "class_key", key)
    body = {"images": [base64.b64encode(photo_bytes["png"]).decode()]}
    answers = [client.post("/classify", json={**body, "labels": labels}) for labels in (["é" * 500_000], ["a"])]
    assert [answer.status_code for answer in answers] == [422, 200]
    assert answers[0].json()["code"] == "text_too_long"
    assert keyed == [1]
