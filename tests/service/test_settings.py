"""Settings: flags before environment before defaults, and a misspelt variable is an error."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memory.milvus import MilvusServer
from reco.cli import app as command_line
from service.documents.settings_page import render_settings
from service.environment import load_settings, show_settings
from service.served_memory import _milvus_server
from service.settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]
REQUIRED = {"model": "ViT-B-32", "memory": "memory"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RECO_{name.upper()}", raising=False)


def test_defaults_are_those_of_the_design() -> None:
    settings = Settings(**REQUIRED)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.max_body_bytes == 64 * 2**20
    assert settings.max_inflight_bytes == 512 * 2**20
    assert settings.max_image_bytes == 20 * 2**20
    assert settings.max_image_pixels == 50_000_000
    assert (settings.max_images, settings.max_texts, settings.max_text_characters) == (64, 256, 2000)
    assert (settings.max_labels, settings.max_label_characters, settings.max_templates) == (1000, 200, 20)
    assert (settings.max_class_texts, settings.max_k, settings.max_queue_items) == (5000, 100, 1024)
    assert (settings.request_timeout_s, settings.max_batch_size) == (10.0, 64)


def test_flags_beat_the_environment_and_the_environment_beats_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECO_PORT", "9000")
    monkeypatch.setenv("RECO_MAX_K", "7")
    settings = load_settings(**REQUIRED, port=9001, host=None)
    assert (settings.port, settings.max_k, settings.host) == (9001, 7, "127.0.0.1")


def test_an_unknown_variable_is_refused_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECO_MAX_IMAGE", "5")
    with pytest.raises(SettingsError, match=r"RECO_MAX_IMAGE; did you mean RECO_MAX_IMAGES\?"):
        load_settings(**REQUIRED)


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "70000"), ("MAX_K", "0"), ("REQUEST_TIMEOUT_S", "nan"), ("SERVED_MODEL_NAME", "a b")]
)
def test_a_value_out_of_bounds_is_refused_by_name_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RECO_{name}", value)
    with pytest.raises(SettingsError, match=f"RECO_{name}: ") as refused:
        load_settings(**REQUIRED)
    assert value not in str(refused.value).replace("RECO_", "") or name == "MAX_K"


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="RECO_MEMORY"):
        load_settings(model="ViT-B-32")


def test_shown_settings_can_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(**REQUIRED, k=3, host="::1")
    for line in show_settings(settings).splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    assert load_settings() == settings


@pytest.mark.parametrize(
    ("uri", "shown"),
    [("http://root:pass:w@rd/x@milvus:19530/birds", "http://root:**********@milvus:19530/birds"),
     ("root:pass@milvus:19530", "root:**********@milvus:19530"), ("https://:pass@milvus", "https://:**********@milvus"),
     ("http://milvus:19530", "http://milvus:19530"), ("http://root@milvus:19530", "http://root@milvus:19530")],
)  # fmt: skip
def test_a_password_in_an_address_is_masked(uri: str, shown: str) -> None:
    assert f"RECO_MILVUS_URI={shown}" in show_settings(Settings(**REQUIRED, milvus_uri=uri)).splitlines()
    server = MilvusServer(uri)
    assert server.shown == shown and server.uri == uri
    assert "pass" not in repr(server)


@pytest.mark.parametrize(
    ("host", "beyond"),
    [("127.0.0.1", False), ("127.8.8.8", False), ("::1", False), ("localhost", False), ("0.0.0.0", True),
     ("::", True), ("10.0.0.1", True), ("example.org", True)],
)  # fmt: skip
def test_beyond_loopback(host: str, beyond: bool) -> None:
    assert Settings(**REQUIRED, host=host).listens_beyond_loopback is beyond


def test_every_field_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_page_of_settings_is_that_of_the_code() -> None:
    """Renew it with `python -m service.documents.settings_page > docs/settings.md`."""
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == render_settings()


def test_reco_serve_shows_its_settings_with_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECO_MODEL", "ViT-B-32")
    monkeypatch.setenv("RECO_MEMORY", "my-memory")
    monkeypatch.setenv("RECO_API_KEYS", "a-very-secret-key-indeed-0")
    shown = CliRunner().invoke(command_line, ["serve", "--show-config", "--port", "9000"])
    assert shown.exit_code == 0, shown.output
    assert {"RECO_PORT=9000", "RECO_MODEL=ViT-B-32", "RECO_API_KEYS=**********"} <= set(shown.stdout.splitlines())
    monkeypatch.setenv("RECO_SHOW_CONFIG", "1")
    assert "RECO_PORT=8000" in CliRunner().invoke(command_line, ["serve"]).stdout


@pytest.mark.parametrize(
    ("origins", "keys", "told"),
    [("*", "web use " + "k" * 24, "lend the keys"), ("app.example.com", None, "scheme"),
     ("https://app.example.com/", None, "no path"), ("null", None, "scheme")],
)  # fmt: skip
def test_origins_that_would_let_in_too_much_or_nobody_are_refused(origins: str, keys: str | None, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load_settings({}, model="m", memory="m", cors_origins=origins, api_keys=keys)
    load_settings({}, model="m", memory="m", cors_origins="*")


@pytest.mark.parametrize("name", ["dtype", "device"])
def test_a_word_that_no_reload_could_make_right_ends_the_start(name: str) -> None:
    with pytest.raises(SettingsError, match=f"RECO_{name.upper()}: "):
        load_settings(model="m", memory="m", **{name: "fp16"})


@pytest.mark.parametrize("proxies", ["balancer", "10.0.0.5, balancer:8000", "10.0.0.1/8"])
def test_a_proxy_that_would_never_be_recognised_is_refused(proxies: str) -> None:
    with pytest.raises(SettingsError, match="addresses or networks"):
        load_settings(model="m", memory="m", trusted_proxies=proxies)
    for good in ("10.0.0.5, 192.168.0.0/16,::1", "*"):
        assert load_settings(model="m", memory="m", trusted_proxies=good).trusted_proxies == good


@pytest.mark.parametrize(
    "hosts", ["https://clip.example.com", "clip.example.com:8000", "a.example.com; b.example.com", "*.example.com"]
)
def test_a_host_that_no_request_is_addressed_to_is_refused(hosts: str) -> None:
    with pytest.raises(SettingsError, match=r"^settings not accepted: RECO_ALLOWED_HOSTS are names like"):
        load_settings(model="m", memory="m", allowed_hosts=hosts)
    for good in ("clip.example.com, xn--bcher-kva.example., my_box", "*", "[::1],10.0.0.1", "localhost,"):
        assert load_settings(model="m", memory="m", allowed_hosts=good).allowed_hosts == good


def test_a_port_that_is_taken_is_told_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--model", "no-such-model", "--memory", "nowhere", "--port", str(port)]
        result = CliRunner().invoke(command_line, ["serve", *options])
    assert result.exit_code == 1
    assert f"127.0.0.1, port {port}: Address already in use" in result.output
    assert "RECO_PORT" in result.output


def test_a_search_in_milvus_may_not_take_what_ends_the_process() -> None:
    elsewhere = {"model": "m", "memory": "m", "stamps": "s", "backend": "milvus", "milvus_uri": "http://127.0.0.1:1"}
    with pytest.raises(SettingsError, match="RECO_MILVUS_TIMEOUT_S must be less"):
        load_settings(**elsewhere, milvus_timeout_s=30.0, hang_timeout_s=30.0)
    load_settings(**elsewhere, milvus_timeout_s=29.0, hang_timeout_s=30.0)


def test_the_token_of_a_file_is_without_the_mark_that_editors_put_first(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("root:pass\r\n", encoding="utf-8-sig")
    kept = Settings(**REQUIRED, backend="milvus", milvus_uri="http://a:1", milvus_token_file=str(tmp_path / "token"))
    server = _milvus_server(kept)
    assert server is not None
    assert server.token == "root:pass"
