"""Whether a port can be listened on, and who does: for the commands that say so before a server tries.

Standard library only.
"""

import http.client
import json
import socket
from typing import Any

_WAIT_S = 2.0
_MOST_BYTES = 4 << 20
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - whoever listens everywhere is asked on loopback


def why_not(host: str, port: int) -> str | None:
    """What keeps a server from listening there, in the system's words; None if nothing does."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def who_serves(host: str, port: int) -> str | None:
    """What a RECO that listens there says of itself; None if nobody answers in time, or something else does."""
    at = _HERE.get(host, host), port
    ready = _asked(*at, "/readyz")
    if ready.get("status") == "ready" and "memory_version" in ready:
        state = f"memory version {ready['memory_version']}"
    elif ready.get("code") == "not_ready":
        state = f"not ready: {ready.get('reason') or ready.get('detail')}"
    else:
        return None
    info = _asked(*at, "/openapi.json").get("info")
    version = f" {info['version']}" if isinstance(info, dict) and "version" in info else ""
    return f"RECO{version} serves there, {state}"


def _asked(host: str, port: int, path: str) -> dict[str, Any]:
    """The JSON object of an answer, whatever its status; nothing if there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=_WAIT_S)
    try:
        connection.request("GET", path)
        told = json.loads(connection.getresponse().read(_MOST_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return told if isinstance(told, dict) else {}
