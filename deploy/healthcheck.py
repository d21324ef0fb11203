"""The image's health check: exit code 0 when the service in this container says that it is ready.

Standard library only. http.client rather than urllib.request: it takes no proxy from the environment.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 5  # readiness sends an image and a text through the whole service


def is_ready(port: int) -> bool:
    """Ask /readyz on loopback."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_ready(int(os.environ.get("RECO_PORT") or 8000)))
