"""What goes along with each request: the key, from wherever it comes, and headers."""

from pathlib import Path
from typing import Any

import pytest
from scripted_service import Reply, both, call, npy

from reco_client import Client


@both
def test_headers_go_along_and_a_key_has_no_blank_around_it(scripted: Any, kind: str) -> None:
    server = scripted(lambda number: npy())
    call(kind, server.url, api_key=" secret\n", headers={"X-Tenant": "birds"})
    assert server.keys == ["Bearer secret"]
    call(kind, server.url, api_key="secret", headers={"Authorization": "Basic of-a-gateway"})
    assert server.keys[1:] == ["Basic of-a-gateway"]


@both
def test_the_key_goes_along(scripted: Any, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = scripted(lambda number: npy())
    call(kind, server.url, api_key="given")
    monkeypatch.setenv("RECO_API_KEY", "environment")
    call(kind, server.url)
    monkeypatch.delenv("RECO_API_KEY")
    (tmp_path / "key").write_text("file\n")
    monkeypatch.setenv("RECO_API_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("RECO_URL", server.url)
    call(kind, "")
    assert server.keys == ["Bearer given", "Bearer environment", "Bearer file"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("shop/mug 1.jpg", "/operator/pairs/shop/mug%201.jpg"),
        ("../scans/1", "/operator/pairs/%2E%2E/scans/1"),
        ("a/./b/..", "/operator/pairs/a/%2E/b/%2E%2E"),
        ("a?b#c%2e", "/operator/pairs/a%3Fb%23c%252e"),
        ("...", "/operator/pairs/..."),
    ],
)
def test_a_key_never_walks_up_the_path(scripted: Any, key: str, path: str) -> None:
    server = scripted(lambda number: Reply(body={"removed": key}))
    with Client(server.url) as client:
        client.remove_pair(key)
        client.delete_label_set("..")
    assert server.paths == [path, "/label_sets/%2E%2E"]
