"""Pipelines with two networks and a boundary (Wan 2.2): one for the noisy times, the other for those below it.

Which of them makes a step is the pipeline's decision: the first at times t of at least boundary_ratio times the number of training
times. A copy of the pipeline whose ratio is 0 has the first make all steps, one whose ratio is above 1 the other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewer.models.denoiser import Network
from fewer.models.pipelines.cut.loop import Cut
from fewer.models.pipelines.cut.network import PipelineNetwork


@dataclass(frozen=True)
class Experts:
    """The two networks of a pipeline that takes the first at network times of at least `boundary`, each as called at all times."""

    boundary: float
    networks: Callable[[], tuple[Network, Network]]


NOISY, CLEAN = 1, 2  # numbers of the networks of rows that one expert alone makes; 0 is whichever the pipeline takes
ALWAYS, NEVER = 0.0, 2.0  # ratios at which the first expert makes all steps, and none


def boundary(pipe: Any) -> float | None:
    """The boundary between the times of two experts, as a share of the training times; None for a pipeline without them."""
    ratio = getattr(pipe, "config", {}).get("boundary_ratio")
    second = getattr(pipe, "transformer_2", None)
    return None if ratio is None or second is None or getattr(pipe, "transformer", None) is None else float(ratio)


def of_one_expert(pipe: Any, call: Mapping[str, Any], own: PipelineNetwork) -> tuple[PipelineNetwork, PipelineNetwork]:
    """The pipeline's loop with each of its experts in turn for all steps."""
    made = []
    for ratio in (ALWAYS, NEVER):
        alone = copy.copy(pipe)
        alone.register_to_config(boundary_ratio=ratio)
        made.append(PipelineNetwork(Cut(alone, dict(call)), own.classes, own.size, own.copies))
    return made[0], made[1]


def ratio_between(times: Sequence[float], networks: Sequence[int], steps: int) -> float | None:
    """The boundary at which rows of these times (falling, of `steps` training times) call these experts; None for none, where the
    first expert has a row below one of the other's.
    """
    first = sum(network == NOISY for network in networks)
    if list(networks) != [NOISY] * first + [CLEAN] * (len(networks) - first):
        return None
    if first == 0:
        return NEVER
    if first == len(networks):
        return ALWAYS
    return (times[first - 1] + times[first]) / 2 / steps
