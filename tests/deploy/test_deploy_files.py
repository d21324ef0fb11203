"""What the deployment files say of the rest of the project is still true. Needs no Docker."""

import re
from pathlib import Path

import pytest
import yaml

from service.observing.tracing import _PROTOCOLS, ENDPOINTS
from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
# The container's own port and address are the image's; the host's are RECO_PUBLISH.
FIXED_IN_THE_IMAGE = {"RECO_HOST", "RECO_PORT"}
PIN = re.compile(r"^([a-z0-9._-]+==\S+)(?: ;.*)? \\$", re.MULTILINE)


def pins(lock: str) -> set[str]:
    return set(PIN.findall((ROOT / "requirements" / lock).read_text()))


def test_compose_hands_on_every_setting() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    names = [line.partition("=")[0] for line in compose["x-reco"]["environment"]]
    handed_on = set(names)
    assert len(names) == len(handed_on), "named twice: Compose refuses the file"
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for name in handed_on if name.startswith(PREFIX)} == settings - FIXED_IN_THE_IMAGE


def test_compose_hands_on_what_the_pages_tell_operators_to_set() -> None:
    """The libraries' own variables: what is not handed on is set in vain, without a word."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    handed_on = {line.partition("=")[0] for line in compose["x-reco"]["environment"]}
    pages = "".join((ROOT / "docs" / page).read_text() for page in ("operations.md", "object-stores.md"))
    told = set(re.findall(r"\b(?:OTEL|AWS|HF|FSSPEC)_[A-Z0-9_]+[A-Z0-9]\b", pages))
    # Kinds of variables that the pages name as such: one of each stands for them.
    of_a_kind = {"OTEL_BSP_SCHEDULE_DELAY", "AWS_SESSION_TOKEN", "AWS_REGION"}
    assert len(told) > 10
    assert not {*told, *_PROTOCOLS, *ENDPOINTS, *of_a_kind} - handed_on


def test_the_page_names_what_compose_itself_reads() -> None:
    files = "".join(path.read_text() for path in ROOT.glob("docker-compose*.yml"))
    read = set(re.findall(r"\$\{(RECO_[A-Z_]+)", files)) - {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.partition("Compose itself reads")[2].partition("\n\n`")[0]
    assert set(re.findall(r"RECO_[A-Z_]+", table)) == read


def test_every_service_of_ours_has_the_image_for_a_gpu_and_each_that_computes_a_gpu() -> None:
    ours = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    on_gpu = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    assert set(on_gpu) == {name for name, service in ours.items() if service["image"] == "reco:cpu"}
    assert {service["image"] for service in on_gpu.values()} == {"reco:gpu"}
    assert {name for name, service in on_gpu.items() if "deploy" not in service} == {"prepare"}


def test_every_service_that_answers_requests_gets_the_keys() -> None:
    """One without them would be open to everybody."""
    ours = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    with_keys = yaml.safe_load((ROOT / "docker-compose.keys.yml").read_text())
    assert set(with_keys["services"]) == {name for name, one in ours.items() if one.get("command") == ["serve"]}
    for service in with_keys["services"].values():
        assert service["secrets"] == list(with_keys["secrets"])
        assert service["environment"] == [f"RECO_API_KEYS_FILE=/run/secrets/{service['secrets'][0]}"]


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_image_runs_on_the_versions_that_are_tested(extra: str) -> None:
    runtime, tested = pins(f"{extra}-runtime.lock"), pins(f"{extra}.lock")
    assert runtime < tested
    assert len(runtime) > 50


def test_the_image_can_be_read_by_who_runs_it() -> None:
    """A checkout with a umask of 077 has files for its owner alone, and so have copies of them."""
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    [application] = [stage for stage in stages if " AS application\n" in stage]
    steps = [step.strip() for step in application.replace("\\\n", "").split("&&")]
    assert "USER 10001" in stages[-1] and "COPY --from=application /app /app" in stages[-1]
    assert steps[-1] == "chmod -R a+rX /app"


def test_build_context_holds_every_package() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = re.search(r"packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert {name.split(".")[0] for name in re.findall(r'"([\w.]+)"', packages[1])} <= allowed
