"""Two replicas on one memory behind HAProxy, as deploy/balancer has it: `make replicas`.

The replicas have one port at addresses of their own, as containers have, and the balancer finds them by DNS. Whoever
asks does so through the balancer and without a pause, while versions are swapped, and replicas stopped and killed.

Every version holds a pair whose text is what is asked, whose caption is the version's number and whose image is the
version's own: an answer made of two versions would show the caption of one beside the vector of another.
"""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from served_process import wait_until_ready

from benchmarks.synthetic_memory import random_units, rows_of, write_random
from demo.clip import tiny_clip_directory
from memory import add_rows
from models.checkpoint import save_fusion
from models.encoder import Encoder
from models.fusion import Fusion, FusionConfig
from service.door.keys import new_key

pytestmark = [
    pytest.mark.replicas,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="no `haproxy` command: apt-get install haproxy"),
]

BALANCER = Path(__file__).parents[2] / "deploy" / "balancer"
ASKED = "a photo of a red bird"
TEXTS = 4  # in one request: what mixes within an answer shows
PAIRS = 20_000
SWAPS = 10
DRAIN_S = 3.0


class Names:
    """A name server on loopback that knows one name: whatever is asked has these addresses."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                asked, client = self._socket.recvfrom(4096)
            except OSError:
                return
            end = asked.index(b"\0", 12) + 5  # the question: a name, a type, a class
            is_a = asked[end - 4 : end - 2] == b"\0\1"
            found = [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(one) for one in self.addresses if is_a]
            head = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
            self._socket.sendto(head + asked[12:end] + b"".join(found), client)

    def close(self) -> None:
        self._socket.close()


@dataclass
class Replica:
    """One server of the service, which may be stopped and started again."""

    address: str
    port: int
    settings: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def start(self) -> None:
        own = {"RECO_HOST": self.address, "RECO_PORT": str(self.port)}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "reco.cli", "serve"]
            self.process = subprocess.Popen(command, env={**os.environ, **self.settings, **own}, stderr=log)

    def wait_until_ready(self) -> None:
        assert self.process is not None
        wait_until_ready(self.url, self.process, self.log.read_text)

    @property
    def answered(self) -> float:
        """How many requests to /embed/text this process has answered."""
        lines = httpx.get(f"{self.url}/metrics", trust_env=False).text.splitlines()
        own = [line for line in lines if line.startswith('reco_requests_total{endpoint="/embed/text"')]
        return sum(float(line.rpartition(" ")[2]) for line in own)

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)


@dataclass(frozen=True)
class Site:
    """Replicas, the balancer in front of them, and the memory they share."""

    replicas: list[Replica]
    names: Names
    url: str
    memory: Path
    encoder: Encoder
    operator: dict[str, str]

    def commit(self, version: int) -> None:
        """The next version: its pair in the place of the one before."""
        text = self.encoder.encode_text(self.encoder.tokenize([ASKED]).ids)
        rows = rows_of(["marker"], [f"version {version}"], random_units(1, self.encoder.embed_dim, 100 + version), text)
        assert add_rows(self.memory, rows, encoder=self.encoder.fingerprint.record(), replace=True).version == version


@dataclass
class Seen:
    """What clients saw."""

    failed: list[str] = field(default_factory=list)
    mixed: list[Any] = field(default_factory=list)
    answers: dict[int, list[np.ndarray]] = field(default_factory=dict)

    def enter(self, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            self.failed.append(f"{answer.status_code} {answer.text}")
            return
        told = answer.json()
        captions = {one["neighbours"][0]["caption"] for one in told["data"]}
        if captions != {f"version {told['memory_version']}"}:
            self.mixed.append((told["memory_version"], captions))
        vectors = np.array([one["embedding"] for one in told["data"]], dtype=np.float32)
        self.answers.setdefault(told["memory_version"], []).append(vectors)

    @property
    def count(self) -> int:
        return sum(map(len, self.answers.values()))


def write_fusion(directory: Path, encoder: Encoder) -> None:
    """Weights are drawn, not trained: what is refined lies far from what was asked."""
    torch.manual_seed(1)
    fusion = Fusion(FusionConfig(design="copy", embed_dim=128, k=4))
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    save_fusion(directory, fusion, encoder.fingerprint.record())


def wait_until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("replicas")
    encoder = Encoder.open(str(tiny_clip_directory()), device="cpu", dtype="float32")
    write_random(root / "memory", encoder, PAIRS)
    write_fusion(root / "fusion", encoder)
    key = new_key()
    settings = {
        "RECO_MODEL": str(tiny_clip_directory()),
        "RECO_MEMORY": str(root / "memory"),
        "RECO_FUSION": str(root / "fusion"),
        "RECO_STAMPS": str(root / "stamps"),
        "RECO_API_KEYS": f"admin operator {key}",
        "RECO_DTYPE": "float32",
        "RECO_THREADS": "1",
        "RECO_DRAIN_DELAY_S": str(DRAIN_S),
    }
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("0.0.0.0", 0))
            ports.append(free.getsockname()[1])
    names = Names(["127.0.0.2", "127.0.0.3"])
    replicas = [Replica(one, ports[0], settings, root / f"{one}.log") for one in names.addresses]
    url = f"http://127.0.0.1:{ports[1]}"
    variables = {
        "RECO_BALANCER_BIND": url.removeprefix("http://"),
        "RECO_BALANCER_DNS": f"127.0.0.1:{names.port}",
        "RECO_BALANCER_REPLICAS": f"replica.test:{ports[0]}",
    }
    files = [argument for name in ("haproxy.cfg", "compose.cfg") for argument in ("-f", BALANCER / name)]
    with (root / "haproxy.log").open("wb") as log:
        command = ["haproxy", "-db", *files]
        balancer = subprocess.Popen(command, env={**os.environ, **variables}, stdout=log, stderr=log)
    try:
        built = Site(replicas, names, url, root / "memory", encoder, {"Authorization": f"Bearer {key}"})
        built.commit(2)
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.wait_until_ready()
        with load(built):
            wait_until(lambda: all(replica.answered > 0 for replica in replicas))
        yield built
    finally:
        for process in (balancer, *(one.process for one in replicas if one.process)):
            process.kill()
            process.wait()
        names.close()
    assert not [one for one in replicas if "Traceback" in one.log.read_text()]


@contextmanager
def load(site: Site, clients: int = 4) -> Iterator[Seen]:
    """Ask through the balancer, without a pause, until the block ends."""
    seen, done = Seen(), threading.Event()
    body = {"texts": [ASKED] * TEXTS, "k": 2, "return_neighbours": True}

    def ask() -> None:
        with httpx.Client(base_url=site.url, timeout=60, trust_env=False) as client:
            while not done.is_set():
                try:
                    seen.enter(client.post("/embed/text", json=body))
                except httpx.TransportError as error:
                    seen.failed.append(repr(error))

    askers = [threading.Thread(target=ask) for _ in range(clients)]
    for asker in askers:
        asker.start()
    try:
        yield seen
    finally:
        done.set()
        for asker in askers:
            asker.join()


def test_rolling_swaps_lose_no_request_mix_no_answer_and_replicas_agree(site: Site) -> None:
    before = [replica.answered for replica in site.replicas]
    with load(site) as seen:
        for version in range(3, 3 + SWAPS):
            time.sleep(0.3)
            site.commit(version)
            for replica in site.replicas:
                told = httpx.post(f"{replica.url}/operator/reload", headers=site.operator, trust_env=False, timeout=60)
                assert told.json()["changed"], told.text
                time.sleep(0.3)  # one answers from the new version, the other from the old
    assert seen.failed == []
    assert seen.mixed == []
    assert sorted(seen.answers) == list(range(2, 3 + SWAPS))
    for replica, count in zip(site.replicas, before, strict=True):
        assert replica.answered - count > seen.count / 4
    references = {version: vectors[0][0] for version, vectors in seen.answers.items()}
    for version, answers in seen.answers.items():
        np.testing.assert_allclose(
            np.concatenate(answers), np.tile(references[version], (TEXTS * len(answers), 1)), atol=1e-6
        )
    distinct = np.stack(list(references.values()))
    nearest = np.abs(distinct[:, None] - distinct[None]).max(axis=-1) + np.eye(len(distinct))
    assert nearest.min() > 1e-3, "each version refines in its own way"


def test_one_host_maps_the_memory_once(site: Site) -> None:
    """Of what the replicas have mapped of the memory, each page is in RAM once: neither has one for itself."""
    with load(site):
        time.sleep(0.5)
    mapped = [mapped_kib(replica.process.pid, site.memory) for replica in site.replicas]
    total = {name: sum(one[name] for one in mapped) for name in mapped[0]}
    assert total["Rss"] > 2 * PAIRS * 128 * 2 / 1024, "each has searched all texts"
    assert total["Private_Dirty"] == 0
    assert total["Pss"] < 0.6 * total["Rss"], total


def mapped_kib(pid: int, folder: Path) -> dict[str, int]:
    """Sums over the mappings of the files in a folder, as the kernel tells them."""
    sums = dict.fromkeys(("Rss", "Pss", "Private_Dirty"), 0)
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in sums:
            sums[name] += int(rest.split()[0]) if inside else 0
        elif "-" in line.split()[0]:
            inside = str(folder) in line
    return sums


def test_restarting_one_replica_after_the_other_loses_no_request(site: Site) -> None:
    with load(site) as seen:
        for replica in site.replicas:
            assert replica.end(signal.SIGTERM) == 0
            replica.start()
            replica.wait_until_ready()
            wait_until(lambda replica=replica: replica.answered > 0)
    assert seen.failed == []
    assert seen.mixed == []


def test_a_killed_replica_loses_no_request_of_a_text(site: Site) -> None:
    with load(site) as seen:
        time.sleep(0.5)
        site.replicas[0].end(signal.SIGKILL)
        killed_at = seen.count
        time.sleep(2)
        assert seen.count > killed_at
        site.replicas[0].start()
        site.replicas[0].wait_until_ready()
        wait_until(lambda: site.replicas[0].answered > 0)
    assert seen.failed == []


def test_the_balancer_follows_the_name(site: Site) -> None:
    """As with `--scale`: what the name no longer has is asked no more; what it has again is."""
    first = site.replicas[0]
    with load(site):
        for addresses, asked in ((["127.0.0.3"], False), (["127.0.0.2", "127.0.0.3"], True)):
            site.names.addresses = addresses
            time.sleep(5)
            before = first.answered
            time.sleep(1)
            assert (first.answered > before) == asked


@pytest.mark.parametrize("replicas", ["compose.cfg", "hosts.cfg"])
def test_the_configurations_are_valid(replicas: str) -> None:
    variables = {
        "RECO_BALANCER_BIND": "127.0.0.1:8000",
        "RECO_BALANCER_DNS": "127.0.0.11:53",
        "RECO_BALANCER_REPLICAS": "replica:8000",
    }
    files = ["-f", BALANCER / "haproxy.cfg", "-f", BALANCER / replicas]
    checked = subprocess.run(["haproxy", "-c", *files], env=variables | {"PATH": os.environ["PATH"]}, check=False)
    assert checked.returncode == 0
