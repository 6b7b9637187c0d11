"""The models that commands work on: the one that is named, told what was asked, with a second one beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fewer.errors import InputError
from fewer.models.load import load
from fewer.models.model import Model
from fewer.plan import Plan


def beside(other: str | None, model: Model) -> Model:
    """The model with the second one that rows may call, of the same prompts."""
    if other is None:
        return model
    told: dict[str, Any] = {"prompts": model.prompts, "negative_prompt": model.negative_prompt} if model.prompts else {}
    return replace(model, others=(load(other, model.device, model.dtype, **told),))


def beside_in(plans: list[Plan], other: str | None, model: Model) -> Model:
    """The model with the second one, which some row of the plans must call; without one, no row may."""
    if other is not None and all(plan.networks == [0] for plan in plans):
        raise InputError(f"--with is {other!r}, and no row of a given plan calls a second model")
    model = beside(other, model)
    for plan in plans:
        model.called(max(plan.networks))
    return model


def told_scale(model: Model, scale: float | None) -> tuple[Model, float | None]:
    """The model, told a scale that its network takes as an input, and the scale that is left for second passes."""
    if model.embedded_guidance is None or scale is None:
        return model, scale
    return model.with_guidance(scale), None


def check_negative(prompt: str | None, scale: float | str | None, plans: list[Plan]) -> None:
    """InputError for a negative prompt where neither a scale nor a row of a plan guides: it would not be heeded."""
    guided = scale is not None or any("empty" in row.conditions for plan in plans for row in plan.rows)
    if prompt is not None and not guided:
        raise InputError("--negative-prompt is what guidance leads away from, and nothing guides: give --guidance too")
