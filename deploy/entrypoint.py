"""The image's entry point: `prepare` finds a memory or makes the demo's; anything else is a `reco` command.

`serve` with no RECO_MEMORY serves the demo that `prepare` made. Depends on the memory room, to find a memory, and on
the demo room, to know which demo is this image's.
"""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

DEMOS = Path("/data/demo")
# RECO_NAME=value lines, and the last thing that `reco demo` writes: with it the demo is complete.
SETTINGS = "serve.env"
OF_A_MEMORY = ("RECO_MODEL", "RECO_PRETRAINED", "RECO_FUSION")
OPTIONS_OF_A_MEMORY = {"--memory", "--model", "--pretrained", "--fusion", "--help", "-h"}  # nothing is served for help


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Prepare, or become the `reco` command that the arguments ask for."""
    if list(arguments) == ["prepare"]:
        prepare(environ)
        return
    if serves_what_settings_name(arguments) and demo_wanted(environ):
        settings = demo_settings(demo_directory())
        if settings is None:
            stop(f"no RECO_MEMORY is set and there is no demo at {demo_directory()}. Run `prepare` first to make it.")
        environ = {**environ, **settings}
    become(*arguments, environ=environ)


def serves_what_settings_name(arguments: Sequence[str]) -> bool:
    """Whether to serve, where no option says what: an option wins, and half of it must not be the demo's."""
    given = {argument.partition("=")[0] for argument in arguments[1:]}
    return list(arguments[:1]) == ["serve"] and not given & OPTIONS_OF_A_MEMORY


def prepare(environ: Mapping[str, str]) -> None:
    """See to it that there is something to serve."""
    if not demo_wanted(environ):
        say(check_own(environ))
        return
    demo = demo_directory()
    if demo_settings(demo) is not None:
        say(f"found the demo {demo}")
    else:
        become("demo", "--directory", str(demo), "--no-serve", "--no-table", environ=environ)


def demo_directory() -> Path:
    """Where this image's demo lies: a volume outlives an upgrade, and a memory of another encoder would be refused."""
    from demo.clip import tiny_clip_directory

    encoder = hashlib.sha256((tiny_clip_directory() / "SHA256SUMS").read_bytes()).hexdigest()
    return DEMOS / f"{version('reco-clip')}-{encoder[:8]}"


def demo_wanted(environ: Mapping[str, str]) -> bool:
    """Whether no memory is named; half a configuration ends the process, for the demo would hide the mistake."""
    if environ.get("RECO_MEMORY"):
        return False
    for name in OF_A_MEMORY:
        if environ.get(name):
            stop(f"{name} is set but RECO_MEMORY is not. Name a memory, or unset {name} to get the demo.")
    return True


def check_own(environ: Mapping[str, str]) -> str:
    """End the process unless what the settings name is there, which `reco serve` checks in depth; what was found.

    A memory in Milvus or in an object store is left to `serve`: nothing here may use the network.
    """
    from memory import MemoryStoreError, is_address, list_versions

    memory = environ["RECO_MEMORY"]
    elsewhere = environ.get("RECO_BACKEND") == "milvus" or is_address(memory)
    try:
        if not elsewhere and not list_versions(Path(memory)):
            stop(f"no memory at RECO_MEMORY={memory}. Build one there with `reco build`, or unset RECO_MEMORY.")
    except MemoryStoreError as error:
        stop(f"RECO_MEMORY={memory} cannot be opened: {error}.{advice(error.__cause__, memory)}")
    fusion = environ.get("RECO_FUSION")
    try:
        if fusion and not Path(fusion).is_dir():
            stop(f"no fusion checkpoint at RECO_FUSION={fusion}. Train one there with `reco train`, or unset it.")
    except OSError as error:
        stop(f"RECO_FUSION={fusion} cannot be opened: {error.strerror}.{advice(error, fusion)}")
    if not environ.get("RECO_MODEL"):
        stop(f"RECO_MEMORY={memory} needs RECO_MODEL: the model that its pairs were encoded with.")
    return f"the memory {memory} is not on this disk: serve looks for it" if elsewhere else f"found the memory {memory}"


def advice(error: BaseException | None, path: str) -> str:
    """What to do about a folder that shuts out the image's user, as those of a host often do."""
    if not isinstance(error, PermissionError):
        return ""
    return f" The container is uid 10001 and must be able to read it: chmod -R a+rX {path}"


def demo_settings(directory: Path) -> dict[str, str] | None:
    """What to serve the demo with, as `reco demo` left it; None if it is not complete.

    A release before this one could leave a file that was cut, even empty, when the power went.
    """
    try:
        text = (directory / SETTINGS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    lines = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
    settings = {name: value for name, value in lines if value}
    return settings if text.endswith("\n") and {"RECO_MODEL", "RECO_MEMORY"} <= set(settings) else None


def become(*arguments: str, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process, so that signals and the exit code are `reco`'s own."""
    os.execvpe("reco", ["reco", *arguments], dict(environ))


def say(sentence: str) -> None:
    """A line for the container's log."""
    sys.stdout.write(f"reco: {sentence}\n")


def stop(sentence: str) -> NoReturn:
    """End with a sentence for the person who reads the container's log."""
    sys.exit(f"reco: {sentence}")


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
