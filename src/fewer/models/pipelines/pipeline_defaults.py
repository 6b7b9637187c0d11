"""Defaults of a diffusers pipeline as a model keeps them; read by `fewer.models.pipelines.defaults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DynamicShift:
    """The shift of levels s' = e^mu s (or s' = mu s) that a pipeline computes for its samples' number of tokens.

    `mu`       None for no shift by the pipeline
    `regular`  whether the pipeline gives its scheduler the levels before the shift: 1, 1 - 1/n, .., 1/n
    """

    mu: float | None
    regular: bool


@dataclass(frozen=True)
class PipelineDefaults:
    """Scheduler of a pipeline by class name and configuration, number of steps, and guidance scale.

    `guidance` is None for a pipeline that does not guide by default, `shift` for one that does not shift levels.
    """

    scheduler: str
    config: dict[str, Any]
    steps: int
    guidance: float | None = None
    shift: DynamicShift | None = None
