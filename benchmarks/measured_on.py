"""What figures were measured on, and when: asked of this machine, never written down beforehand."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from typing import Any

import torch

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "faiss-cpu", "faiss-gpu", "pillow", "uvicorn", "fastapi")


def measured_on() -> dict[str, Any]:
    """Machine, date and versions, for a result."""
    can = torch.cpu.get_capabilities()
    flags = [name for name in ("avx2", "avx512_bf16", "avx512_vnni", "amx_bf16") if can.get(name)]
    name = str(can.get("cpu_name", platform.machine()))
    installed = {one.metadata["Name"].lower() for one in distributions()}
    card = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "machine": f"{os.cpu_count()} x86 cores ({name}: {', '.join(flags)}), shared with other work",
        **card,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in _PACKAGES if name in installed}
        | {"python": platform.python_version()},
    }
