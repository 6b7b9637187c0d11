"""The model and the figures that a command's options ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from fewer.cli.call_values import values_of
from fewer.cli.options import Figures, Guided, Network, Prompted, prompts_of
from fewer.errors import InputError
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.features import read_features
from fewer.images import read_images
from fewer.integrations.engines import solver_of
from fewer.models.load import load
from fewer.models.model import Model
from fewer.models.pipelines.folder import scheduler_of
from fewer.models.pipelines.scheduler_config import schedule_of
from fewer.models.schedules import Schedule
from fewer.plan import Plan
from fewer.sigmas import from_sigmas, is_flow

Scale = TypeVar("Scale", float | None, float | Literal["auto"] | None)


def load_model(
    options: Network, scale: Scale, plans: list[Plan] | None = None, prompt: str | None = None
) -> tuple[Model, Scale]:
    """The model, with the second network if there is one, and the guidance scale that is left for second passes.

    A network that takes the scale as an input leaves none. Raises InputError for a negative prompt where neither a scale nor a
    row of `plans` guides, and where just one of --with and the rows of `plans` calls a second network.
    """
    unguided = scale is None and not any("empty" in row.conditions for plan in plans or [] for row in plan.rows)
    negative = options.negative_prompt if isinstance(options, Prompted) else None
    other = options.other if isinstance(options, Guided) else None
    if negative is not None and unguided:
        raise InputError("--negative-prompt is what guidance leads away from, and nothing guides: give --guidance too")
    model = load(
        options.model, options.device, options.dtype, empty_label=options.empty_label,
        prompts=prompts_of(options.prompts, prompt), negative_prompt=negative,
        call=values_of(options.values),
    )  # fmt: skip
    if other is not None:
        if plans is not None and all(plan.networks == [0] for plan in plans):
            raise InputError(f"--with is {other!r}, and no row of a given plan calls a second model")
        texts: dict[str, Any] = {}
        if model.prompts:
            texts = {"prompts": model.prompts, "negative_prompt": model.negative_prompt}
        call = values_of(options.values)
        if call is not None:  # a pipeline that is called as the first one is
            texts = {"prompts": model.prompts or None, "call": call}
        model = replace(model, others=(load(other, model.device, model.dtype, **texts),))
    for plan in plans or []:
        model.called(max(plan.networks))
    if model.embedded_guidance is None or scale is None or isinstance(scale, str):
        return model, scale
    return model.with_guidance(scale), None


def load_teacher(name: str, model: Model) -> Model:
    """The model of --teacher, of the model's prompts, on its device."""
    return load(name, model.device, model.dtype, prompts=model.prompts or None)


def read_figures(options: Figures, model: Model) -> dict[str, Any]:
    """The arguments data, features, metric and margin of `fewer.tune` and `fewer.compare`."""
    metric = None if options.metric is None else OwnMetric.load(options.metric, model.data_range)
    data = None if options.data is None else read_images(options.data, model)
    features = None
    if options.features is not None:
        if data is None:
            raise InputError("--features are for distances to data: give --data too")
        features = read_features(options.features, data, model.data_range)
    return {"data": data, "features": features, "metric": metric, "margin": options.margin}


def plans_on(lists: Sequence[Sequence[float]], solver: str | None, model: Model, guidance: float | None) -> list[Plan]:
    """The plans of --solver on each of --sigmas. Raises InputError for lists that do not go down to 0 and unknown solvers."""
    name, flow = "euler" if solver is None else solver, is_flow(model.schedule)
    plans = [from_sigmas(sigmas, model, solver_of(name, flow), guidance=guidance) for sigmas in lists]
    return [plan.named(f"{name} sigmas {n}" if len(plans) > 1 else f"{name} sigmas") for n, plan in enumerate(plans, 1)]


def scheduler_or_model(name: str) -> Any:
    """What tells the noise schedule of a model: of a folder in diffusers format its scheduler, without any weights, else the
    model.
    """
    if (Path(name) / "scheduler" / "scheduler_config.json").is_file():
        return scheduler_of(Path(name))
    return load(name)


def schedule_named(name: str) -> Schedule:
    """The noise schedule of a model (see `scheduler_or_model`)."""
    found = scheduler_or_model(name)
    return found.schedule if isinstance(found, Model) else schedule_of(found)[0]
