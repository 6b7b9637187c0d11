"""Where a pipeline's call begins below pure noise, with data that it noises or samples that another one hands on to it, and where
it ends above the data, with samples that it hands on.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError, foreign
from fewer.levels import log_s, tau_of_log_s
from fewer.models.beginning import Beginning
from fewer.models.denoiser import Denoiser
from fewer.models.pipelines.cut.loop import Cut
from fewer.models.pipelines.cut.network import PipelineNetwork
from fewer.models.pipelines.scheduler_config import explodes, schedule_of

CALLS = 32  # by which samples that are handed on are finished


def beginning_of(pipe: Any, cut: Cut, denoiser: Denoiser) -> Beginning | None:
    """Where the calls of a cut begin; None for pure noise. `denoiser` is of the cut's network."""
    network = denoiser.network
    assert isinstance(network, PipelineNetwork)
    if cut.call.get("denoising_start") is not None:
        return _handed_on(pipe, cut, denoiser, network)
    if cut.data is None or cut.begins is None:
        return None
    times = own_times(pipe, cut)
    first = 0 if "strength" in cut.given else cut.begins * int(getattr(pipe.scheduler, "order", 1))
    level = float(denoiser.schedule.tau(times[min(first, len(times) - 1)]))
    return Beginning(level, _one_each(network, network.sample_states(cut.data)))


def own_times(pipe: Any, cut: Cut) -> list[float]:
    """The times of the pipeline's own scheduler for the cut's call."""
    theirs = copy.deepcopy(pipe.scheduler)
    with foreign(f"the scheduler of {type(pipe).__name__}"):
        theirs.set_timesteps(**cut.given)
    times: list[float] = torch.as_tensor(theirs.timesteps).tolist()
    return times


def _handed_on(pipe: Any, cut: Cut, denoiser: Denoiser, network: PipelineNetwork) -> Beginning:
    """The beginning with samples that another pipeline has left at a level, which are the call's image.

    Other samples of their law are made of theirs, finished, and of noise: each is (1 - tau) D + tau z of the samples D that they
    end at.
    """
    share = cut.call["denoising_start"]
    t = first_below(share, own_times(pipe, cut), pipe.scheduler)
    if t is None:
        raise InputError(f"denoising_start is {share!r}; expected a share in (0, 1) that leaves a step to make")
    tau = float(denoiser.schedule.tau(t))
    exploding = explodes(pipe.scheduler, schedule_of(pipe.scheduler)[0])
    scale = 1 / (1 - tau) if exploding else float(denoiser.affine(tau).c_in)
    states = _one_each(network, network.sample_states(cut.noise)).float() / scale
    return Beginning(tau, finished(denoiser, states, tau), handed_on=True)


def end_of(pipe: Any, cut: Cut, denoiser: Denoiser) -> float:
    """The level at which the calls of a cut end, by `denoising_end`: that of the first of the pipeline's own times below its share;
    0 for the data.
    """
    t = first_below(cut.call.get("denoising_end"), own_times(pipe, cut), pipe.scheduler)
    return 0.0 if t is None else float(denoiser.schedule.tau(t))


def first_below(share: Any, times: Sequence[float], scheduler: Any) -> float | None:
    """The time at which `denoising_end` or `denoising_start` parts falling times, as Stable Diffusion XL has it; None for what is
    no share in (0, 1), whatever the times: those of log(sigma) fall below 0 by themselves.
    """
    if not isinstance(share, float) or not 0 < share < 1:
        return None
    steps = float(scheduler.config.get("num_train_timesteps", 1000))
    below = round(steps - share * steps)
    return next((t for t in times if t < below), None)


def finished(denoiser: Denoiser, x: Tensor, tau: float) -> Tensor:
    """The samples that the flow leads to from states x (K, *shape) of a level, one a label: DDIM on even steps of log s."""
    network = denoiser.network
    labels = None if getattr(network, "classes", None) is None else torch.arange(len(x), device=x.device)
    top, low = float(log_s(tau)), float(log_s(min(denoiser.schedule.tau_min, tau)))
    levels = tau_of_log_s(torch.linspace(top, low, CALLS, dtype=torch.float64)).tolist()
    for here, there in pairwise([*levels, 0.0]):
        x = x + (there - here) * denoiser.velocity(x, here, labels)
    return x


def _one_each(network: PipelineNetwork, states: Tensor) -> Tensor:
    """Of the states (size, *shape) of a call the first of each label; all of a call without labels."""
    return states if network.classes is None else states[:: network.size // network.classes]
