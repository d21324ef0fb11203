"""The running service, in a thread and as a process, for the bad inputs to hit. See tests/running_service.py."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from running_service import (  # noqa: F401 - pytest finds fixtures by their names here
    client,
    engine,
    fusion_dir,
    make_settings,
    memory_dir,
    own_memory,
    serve,
    service,
    settings,
)
from served_process import free_port, wait_until_ready

from service.environment import show_settings
from service.settings import Settings


@dataclass(frozen=True)
class ServiceProcess:
    """`reco serve` in a process of its own: what it listens on, and the file it logs to."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def kill(self) -> None:
        """The end that nobody is told of."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def wait_until_ready(self, port: int | None = None) -> None:
        """Return once `/readyz` says 200, on the service's port or another of its ports."""
        wait_until_ready(f"http://127.0.0.1:{port}" if port else self.url, self.process, self.log.read_text)


ServeProcess = Callable[..., AbstractContextManager[ServiceProcess]]


@pytest.fixture
def serve_process(settings: Settings, tmp_path: Path) -> ServeProcess:  # noqa: F811 - the fixture of that name
    """Start the small service as a process; arguments are further settings."""

    @contextmanager
    def start(*, environ: dict[str, str] | None = None, **changes: object) -> Iterator[ServiceProcess]:
        port = free_port()
        named = dict(line.split("=", 1) for line in show_settings(settings).splitlines())
        own = {f"RECO_{name.upper()}": str(value) for name, value in {**changes, "port": port}.items()}
        given = {name: value for name, value in named.items() if value}
        environment = {**os.environ, **given, **own, **(environ or {})}
        log = tmp_path / f"log-{port}"
        with log.open("ab") as file:
            process = subprocess.Popen([sys.executable, "-m", "reco.cli", "serve"], env=environment, stderr=file)
        try:
            yield ServiceProcess(process, f"http://127.0.0.1:{port}", log)
        finally:
            process.kill()
            process.wait()

    return start
