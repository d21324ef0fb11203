"""Named label sets: from a folder, by name in `/classify`, and what a bad file or name is told."""

import base64
import errno
import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.classes.label_sets import MAX_SETS, LabelSets
from service.door.keys import key_line, new_key
from service.page.samples import Samples
from service.problems import Problem
from service.settings import Settings, SettingsError

BIRDS = {"labels": ["songbird", "duck", "raptor"], "templates": ["a drawing of a {}"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "birds.json").write_text(json.dumps(BIRDS))
    (tmp_path / "colours.txt").write_text("red\n\n  brown \r\ngrey\n")
    (tmp_path / "README.md").write_text("no set")
    (tmp_path / ".hidden.json").write_text("no set")
    return tmp_path


def opened(folder: Path | None, **changes: Any) -> LabelSets:
    label_sets = None if folder is None else str(folder)
    return LabelSets.open(Settings(model="m", memory="m", stamps="s", label_sets=label_sets, **changes))


@pytest.fixture
def asked(serve: Any, folder: Path) -> Iterator[httpx.Client]:
    with serve(label_sets=str(folder)) as service:
        yield service.client


def test_files_are_sets(folder: Path) -> None:
    sets = opened(folder)
    assert sets.names() == ["birds", "colours"]
    assert (sets.get("birds").labels, sets.get("birds").templates) == (tuple(BIRDS["labels"]), ("a drawing of a {}",))
    assert (sets.get("colours").labels, sets.get("colours").templates) == (("red", "brown", "grey"), None)


def test_a_changed_file_is_read_again_and_a_broken_one_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = opened(folder)
    first = sets.get("birds")
    assert sets.get("birds") is first
    (folder / "birds.json").write_text('{"labels": ["owl"]}')
    assert sets.get("birds").labels == ("owl",)
    (folder / "birds.json").write_text('{"labels": ["owl", "wren", "Owl"]}')
    for _ in range(3):
        assert sets.get("birds").labels == ("owl",), "what it held before"
    assert sets.refusal("birds") == "labels_duplicate"
    told = "label set birds cannot be used: labels_duplicate at /labels/2; what it held before is served on"
    assert caplog.messages == [told]
    (folder / "birds.json").write_text('{"labels": ["wren"]}')
    assert (sets.get("birds").labels, sets.refusal("birds")) == (("wren",), None)
    (folder / "birds.json").unlink()
    with pytest.raises(Problem, match="label_set_not_found"):
        sets.get("birds")


def test_a_file_that_can_no_longer_be_read_is_refused_and_what_it_held_serves_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets, opens = opened(folder), Path.open

    def refused(path: Path, *given: Any, **options: Any) -> Any:
        if path.name in ("birds.json", "new.json"):
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *given, **options)

    (folder / "new.json").write_text('{"labels": ["owl"]}')
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refused)
        assert sets.get("birds").labels == tuple(BIRDS["labels"])
        assert sets.refusal("birds") == "label_set_unreadable" and sets.still_refused() == ["birds"]
        with pytest.raises(Problem, match="label_set_not_found") as unusable:
            sets.get("new")
        assert unusable.value.extensions == {"reason": "label_set_unreadable"}
        with pytest.raises(SettingsError, match="birds: label_set_unreadable"):
            opened(folder)
    assert sets.get("birds").labels == tuple(BIRDS["labels"]) and sets.refusal("birds") is None
    assert sets.get("new").labels == ("owl",)


def test_a_folder_that_cannot_be_read_is_told_at_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(SettingsError, match=r"RECO_LABEL_SETS: .* cannot be read: Permission denied"):
        opened(folder)
    with pytest.raises(SettingsError, match=r"RECO_SAMPLES: .* cannot be read: Permission denied"):
        Samples.open(str(folder), max_bytes=1)


def test_while_the_folder_is_away_what_was_read_serves_on_and_nothing_is_changed(folder: Path) -> None:
    sets, away = opened(folder), folder.with_name("away")
    folder.rename(away)
    assert sets.names() == ["birds", "colours"]
    assert sets.get("birds").labels == tuple(BIRDS["labels"]) and sets.refusal("birds") == "label_set_unreadable"
    for change in (partial(sets.delete, "birds"), partial(sets.put, "owls", b'{"labels": ["owl"]}')):
        with pytest.raises(Problem, match="label_set_not_saved"):
            change()
    away.rename(folder)
    assert sets.still_refused() == [] and sets.names() == ["birds", "colours"]


