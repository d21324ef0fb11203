"""What `reco doctor` looks at on this machine: versions, device, memory and disk. Each check is one finding.

Loads torch, and nothing else that is heavy.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from models.cores import usable_cores
from reco.counted import counted

State = Literal["good", "note", "bad"]
_PYTHON = (3, 11)
_SHOWN = ("torch", "torchvision", "open_clip_torch", "pyarrow", "fastapi")
_GIB = 1 << 30
_LITTLE_RAM, _LITTLE_DISK = 4 * _GIB, 5 * _GIB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, and what to do if it is not good."""

    what: str
    state: State
    told: str
    advice: str = ""


def look_at_machine() -> Iterator[Finding]:
    """Every finding that needs no settings."""
    yield _python()
    yield from _packages()
    yield from _device()
    yield _ram()
    yield _disk(Path.cwd())


def _python() -> Finding:
    told = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _PYTHON:
        return Finding("Python", "bad", told, "RECO needs Python 3.11 or newer.")
    return Finding("Python", "good", told)


def _packages() -> Iterator[Finding]:
    found = {name: _version(name) for name in _SHOWN}
    told = ", ".join(f"{name} {one}" for name, one in found.items() if one)
    missing = [name for name, one in found.items() if one is None]
    if missing:
        yield Finding("packages", "bad", f"{', '.join(missing)} not installed", "Run `make install`.")
    else:
        yield Finding("packages", "good", f"reco-clip {_version('reco-clip') or 'from a tree'}, {told}")
    yield _faiss()
    if _version("matplotlib") is None:
        yield Finding(
            "plots", "note", "matplotlib is not installed", "For `reco eval -o`: pip install 'reco-clip[eval]'."
        )


def _faiss() -> Finding:
    kinds = {name: one for name in ("faiss-cpu", "faiss-gpu") if (one := _version(name))}
    told = ", ".join(f"{name} {one}" for name, one in kinds.items())
    if len(kinds) == 1:
        return Finding("FAISS", "good", told)
    if kinds:
        return Finding("FAISS", "bad", told, "Both provide the module `faiss`: uninstall one of them.")
    return Finding("FAISS", "bad", "not installed", "Run `make install`, or with EXTRA=gpu for faiss-gpu.")


def _device() -> Iterator[Finding]:
    import torch

    from models.devices import choose_dtype

    cores, usable = os.cpu_count() or 1, usable_cores()
    bf16 = ", with fast bfloat16" if choose_dtype("auto", torch.device("cpu")) == torch.bfloat16 else ""
    yield Finding(
        "CPU",
        "good",
        f"{usable} of {counted(cores, 'core')}{bf16}, {counted(torch.get_num_threads(), 'thread')} for the encoder",
    )
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            told = f"{torch.cuda.get_device_name(number)}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
            yield Finding(f"GPU {number}", "good", told)
        if _version("faiss-gpu") is None:
            yield Finding(
                "search", "note", "on the CPU, though there is a GPU", "`make install EXTRA=gpu` searches there, too."
            )
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "note", "Apple's, which is not used: encoding runs on the CPU")
    else:
        wanted = shutil.which("nvidia-smi") is not None
        advice = "The driver answers, torch does not: is it new enough for CUDA 13?" if wanted else ""
        yield Finding("GPU", "bad" if wanted else "note", "none: encoding runs on the CPU", advice)


def _ram() -> Finding:
    limit = _cgroup_limit()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = _available() or total
    usable = min(available, limit) if limit else available
    told = f"{usable / _GIB:.1f} GiB free of {total / _GIB:.1f} GiB"
    if limit and limit < total:
        told += f", and a limit of {limit / _GIB:.1f} GiB on this process"
    if usable < _LITTLE_RAM:
        return Finding("memory", "note", told, "A service with ViT-B/32 wants about 2 GiB, and a build 2 GiB more.")
    return Finding("memory", "good", told)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            word = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(word) if word.isdigit() else None
    return None


def _disk(place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    told = f"{free / _GIB:.1f} GiB free at {place}"
    if free < _LITTLE_DISK:
        return Finding("disk", "note", told, "A million pairs of ViT-B/32 take about 6 GB with thumbnails.")
    return Finding("disk", "good", told)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
