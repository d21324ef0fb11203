"""The memory that a service serves, wherever the operator keeps it. Depends on memory and settings.

Only RECO_MEMORY names it: nothing that a request says is ever fetched.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memory import Gpu, RemoteMemories, SearchableMemory, latest_version, newest_remote_version, open_memory
from memory.milvus import MilvusServer
from service.settings import Settings, SettingsError

logger = logging.getLogger("reco.served_memory")

_TOLD_EVERY_S = 10.0


def open_served(
    settings: Settings, encoder: Mapping[str, Any] | None = None, gpu: Gpu | None = None
) -> SearchableMemory:
    """The newest version of the memory that the settings name, wherever it is kept; one in a store is fetched.

    Args:
        settings: of the service.
        encoder, gpu: as in open_memory.

    Raises:
        MemoryStoreError: it cannot be opened.
        SettingsError: the file of Milvus' token cannot be read.
    """
    stamps = Path(settings.stamps)
    remote = RemoteMemories(settings.allowed_schemes, Path(settings.remote_cache), stamps, _Told().report)
    milvus = _milvus_server(settings)
    return open_memory(settings.memory, milvus=milvus, encoder=encoder, stamps=stamps, remote=remote, gpu=gpu)


def newest_version(settings: Settings) -> int | None:
    """The newest version there is, in the store or the directory; None where there is none.

    Raises:
        MemoryStoreError: the store cannot be asked.
    """
    if settings.memory_is_remote:
        return newest_remote_version(settings.memory, settings.allowed_schemes)
    return latest_version(Path(settings.memory))


def _milvus_server(settings: Settings) -> MilvusServer | None:
    """Where the memory is kept, if that is Milvus.

    Raises:
        SettingsError: the file of the token cannot be read.
    """
    if settings.backend != "milvus":
        return None
    assert settings.milvus_uri is not None, "the settings were checked"
    return MilvusServer(settings.milvus_uri, _milvus_token(settings), timeout_s=settings.milvus_timeout_s)


def _milvus_token(settings: Settings) -> str | None:
    """Milvus' secret, from the variable or the file; None without one.

    Raises:
        SettingsError: the file cannot be read.
    """
    if settings.milvus_token_file is None:
        return None if settings.milvus_token is None else settings.milvus_token.get_secret_value()
    try:
        return Path(settings.milvus_token_file).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"RECO_MILVUS_TOKEN_FILE cannot be read: {reason}") from None


class _Told:
    """How far a fetch is, in the log now and then."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def report(self, done: int, total: int) -> None:
        if time.monotonic() - self._told_at >= _TOLD_EVERY_S:
            self._told_at = time.monotonic()
            logger.info("fetching the memory: %.1f of %.1f GB", done / 1e9, total / 1e9)
