"""Play a plan in an ordinary diffusers pipeline, and restore the pipeline."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from diffusers import ConfigMixin, DiffusionPipeline

from fewer.blocks.find import candidates
from fewer.engine import check_fit
from fewer.errors import InputError
from fewer.integrations.front import as_front, of_quality
from fewer.integrations.handing_on import may_hand_on
from fewer.integrations.hook import guides, needs_hook, networks, unwatch, watch
from fewer.integrations.scheduler import LISTS, FewerScheduler
from fewer.integrations.split import split_of
from fewer.models.model import Model
from fewer.models.pipelines.cut.fields import hash_of_networks
from fewer.models.pipelines.experts import boundary
from fewer.models.pipelines.network_files import hash_of, is_pipeline
from fewer.models.pipelines.origin import folder_of
from fewer.models.pipelines.scheduler_config import check_one_scheduler
from fewer.plan import Plan

REMAKING = ("DDIMPipeline", "PNDMPipeline")  # those that make a scheduler of their own class of any that they are given


@dataclass
class _Applied:
    """own, played  the pipeline's own scheduler, and the one that plays the plan in its place
    ratio           the pipeline's own boundary between its two experts, where the plan has moved it; None where it has not
    inner           pipelines inside of the pipeline that step by the same scheduler
    """

    own: Any
    played: FewerScheduler
    inner: list[Any]
    ratio: float | None = None


_applied: WeakKeyDictionary[Any, _Applied] = WeakKeyDictionary()


def apply(
    plan: Plan | Sequence[Any], pipe: Any, model: Model | None = None, *,
    quality: Literal["draft", "standard", "high"] | None = None,
) -> None:  # fmt: skip
    """Make a diffusers pipeline run a plan: `pipe(..., num_inference_steps=len(plan.rows))`, until `unapply(pipe)`.

    Of a front (`result.front`, or a list of plans of different numbers of rows), `num_inference_steps` chooses the plan; or here
    `quality`: "draft" the one of fewest rows, "standard" the middle one, "high" that of most.

    The pipeline gets a FewerScheduler, and so do pipelines inside of it that share its own scheduler (combined ones). Where rows
    guide, leave out blocks, or start from more than the noise, its calls are played, too (see fewer.integrations.hook). Under a
    plan that guides the pipeline must be called so that it guides, by any scale; under another one it guides as it always does. A
    plan that was applied before is taken off; a scheduler that was set meanwhile counts as the pipeline's own.

    A plan whose rows name the expert that they call, of a pipeline with two and a boundary (Wan 2.2), moves that boundary.

    `model` gives the noise schedule and the hash of the network, where the pipeline's scheduler and folder do not. Warns once
    when the plan was made for another model. Raises InputError for what cannot play the plan: a pipeline whose scheduler
    is not known or whose network is guided by an input of its own, and blocks that the network has not.
    """
    plans = of_quality(as_front(plan), quality)
    check_one_scheduler(pipe)
    own = _own_scheduler(pipe)
    plans, ratio = split_of(plans, pipe, own if model is None else model)
    scheduler = FewerScheduler.from_plan(plans, own if model is None else model)
    scheduler.call_takes = tuple(name for name in LISTS if name in inspect.signature(type(pipe).__call__).parameters)
    scheduler.remade_by = next((each.__name__ for each in type(pipe).__mro__ if each.__name__ in REMAKING), None)
    for each in plans:
        each.check_plain()
        _check(each, pipe)
    for each in {(str(each.model), bool(each.evidence)): each for each in plans}.values():
        _warn_of_fit(each, pipe, model, scheduler.frame.schedule.describe())
    unapply(pipe)
    inner = _inner(pipe, own)
    _applied[pipe] = _Applied(own, scheduler, inner, None if ratio is None else boundary(pipe))
    if ratio is not None:
        pipe.register_to_config(boundary_ratio=ratio)
    for playing in (pipe, *inner):
        playing.scheduler = scheduler
        if needs_hook(scheduler) or may_hand_on(playing):
            watch(playing)


def unapply(pipe: Any) -> None:
    """The pipeline as it was before `apply`: its own scheduler object and class. Without a plan, nothing is done.

    A scheduler that was set after `apply` stays. A pipeline that was loaded or copied with a plan gets a scheduler made anew
    from its own one's configuration.
    """
    own = _own_scheduler(pipe)
    was = _applied.pop(pipe, None)
    unwatch(pipe)
    if was is not None:
        if was.ratio is not None:
            pipe.register_to_config(boundary_ratio=was.ratio)
        for each in (pipe, *was.inner):
            unwatch(each)
            if each.scheduler is was.played:
                each.scheduler = was.own
    elif isinstance(own, FewerScheduler):
        pipe.scheduler = own.own()


def _own_scheduler(pipe: Any) -> Any:
    """The pipeline's scheduler without a plan; also one that has been set since."""
    if not hasattr(pipe, "scheduler"):
        raise InputError(f"pipe is a {type(pipe).__name__} without a scheduler; expected a diffusers pipeline")
    was = _applied.get(pipe)
    return was.own if was is not None and pipe.scheduler is was.played else pipe.scheduler


def _inner(pipe: Any, own: Any) -> list[Any]:
    """Pipelines inside of a pipeline that step by its scheduler. Raises InputError where they all have schedulers of their own."""
    found = {name: part for name, part in vars(pipe).items() if isinstance(part, DiffusionPipeline)}
    sharing = [part for part in found.values() if getattr(part, "scheduler", None) is own]
    if found and not sharing:
        raise InputError(
            f"{type(pipe).__name__} steps by schedulers of pipelines inside of it: apply the plan to one of {', '.join(found)}"
        )
    return sharing


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


def _warn_of_fit(plan: Plan, pipe: Any, model: Model | None, schedule: str) -> None:
    """Warn where the plan names a model by its hash, and the pipeline's model is another or unknown.

    A plan of which nothing was measured fits an unknown model of the same noise schedule.
    """
    if not plan.model or not (model or plan.model.get("hash") or plan.evidence):
        return
    if model is not None:
        message = check_fit(model, plan)
    else:
        folder = folder_of(pipe)
        known = is_pipeline(folder)
        if is_pipeline(folder) and hash_of(folder) == plan.model.get("hash"):
            return
        if plan.model.get("hash") and hash_of_networks(pipe) == plan.model["hash"]:  # of Model.from_pipeline
            return
        if not known and not plan.evidence and plan.model.get("schedule") == schedule:
            return
        where = str(folder) if known else f"this {type(pipe).__name__}, as far as is known"
        message = f"plan {plan.name!r} was made for {plan.model.get('name', 'another model')}, not for {where}"
    if message:
        warnings.warn(message, stacklevel=3)
