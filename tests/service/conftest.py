"""What every service test stands on. See tests/running_service.py."""

from running_service import (  # noqa: F401 - pytest finds fixtures by their names here
    client,
    engine,
    fusion_dir,
    fusion_drawer,
    make_settings,
    memory_dir,
    own_memory,
    pair_adder,
    pairs_writer,
    serve,
    service,
    settings,
)
