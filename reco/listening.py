"""Whether a port can be listened on, for the commands that say so before a server tries. Standard library only."""

import socket


def why_not(host: str, port: int) -> str | None:
    """What keeps a server from listening there, in the system's words; None if nothing does."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
