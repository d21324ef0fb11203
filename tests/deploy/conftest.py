"""A Compose project of its own for the tests: its commands, its service, its containers."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from served_process import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def image() -> None:
    """The image, built from this tree."""
    missing = engine_missing()
    if missing:
        pytest.skip(missing)
    Project("reco-test").must("build", "reco")


@pytest.fixture(scope="module")
def demo(image: None) -> Iterator["Project"]:
    """The project that a bare `docker compose up` starts, up and healthy."""
    with _removed_at_the_end(Project(f"reco-test-{secrets.token_hex(4)}")) as started:
        started.must("up", "--detach")
        started.wait_until_healthy()
        yield started


@pytest.fixture
def project(image: None) -> Iterator["Project"]:
    """A project with an empty volume, not started."""
    with _removed_at_the_end(Project(f"reco-test-{secrets.token_hex(4)}")) as empty:
        yield empty


@contextmanager
def _removed_at_the_end(project: "Project") -> Iterator["Project"]:
    try:
        yield project
    finally:
        project("down", "--volumes", "--timeout", "1")


def engine_missing() -> str | None:
    """Why there is nothing to run containers with; None where there is."""
    if shutil.which("docker") is None:
        return "no `docker` command"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "no Docker engine answers `docker info`"
    return None if compose_command() else "neither `docker compose` nor `docker-compose`"


def compose_command() -> list[str] | None:
    """Compose v2 where it is installed, else v1."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not _run([*command, "version"]).returncode:
            return command
    return None


@dataclass(frozen=True)
class Project:
    """One project: `name` keeps its containers and its volume apart from everybody else's."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Compose with the given arguments."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RECO_", "COMPOSE_"))}
        published = {"RECO_PUBLISH": f"127.0.0.1:{self.port}"}
        command = [*(compose_command() or ()), "--project-name", self.name, *arguments]
        return _run(command, environ=inherited | published | dict(self.settings))

    def must(self, *arguments: str) -> str:
        """Run Compose; its standard output, or a failed test with everything it said."""
        done = self(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def inspect(self, service: str, template: str) -> str:
        """What Docker says of a service's container."""
        container = self.must("ps", "--all", "--quiet", service).strip()
        return _run(["docker", "inspect", "--format", template, container]).stdout.strip()

    def client(self) -> httpx.Client:
        """A client of the published port."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    def wait_until_healthy(self, timeout_s: float = 120) -> None:
        """Return when Docker calls the service healthy."""
        end = time.monotonic() + timeout_s
        while (health := self.inspect("reco", "{{.State.Health.Status}}")) != "healthy":
            assert time.monotonic() < end, f"{health} after {timeout_s} s:\n{self.must('logs', 'reco')}"
            time.sleep(0.5)


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
