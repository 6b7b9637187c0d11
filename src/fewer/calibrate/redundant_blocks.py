"""Which blocks of a network hardly change the representation that flows through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.blocks.find import Block, at_granularity, block, network_of
from fewer.calibrate.block_trajectories import watched
from fewer.errors import InputError, whole
from fewer.evaluate.distances.shape import Form, shape_distance
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part


@dataclass(frozen=True)
class Change:
    """How far a block takes its representation: shape distance of output from input, relative to the input's size."""

    block: str
    distance: Interval


@part(
    "redundant-blocks",
    room="blocks",
    title="Blocks ranked by the shape distance of their output from their input",
    source="Duong et al. 2022, arXiv:2211.11665",
    papers=(133,),
    role="procedure",
)
def redundant_blocks(
    model: Model,
    plan: Plan,
    names: Sequence[str] | None = None,
    noises: int = 32,
    components: int = 16,
    form: Form = "gaussian",
    seed: int = 0,
) -> list[Change]:
    """Residual blocks, those first that change their representation least, along the plan's own trajectories.

    The inputs of the shape distance (`stochastic-shape`) are the plan's rows, whose levels of noise the network is given; the
    responses to one are the hidden vectors at all places (tokens, pixels) of all samples, on their way into the block and out
    of it, in the principal `components` of both together. It is divided by the root mean square of the vectors on their way
    in. That features are near says that the block does little to them up to a rotation, not that the sample is near without
    it: play the plan without a block before leaving it out (`Shortcut({})` in its rows).

    names       of blocks; by default all residual ones of the granularity "layer"
    noises      samples that are played, from the seed's first noises
    Raises InputError for blocks that are not residual, plans of fewer than 8 rows or with rows of more than one pass, and
    noises or components below 1.
    """
    whole("noises", noises)
    whole("components", components)
    chosen = [block(model, name) for name in names or ()] or at_granularity(model, "layer")
    if names is None:
        chosen = [each for each in chosen if each.kind == "residual"]
    if not chosen or any(each.kind != "residual" for each in chosen):
        those = ", ".join(each.name for each in chosen if each.kind != "residual") or "none"
        raise InputError(f"redundant blocks are sought among residual ones, got {those}")
    if any(row.passes != 1 for row in plan.rows):
        raise InputError(f"plan {plan.name!r} has rows of two passes; give one without guidance")
    with _flow(model, chosen) as kept:
        watched(model, plan, (), noises, seed)
    found = [Change(name, _change(*streams, components, form, seed)) for name, streams in kept.items()]
    return sorted(found, key=lambda each: each.distance.value)


@contextmanager
def _flow(model: Model, chosen: Sequence[Block]) -> Iterator[dict[str, tuple[list[Tensor], list[Tensor]]]]:
    """Block -> its vectors (r, c) in each call made meanwhile, on their way in and out."""
    network, hooks = network_of(model), []
    kept: dict[str, tuple[list[Tensor], list[Tensor]]] = {each.name: ([], []) for each in chosen}

    def watch(each: Block) -> None:
        into, out = kept[each.name]
        first, last = (network.get_submodule(each.modules[n]) for n in (0, -1))

        def enters(module: Any, args: Any, kwargs: Any) -> None:
            into.append(_vectors(each.forms[0].taken(args, kwargs)))

        def leaves(module: Any, args: Any, output: Any) -> None:
            out.append(_vectors(each.forms[-1].apart(output)))

        hooks.append(first.register_forward_pre_hook(enters, with_kwargs=True))
        hooks.append(last.register_forward_hook(leaves))

    try:
        for each in chosen:
            watch(each)
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _vectors(streams: Sequence[Tensor | None]) -> Tensor:
    """Hidden vectors (r, c) of streams (n, tokens, c) or (n, c, h, w), those of several streams one after another."""
    there = [stream for stream in streams if stream is not None]
    last = [stream.movedim(1, -1) if stream.ndim == 4 else stream for stream in there]
    return torch.cat([stream.flatten(0, -2).double().cpu() for stream in last])


def _change(into: list[Tensor], out: list[Tensor], components: int, form: Form, seed: int) -> Interval:
    x, y = torch.stack(into), torch.stack(out)
    both = torch.cat([x, y]).flatten(0, 1)
    axes = torch.linalg.svd((both - both.mean(0)).T @ (both - both.mean(0)))[0][:, :components]
    x, y = x @ axes, y @ axes
    size = float(x.square().sum(2).mean().sqrt())
    found: Interval = shape_distance(x, y, form, seed)
    if size == 0:
        return found
    return Interval(found.value / size, found.low / size, found.high / size, found.n)
