"""docs/settings.md, made from the settings themselves: `python -m service.documents.settings_page > docs/settings.md`.

Depends on settings only. A test holds the page to the code.
"""

import sys
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import PREFIX, Settings

_HEAD = """# Settings

Made from `service/settings.py`, do not edit it by hand: `python -m service.documents.settings_page > docs/settings.md`.

Each is an environment variable of the service; `reco serve --help` shows those that are options too, and an option
wins. A name that is not known is refused, with the nearest one that is. `reco serve --show-config`, or
`RECO_SHOW_CONFIG=1`, prints those in force, secrets masked, and exits. Sizes are in bytes, times in seconds.

| variable | default | |
|---|---|---|
"""


def render_settings() -> str:
    """The page."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return _HEAD + "\n".join(rows) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    told = (field.description or "").replace("|", "\\|")
    return f"| `{PREFIX}{name.upper()}` | {_default(field)} | {told} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if field.default_factory is not None:
        return "by the machine"
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(render_settings())
