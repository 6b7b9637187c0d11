"""Play a plan in an ordinary diffusers pipeline, and restore the pipeline."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from diffusers import ConfigMixin

from fewer.arguments import as_plan
from fewer.blocks.find import candidates
from fewer.engine import check_fit
from fewer.errors import InputError
from fewer.integrations.hook import guides, needs_hook, networks, unwatch, watch
from fewer.integrations.scheduler import FewerScheduler
from fewer.models.model import Model
from fewer.models.pipelines.cut.fields import hash_of_networks
from fewer.models.pipelines.folder import hash_of
from fewer.plan import Plan

_own: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # schedulers of the pipelines that play a plan


def apply(plan: Plan, pipe: Any, model: Model | None = None) -> None:
    """Make a diffusers pipeline run a plan: `pipe(..., num_inference_steps=len(plan.rows))`, until `unapply(pipe)`.

    The pipeline gets a FewerScheduler. Where rows guide, leave out blocks, or start from more than the noise, its calls are
    played, too (see fewer.integrations.hook). Under a plan that guides the pipeline must be called so that it guides, by any
    scale; under another one it guides as it always does. A plan that was applied before is taken off.

    `model` gives the noise schedule and the hash of the network, where the pipeline's scheduler and folder do not. Warns once
    when the plan was made for another model. Raises InputError for what cannot play the plan: a pipeline whose scheduler
    is not known or whose network is guided by an input of its own, and blocks that the network has not.
    """
    plan = as_plan(plan)
    if not hasattr(pipe, "scheduler"):
        raise InputError(f"pipe is a {type(pipe).__name__} without a scheduler; expected a diffusers pipeline")
    own = _own.get(pipe, pipe.scheduler)
    scheduler = FewerScheduler.from_plan(plan, own if model is None else model)
    _check(plan, pipe)
    _warn_of_fit(plan, pipe, model, scheduler.frame.schedule.describe())
    unapply(pipe)
    if needs_hook(scheduler):
        watch(pipe)
    _own[pipe] = own
    pipe.scheduler = scheduler


def unapply(pipe: Any) -> None:
    """The pipeline as it was before `apply`: its own scheduler object and class. Without a plan, nothing is done."""
    if not hasattr(pipe, "scheduler"):
        raise InputError(f"pipe is a {type(pipe).__name__} without a scheduler; expected a diffusers pipeline")
    unwatch(pipe)
    if pipe in _own:
        pipe.scheduler = _own.pop(pipe)


def _check(plan: Plan, pipe: Any) -> None:
    """Raises InputError for guidance that the pipeline cannot make, and blocks that none of its networks has."""
    found = networks(pipe).values()
    second = any(name.startswith("negative_prompt") for name in inspect.signature(type(pipe).__call__).parameters)
    if guides(plan) and not second and any(_embeds_guidance(network) for network in found):
        raise InputError(
            f"plan {plan.name!r} guides by two passes; the network of {type(pipe).__name__} takes its guidance_scale as "
            "an input: use a plan without guidance"
        )
    there = {name for network in found for name in (*dict(network.named_modules()), *candidates(network))}
    missing = sorted({name for row in plan.rows for name in row.blocks} - there)
    if missing:
        raise InputError(
            f"plan {plan.name!r} names block {missing[0]!r}, which {' and '.join(type(each).__name__ for each in found)} has not"
        )


def _embeds_guidance(network: Any) -> bool:
    return isinstance(network, ConfigMixin) and bool(network.config.get("guidance_embeds"))


def _folder(pipe: Any) -> Path | None:
    """The folder that the pipeline was loaded from, or its network where it is made of another's components; None where neither
    says.
    """
    named = getattr(pipe.config, "_name_or_path", None) or pipe.config.get("_name_or_path")
    if named:
        return Path(str(named))
    paths = [
        path
        for network in networks(pipe).values()
        if (path := getattr(getattr(network, "config", None), "_name_or_path", None))
    ]
    return Path(str(paths[0])).parent if len(paths) == 1 else None


def _warn_of_fit(plan: Plan, pipe: Any, model: Model | None, schedule: str) -> None:
    """Warn where the plan names a model by its hash, and the pipeline's model is another or unknown.

    A plan of which nothing was measured fits an unknown model of the same noise schedule.
    """
    if not plan.model or not (model or plan.model.get("hash") or plan.evidence):
        return
    if model is not None:
        message = check_fit(model, plan)
    else:
        folder = _folder(pipe)
        known = folder is not None and (folder / "model_index.json").is_file()
        if folder is not None and known and hash_of(folder) == plan.model.get("hash"):
            return
        if plan.model.get("hash") and hash_of_networks(pipe) == plan.model["hash"]:  # of Model.from_pipeline
            return
        if not known and not plan.evidence and plan.model.get("schedule") == schedule:
            return
        where = str(folder) if known else f"this {type(pipe).__name__}, as far as is known"
        message = f"plan {plan.name!r} was made for {plan.model.get('name', 'another model')}, not for {where}"
    if message:
        warnings.warn(message, stacklevel=3)