def test_a_set_whose_file_was_deleted_does_not_come_back_while_the_folder_is_away(folder: Path) -> None:
    sets, away = opened(folder), folder.with_name("away")
    (folder / "birds.json").unlink()
    with pytest.raises(Problem, match="label_set_not_found"):
        sets.get("birds")
    folder.rename(away)
    assert sets.names() == ["colours"]
    with pytest.raises(Problem, match="label_set_not_found"):
        sets.get("birds")


def test_a_file_may_begin_with_a_mark_of_its_byte_order(folder: Path) -> None:
    (folder / "colours.txt").write_bytes(BOM_UTF8 + b"red\nbrown\n")
    (folder / "birds.json").write_bytes(BOM_UTF8 + b'{"labels": ["owl"]}')
    sets = opened(folder)
    assert (sets.get("colours").labels, sets.get("birds").labels) == (("red", "brown"), ("owl",))


def test_a_new_file_that_cannot_be_used_says_why(folder: Path) -> None:
    sets = opened(folder)
    (folder / "new.json").write_text("{")
    for _ in range(2):
        with pytest.raises(Problem, match="label_set_not_found") as refused:
            sets.get("new")
        assert refused.value.extensions == {"reason": "json_invalid"}
    assert sets.refusal("new") == "json_invalid"


def test_asking_for_a_file_that_cannot_be_used_leaves_nothing_behind(folder: Path) -> None:
    sets = LabelSets(folder, Settings(model="m", memory="m"))
    (folder / "new.json").write_text('{"labels": []}')

    def frames_held() -> int:
        for _ in range(20):
            with pytest.raises(Problem):
                sets.get("new")
        held, frames = sets._refused["new"].problem.__traceback__, 0
        while held is not None:
            held, frames = held.tb_next, frames + 1
        return frames

    assert frames_held() == frames_held()  # each time of the first twenty had added three


def test_a_file_whose_name_is_none_is_told_at_the_start(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "sea birds.txt").write_text("puffin")
    assert opened(folder).names() == ["birds", "colours"]
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("sea birds.txt is no label set")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "{", "json_invalid"),
        ("a.json", '{"labels": ["x", "X"]}', r"labels_duplicate at /labels/1"),
        ("a.json", '{"labels": []}', "labels_empty"),
        ("a.json", '{"labels": ["x"], "templates": ["no slot"]}', r"template_invalid at /templates/0"),
        ("a.json", '{"labels": ["x"], "template": "{}"}', "field_unknown"),
        ("a.txt", "\n\n", "labels_empty"),
        ("a.txt", "a\x07b", r"text_control_character at /labels/0"),
        ("birds.txt", "owl", "there as .json and as .txt"),
    ],
)
def test_a_mistake_in_a_file_stops_the_start(folder: Path, name: str, content: str, told: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(SettingsError, match=told):
        opened(folder)


def test_no_such_folder_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no folder"):
        opened(tmp_path / "nowhere")


@pytest.mark.parametrize("saved", [True, False])
def test_sets_are_put_replaced_and_deleted(folder: Path, saved: bool) -> None:
    sets = opened(folder if saved else None)
    for labels in (["owl", "lark"], ["wren"]):
        sets.put("new", json.dumps({"labels": labels}).encode())
        assert sets.get("new").labels == tuple(labels)
    if saved:
        sets.put("colours", b'{"labels": ["black"]}')  # was a .txt
        again = opened(folder)
        assert again.names() == ["birds", "colours", "new"]
        assert again.get("colours").labels == ("black",)
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".tmp")]
    sets.delete("new")
    assert "new" not in sets.names()
    with pytest.raises(Problem, match="label_set_not_found"):
        sets.delete("new")


