"""Few standard plans for searches to rank, for promises that do not depend on how many there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

FEW = {"solvers": ("ddim", "dpmpp-2m", "heun", "unipc"), "grids": ("karras", "logsnr", "quadratic", "uniform")}


def keep_few(patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """From now on, in this process, searches rank the plans of these solvers on these grids alone."""
    registry = importlib.import_module("fewer.registry")

    def few(room: str | None = None) -> list[Any]:
        return [part for part in registry.parts(room) if part.name in FEW.get(part.room, (part.name,))]

    for name in ("fewer.samplers", "fewer.search.forecast"):
        patch(importlib.import_module(name), "parts", few)
