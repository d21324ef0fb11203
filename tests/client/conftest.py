"""The running service of tests/service, for the client to ask."""

import importlib.util
from pathlib import Path

# Test directories are no packages: the fixtures are taken over from the file next door.
_spec = importlib.util.spec_from_file_location(
    "service_fixtures", Path(__file__).parent.parent / "service" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

memory_dir = _fixtures.memory_dir
own_memory = _fixtures.own_memory
fusion_dir = _fixtures.fusion_dir
make_settings = _fixtures.make_settings
settings = _fixtures.settings
engine = _fixtures.engine
serve = _fixtures.serve
service = _fixtures.service
client = _fixtures.client
