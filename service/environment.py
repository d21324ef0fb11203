"""From the environment to settings and back: names that are checked, errors in words. Depends on settings only.

Nobody else in the service reads `os.environ`.
"""

import difflib
import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from service.settings import PREFIX, Settings, SettingsError

# Where and who, for the client and the commands that ask a service; the service itself does not look at them.
OF_THE_CLIENT = frozenset({"RECO_URL", "RECO_API_KEY", "RECO_API_KEY_FILE"})
SHOW_CONFIG = "RECO_SHOW_CONFIG"  # handled by `reco serve`: print the effective settings and exit


def load_settings(
    environ: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None, **flags: Any
) -> Settings:
    """Settings from command-line flags, then the environment, then defaults.

    Args:
        environ: The environment to check for unknown `RECO_*` names; the process's own by default.
        options: What settings are called on the command line, to be named before their variables.
        **flags: Settings given on the command line; None means "not given".

    Raises:
        SettingsError: An unknown `RECO_*` variable, a missing setting or a value out of bounds.
    """
    _refuse_unknown(os.environ if environ is None else environ)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)
        problems = "; ".join(_problem(item["loc"], item["type"], item["msg"], options or {}) for item in told)
        raise SettingsError(f"settings not accepted: {problems}") from None


def _problem(place: tuple[int | str, ...], kind: str, message: str, options: Mapping[str, str]) -> str:
    """What is wrong with a setting, and how to give it: by its option if it has one, and its variable."""
    if not place:
        return message.removeprefix("Value error, ")  # of pydantic; ours names the variables
    variable = f"{PREFIX}{'_'.join(map(str, place)).upper()}"
    option = options.get(str(place[0]))
    name = f"{option} ({variable})" if option else variable
    return f"{name} is needed" if kind == "missing" else f"{name}: {message}"


def show_settings(settings: Settings) -> str:
    """The effective settings as `RECO_NAME=value` lines, ready to be read back from a file; secrets are masked."""
    from memory.milvus.connection import without_password

    values = settings.model_dump(mode="json")
    if settings.milvus_uri is not None:
        values["milvus_uri"] = without_password(settings.milvus_uri)
    return "\n".join(f"{PREFIX}{name.upper()}={_as_variable(value)}" for name, value in values.items())


def _as_variable(value: str | float | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    """A misspelt variable must not pass silently as "the default is in force"."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {SHOW_CONFIG} | OF_THE_CLIENT
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)
        raise SettingsError(f"unknown setting {name}; did you mean {nearest[0]}?")
