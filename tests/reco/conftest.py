"""The running service, for the commands that ask one. See tests/running_service.py."""

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
