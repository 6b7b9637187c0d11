"""Versions of the packages that figures depend on, and the machine."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

PACKAGES = ("fewer", "torch", "diffusers", "numpy", "scipy", "sqlalchemy")


def versions() -> dict[str, str]:
    """Name -> version of the packages, with Python, the device and the number of threads."""
    import torch  # here alone: the record of claims is read without it

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        **_packages(),
        "python": platform.python_version(),
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


@cache  # each is looked for on the whole path
def _packages() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}
