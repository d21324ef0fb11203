"""An object store for tests: moto's S3-compatible server, in a process of its own on a port of its own."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from served_process import free_port

from memory.stores import stored


class ObjectStore:
    """The server; what it holds goes when it ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self.variables = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = Path(sys.executable).with_name("moto_server")
        command = [program, "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self._process.poll() is None, "moto's server ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError("moto's server did not start")

    def kill(self) -> None:
        """End it as a store that is not reached any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Bucket:
    """A bucket with nothing in it."""

    def __init__(self, client: Any, store: ObjectStore) -> None:
        self.client, self.store = client, store
        self.name = f"bucket-{uuid.uuid4().hex[:12]}"
        client.create_bucket(Bucket=self.name)

    def address(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, data: bytes) -> str:
        """Store an object; its address."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return self.address(key)

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", ())]

    def upload(self, folder: Path, prefix: str) -> str:
        """Store the files of a folder, as docs/object-stores.md says; the address of the folder."""
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not name.startswith("work/"):
                self.put(f"{prefix}/{name}", path.read_bytes())
        return self.address(prefix)


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """The server of this run, which the environment names."""
    store = ObjectStore()
    store.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.variables.items():
            patch.setenv(name, value)
        stored._files.cache_clear()
        yield store
    store.kill()


@pytest.fixture
def bucket(object_store: ObjectStore) -> Bucket:
    """A bucket of this test's own."""
    import boto3

    return Bucket(boto3.client("s3"), object_store)