@pytest.mark.parametrize("name", ["", ".", "..", ".birds", "../birds", "a/b", "a\x00", "ä", "x" * 65, "birds\n"])
def test_a_name_is_no_path(folder: Path, name: str) -> None:
    sets = opened(folder)
    for call, code in (
        (lambda: sets.put(name, b"{}"), "label_set_name_invalid"),
        (lambda: sets.get(name), "not_found"),
    ):
        with pytest.raises(Problem, match=code):
            call()
    with pytest.raises(Problem, match="not_found"):
        sets.delete(name)


def test_a_refused_set_changes_nothing(folder: Path) -> None:
    sets = opened(folder)
    with pytest.raises(Problem, match="labels_duplicate"):
        sets.put("birds", b'{"labels": ["a", "a"]}')
    assert sets.get("birds").labels == tuple(BIRDS["labels"])


def test_there_are_only_so_many() -> None:
    sets = opened(None)
    for number in range(MAX_SETS):
        sets.put(f"set-{number}", b'{"labels": ["a"]}')
    with pytest.raises(Problem, match="label_sets_full"):
        sets.put("one-more", b'{"labels": ["a"]}')
    sets.put("set-0", b'{"labels": ["b"]}')


def test_classify_by_name_is_classify_by_its_labels(asked: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    image = {"images": [base64.b64encode(photo_bytes["png"]).decode()]}
    named = asked.post("/classify", json={**image, "label_set": "birds"}).json()
    spelt = asked.post("/classify", json={**image, **BIRDS}).json()
    np.testing.assert_allclose(named["data"][0]["probabilities"], spelt["data"][0]["probabilities"], atol=1e-6)
    assert (named["label_set"], "label_set" in spelt) == ("birds", False)
    own = asked.post("/classify", json={**image, "label_set": "birds", "templates": ["{}"]}).json()
    own_spelt = asked.post("/classify", json={**image, "labels": BIRDS["labels"], "templates": ["{}"]}).json()
    np.testing.assert_allclose(own["data"][0]["probabilities"], own_spelt["data"][0]["probabilities"], atol=1e-6)


def test_in_a_form_and_a_query_too(asked: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    photo, words = photo_bytes["png"], {"label_set": "birds", "top_k": "2"}
    by_form = asked.post("/classify", files={"files": photo}, data=words).json()["data"][0]
    by_raw = asked.post("/classify", content=photo, params=words, headers={"Content-Type": "image/png"}).json()
    assert [one["label"] for one in by_form["top"]] == [one["label"] for one in by_raw["data"][0]["top"]]


def test_they_are_listed_and_shown(asked: httpx.Client) -> None:
    assert asked.get("/label_sets").json() == {
        "label_sets": [
            {"name": "birds", "num_labels": 3, "num_templates": 1, "refused": None},
            {"name": "colours", "num_labels": 3, "num_templates": 0, "refused": None},
        ]
    }
    assert asked.get("/label_sets/birds").json() == {"name": "birds", **BIRDS}
    for name in ("nowhere", "..%2Fbirds", ".hidden"):
        answer = asked.get(f"/label_sets/{name}")
        assert (answer.status_code, "not_found" in answer.json()["code"]) == (404, True)


OPERATOR, USER = new_key(), new_key()


@pytest.fixture
def operated(serve: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{key_line('admin', ['operator'], OPERATOR)}\n{key_line('web', ['use'], USER)}\n")
    with serve(label_sets=str(folder), api_keys_file=str(keys)) as service:
        yield service.client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_readyz_warns_of_a_refused_set_until_it_is_mended(asked: httpx.Client, folder: Path) -> None:
    def warnings() -> Any:
        return asked.get("/readyz").json()["warnings"]

    assert warnings() == []
    (folder / "birds.json").write_text("{")
    assert [one["refused"] for one in asked.get("/label_sets").json()["label_sets"]] == ["json_invalid", None]
    assert warnings() == ["label_set_refused"]
    (folder / "birds.json").write_text('{"labels": ["wren"]}')
    assert warnings() == []  # though nobody asked for the set
    (folder / "birds.json").write_text("{")
    assert asked.get("/label_sets/birds").status_code == 200
    assert warnings() == ["label_set_refused"]
    (folder / "birds.json").unlink()
    assert warnings() == []


def test_an_operator_changes_them_under_load(operated: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    image = base64.b64encode(photo_bytes["png"]).decode()
    ask = {"json": {"images": [image], "label_set": "new"}, "headers": bearer(USER)}
    assert operated.post("/classify", **ask).json()["code"] == "label_set_not_found"
    for labels in (["owl", "lark"], ["wren"]):
        put = operated.put("/label_sets/new", json={"labels": labels}, headers=bearer(OPERATOR))
        assert (put.status_code, put.json()) == (200, {"name": "new", "labels": labels, "templates": None})
        assert len(operated.post("/classify", **ask).json()["data"][0]["probabilities"]) == len(labels)
        assert operated.get("/label_sets/new", headers=bearer(USER)).json()["labels"] == labels
    assert operated.delete("/label_sets/new", headers=bearer(OPERATOR)).status_code == 204
    assert operated.delete("/label_sets/new", headers=bearer(OPERATOR)).json()["code"] == "label_set_not_found"
    assert operated.post("/classify", **ask).json()["code"] == "label_set_not_found"


def test_K4_others_may_not_and_without_such_a_key_nobody_can(operated: httpx.Client, asked: httpx.Client) -> None:
    for method in ("PUT", "DELETE"):
        answers = [
            operated.request(method, "/label_sets/birds", json=BIRDS, headers=headers) for headers in ({}, bearer(USER))
        ]
        assert [answer.json()["code"] for answer in answers] == ["unauthorized", "scope_missing"]
        assert asked.request(method, "/label_sets/birds", json=BIRDS).status_code == 404
    assert asked.get("/label_sets/birds").json() == {"name": "birds", **BIRDS}


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("new", b"{", 400, "json_invalid"),
        ("new", b'{"labels": ["a", "A"]}', 422, "labels_duplicate"),
        ("new", b'{"labels": ["a"], "templates": ["x"]}', 422, "template_invalid"),
        ("new", b'{"label": ["a"]}', 422, "field_missing"),
        (".new", b'{"labels": ["a"]}', 422, "label_set_name_invalid"),
        ("new", b" " * (4 * 2**20 + 1), 413, "body_too_large"),
    ],
)
def test_a_bad_put_is_refused(operated: httpx.Client, name: str, body: bytes, status: int, code: str) -> None:
    answer = operated.put(f"/label_sets/{name}", content=body, headers=bearer(OPERATOR))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert operated.get("/label_sets/new", headers=bearer(USER)).status_code == 404


def test_a_folder_that_cannot_be_written_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = opened(folder)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Problem, match="label_set_not_saved"):
        sets.put("new", b'{"labels": ["a"]}')
    assert sets.names() == ["birds", "colours"]
    assert not list(folder.glob(".tmp-*"))


def test_a_read_only_folder_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses to make a file, and to remove one that is not there."""
    sets, opens = opened(folder), Path.open

    def read_only(path: Path, mode: str = "r", **options: Any) -> Any:
        if mode.startswith("r"):
            return opens(path, mode, **options)
        raise OSError(errno.EROFS, "Read-only file system")

    def unlink(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(Path, "unlink", unlink)
    for change in (partial(sets.delete, "birds"), partial(sets.put, "owls", b'{"labels": ["owl"]}')):
        with pytest.raises(Problem, match="label_set_not_saved"):
            change()
    assert sets.names() == ["birds", "colours"]


@pytest.mark.parametrize(
    ("options", "status", "code", "pointer"),
    [
        ({}, 422, "field_missing", "/labels"),
        ({"labels": ["a"], "label_set": "birds"}, 422, "option_conflict", "/label_set"),
        ({"label_set": "nowhere"}, 404, "label_set_not_found", "/label_set"),
        ({"label_set": "../birds"}, 404, "label_set_not_found", "/label_set"),
        ({"label_set": None}, 422, "field_invalid", "/label_set"),
        ({"label_set": "birds", "templates": []}, 422, "templates_empty", None),
        ({"label_set": "birds", "top_k": 0}, 422, "field_invalid", "/top_k"),
    ],
)
def test_refused(asked: httpx.Client, options: Any, status: int, code: str, pointer: str | None) -> None:
    answer = asked.post("/classify", json={"images": ["QUJD"], "on_error": "partial", **options})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert [error["pointer"] for error in answer.json().get("errors", [])] == ([pointer] if pointer else [])
