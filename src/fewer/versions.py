"""Versions of what decides the figures, and the machine."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

PACKAGES = ("fewer", "torch", "diffusers", "numpy", "scipy", "optuna")


def versions() -> dict[str, str]:
    """Versions of what decides the figures, and the machine's kind."""
    found = {name: metadata.version(name) for name in PACKAGES}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {**found, "python": platform.python_version(), "device": device, "threads": str(torch.get_num_threads())}
