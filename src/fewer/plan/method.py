"""The method that draws from posteriors by a plan: its name, its settings, and the measurement that they were chosen for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from fewer.plan.values import STRICT

Word = Annotated[str, Field(max_length=500)]


@dataclass(frozen=True)
class Method:
    """A posterior sampler in a plan's file; `fewer.solve` plays the plan by it.

    name      of the part
    settings  by their names
    task      the operator in words, as `fewer.solve` takes it; None for one that has no name
    noise     standard deviation of the measurement's noise; None for a map
    """

    __pydantic_config__ = STRICT

    name: Word
    settings: Annotated[Mapping[Word, bool | int | float | Word], Field(max_length=64)] = field(default_factory=dict)
    task: Word | None = None
    noise: Annotated[float, Field(ge=0)] | None = None
