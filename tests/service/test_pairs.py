"""Pairs added and taken out while the service runs: in every form, told apart from what is there, refused whole."""

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memory import BuildLock, KeyPatterns, Memory, compact, read_manifest, remove_keys
from service.door.keys import new_key

OPERATOR = new_key()


@pytest.fixture
def operated(serve: Any, own_memory: Path) -> Iterator[httpx.Client]:
    """A client with an operator's key, of a service that nobody else needs one for."""
    with serve(engine=None, memory=str(own_memory), api_keys=f"admin operator {OPERATOR}") as service:
        service.client.headers["Authorization"] = f"Bearer {OPERATOR}"
        yield service.client


def neighbours(client: httpx.Client, image: bytes, k: int = 1) -> list[dict[str, Any]]:
    files = {"files": image}
    answer = client.post("/embed/image", files=files, data={"k": str(k), "return_neighbours": "true"})
    return answer.json()["data"][0]["neighbours"]


def test_the_next_query_knows_what_was_added(operated: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    photo = photo_bytes["jpeg"]
    assert neighbours(operated, photo)[0]["similarity"] < 0.99
    answer = operated.post("/operator/pairs", files={"files": photo}, data={"name": "tirrik"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["memory_version"], told["num_items"], told["caption"]) == (2, 25, "a photo of a tirrik.")
    assert "encode;dur=" in answer.headers["server-timing"]
    [found] = neighbours(operated, photo)
    assert (found["key"], found["caption"]) == (told["added"][0], "a photo of a tirrik.")
    assert found["similarity"] > 0.999
    thumbnail = operated.get(f"/memory/items/{found['id']}/thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("form", ["json", "raw", "multipart"])
def test_every_form_of_an_image_is_taken(operated: httpx.Client, photo_bytes: dict[str, bytes], form: str) -> None:
    photo, said = photo_bytes["png"], {"caption": "a red bird at night", "key": "mine/1"}
    if form == "json":
        body = {"images": [base64.b64encode(photo).decode()], **said}
        answer = operated.post("/operator/pairs", json=body)
    elif form == "raw":
        answer = operated.post("/operator/pairs", content=photo, params=said, headers={"Content-Type": "image/png"})
    else:
        answer = operated.post("/operator/pairs", files={"files": photo}, data=said)
    assert answer.status_code == 200, answer.text
    assert answer.json()["added"] == ["mine/1"]


def test_several_images_get_keys_of_their_own_and_one_sent_twice_is_one(
    operated: httpx.Client, photo_bytes: dict[str, bytes]
) -> None:
    files = [("files", photo_bytes[kind]) for kind in ("jpeg", "png", "jpeg")]
    told = operated.post("/operator/pairs", files=files, data={"name": "true"}).json()
    assert (len(told["added"]), told["caption"]) == (2, "a photo of a true.")
    assert all(key.startswith("added/") for key in told["added"])
    again = operated.post("/operator/pairs", files=files, data={"name": "true"}).json()
    assert (again["added"], len(again["present"]), again["memory_version"]) == ([], 2, 2)
    named = operated.post("/operator/pairs", files=files[:2], data={"name": "velo", "key": "velo"}).json()
    assert named["added"] == ["velo/0", "velo/1"]
    files = [("files", photo_bytes[kind]) for kind in ("jpeg", "gif", "webp")]
    refused = operated.post("/operator/pairs", files=files, data={"name": "velo", "key": "velo"}).json()
    assert [error["pointer"] for error in refused["errors"]] == ["/images/1"]  # 0 is there as it is, 2 is new


def test_a_stored_key_is_refused_unless_it_is_to_be_replaced(
    operated: httpx.Client, photo_bytes: dict[str, bytes]
) -> None:
    said = {"name": "tirrik", "key": "pair-003"}
    refused = operated.post("/operator/pairs", files={"files": photo_bytes["jpeg"]}, data=said)
    assert (refused.status_code, refused.json()["code"]) == (409, "pair_exists")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/images/0"]
    told = operated.post(
        "/operator/pairs", files={"files": photo_bytes["jpeg"]}, data=said | {"replace": "true"}
    ).json()
    assert (told["added"], told["replaced"], told["num_items"]) == (["pair-003"], 1, 24)


def test_a_pair_can_be_taken_out_again(operated: httpx.Client, photo_bytes: dict[str, bytes]) -> None:
    photo = photo_bytes["jpeg"]
    operated.post("/operator/pairs", files={"files": photo}, data={"name": "tirrik", "key": "mine/a b"})
    assert neighbours(operated, photo)[0]["key"] == "mine/a b"
    gone = operated.delete("/operator/pairs/mine/a b").json()
    assert (gone["removed"], gone["num_items"], gone["memory_version"]) == ("mine/a b", 24, 3)
    assert neighbours(operated, photo)[0]["key"] != "mine/a b"
    for key in ("mine/a b", "nothing", ""):
        answer = operated.delete(f"/operator/pairs/{key}")
        assert (answer.status_code, answer.json()["code"]) == (404, "pair_not_found")


def test_what_was_added_is_listed_and_any_pair_is_found_by_its_key(
    operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path
) -> None:
    def listed(**query: int) -> tuple[int, list[str]]:
        told = operated.get("/operator/pairs", params=query).json()
        return told["total"], [pair["key"] for pair in told["pairs"]]

    assert listed() == (0, [])
    for name in ("one", "two", "three/a b"):
        operated.post("/operator/pairs", files={"files": photo_bytes["jpeg"]}, data={"name": name, "key": name})
    assert listed() == (3, ["three/a b", "two", "one"])
    assert listed(limit=1, offset=1) == (3, ["two"])
    assert listed(offset=7) == (3, [])
    operated.delete("/operator/pairs/two")
    assert listed() == (2, ["three/a b", "one"])
    compact(own_memory)  # ids change, and what was added is still known as such
    operated.post("/operator/reload")
    assert listed() == (2, ["three/a b", "one"])

    found = operated.get("/operator/pairs/three/a b").json()
    assert (found["pair"]["key"], found["pair"]["caption"]) == ("three/a b", "a photo of a three/a b.")
    assert operated.get(f"/memory/items/{found['pair']['id']}/thumbnail").status_code == 200
    assert operated.get("/operator/pairs/pair-003").json()["pair"]["caption"]
    for key in ("two", "nowhere"):
        assert operated.get(f"/operator/pairs/{key}").json()["code"] == "pair_not_found"
    for query in ({"limit": "0"}, {"limit": "1001"}, {"offset": "-1"}, {"offset": "x"}):
        refused = operated.get("/operator/pairs", params=query)
        assert (refused.status_code, refused.json()["code"]) == (422, "field_invalid")


def test_the_last_pair_can_be_taken_out_and_another_put_in(
    operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path
) -> None:
    photo = photo_bytes["jpeg"]
    remove_keys(own_memory, KeyPatterns([f"pair-{row:03d}" for row in range(23)]))
    answer = operated.delete("/operator/pairs/pair-023")
    assert (answer.status_code, answer.json()["num_items"]) == (200, 0)
    plain = operated.post("/embed/text", json={"texts": "a bird", "return_neighbours": True, "return_original": True})
    [item] = plain.json()["data"]
    assert item["neighbours"] == []
    assert operated.get("/readyz").status_code == 200
    operated.post("/operator/pairs", files={"files": photo}, data={"name": "tirrik", "key": "mine"})
    assert [one["key"] for one in neighbours(operated, photo, k=3)] == ["mine"]


@pytest.mark.parametrize(
    ("said", "code"),
    [({}, "name_or_caption"), ({"name": "a", "caption": "b"}, "name_or_caption"), ({"name": " "}, "text_empty"),
     ({"caption": "\u200b"}, "text_empty"), ({"name": "a" * 3000}, "text_too_long"),
     ({"name": "a", "key": "/a"}, "key_invalid"),
     ({"name": "a", "key": "a\n"}, "key_invalid"), ({"name": "a", "keys": "a"}, "field_unknown")],
)  # fmt: skip
def test_what_cannot_be_said_of_an_image_is_refused(
    operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path, said: dict[str, str], code: str
) -> None:
    answer = operated.post("/operator/pairs", files={"files": photo_bytes["jpeg"]}, data=said)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert read_manifest(own_memory).version == 1
    if code.startswith("text_"):
        field = "caption" if "caption" in said else "name"
        assert answer.json()["errors"][0]["pointer"] == f"/{field}"
        assert (answer.json().get("limit") == 2000) == (code == "text_too_long")


def test_one_bad_image_keeps_all_of_them_out(
    operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path
) -> None:
    files = [("files", photo_bytes["jpeg"]), ("files", photo_bytes["png"][:50])]
    answer = operated.post("/operator/pairs", files=files, data={"name": "tirrik"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/images/1")
    assert read_manifest(own_memory).version == 1


def test_a_builder_at_work_is_told(operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path) -> None:
    with BuildLock(own_memory):
        answer = operated.post("/operator/pairs", files={"files": photo_bytes["jpeg"]}, data={"name": "tirrik"})
        assert (answer.status_code, answer.json()["code"]) == (409, "memory_locked")
    assert operated.post("/operator/pairs", files={"files": photo_bytes["jpeg"]}, data={"name": "a"}).status_code == 200


def test_what_a_builder_added_meanwhile_is_kept(
    operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path
) -> None:
    subprocess.run(
        [sys.executable, "-m", "reco.cli", "memory", "remove", str(own_memory), "--keys", "pair-000"],
        check=True,
        capture_output=True,
    )
    told = operated.post("/operator/pairs", files={"files": photo_bytes["jpeg"]}, data={"name": "tirrik"}).json()
    assert (told["memory_version"], told["num_items"]) == (3, 24)


def test_several_operators_at_once_wait_for_each_other(
    operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path
) -> None:
    statuses = []

    def add(number: int) -> None:
        form = {"files": photo_bytes["jpeg"]}
        statuses.append(operated.post("/operator/pairs", files=form, data={"name": f"tirrik {number}"}).status_code)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    with Memory.open(own_memory) as opened:
        assert opened.num_items == 28


def test_a_memory_that_is_broken_on_disk_takes_no_pair_and_serves_on(
    operated: httpx.Client, photo_bytes: dict[str, bytes], own_memory: Path
) -> None:
    [manifest] = (own_memory / "manifests").iterdir()
    manifest.write_bytes(manifest.read_bytes()[:-20])
    photo = photo_bytes["jpeg"]
    changes = [
        operated.post("/operator/pairs", files={"files": photo}, data={"name": "tirrik"}),
        operated.delete("/operator/pairs/pair-001"),
    ]
    for answer in changes:
        told = answer.json()
        assert (answer.status_code, told["code"], told["reason"]) == (409, "reload_refused", "manifest_invalid")
    assert operated.post("/embed/image", files={"files": photo}).status_code == 200
