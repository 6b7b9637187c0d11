"""How a plan begins in a pipeline, whose first samples are unit noise."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from fewer.engine import begin
from fewer.errors import InputError
from fewer.plan import Plan, Start

NEAR = 1e-2  # pipelines that start from z itself, as diffusers' own samplers for pixels do, are this near to c scale z


def first_state(plan: Plan, noise: Tensor) -> Tensor:
    """The plan's first state, float32, from unit noise. Noise that its start adds is of one law with a larger scale."""
    start, z = plan.check(tuple(noise.shape[1:])).start, noise.float()
    if isinstance(start.noise, Tensor) or start.noise != 0:
        if start.directions is not None or isinstance(start.scale, Tensor) or isinstance(start.noise, Tensor):
            raise InputError(f"plan {plan.name!r} starts from two noises; a scheduler has one")
        start = Start(start.tau, math.hypot(start.scale, start.noise), offset=start.offset)
    return begin(replace(plan, start=start), z, lambda: z)


def is_plain(plan: Plan, input_scale: float, within: float = 1e-6) -> bool:
    """Whether the network's first input is unit noise itself, but for `within` of its scale."""
    start = plan.start
    if start.directions is not None or isinstance(start.offset, Tensor) or start.offset != 0:
        return False
    if isinstance(start.scale, Tensor) or isinstance(start.noise, Tensor):
        return False
    return abs(input_scale * math.hypot(start.scale, start.noise) - 1) < within


def check_scaled(plan: Plan, input_scale: float, scaled: Tensor | None, sample: Tensor) -> None:
    """Raises InputError where the plan's start was not made of the sample alone, and is not near to unit noise. Warns where it is
    near to that, and was not made.

    scaled  what has been made of the plan's start for the network, which may order a sample's axes otherwise (videos whose frames
            are rows of `sample`); None where the pipeline gives its network the noise itself
    """
    if is_plain(plan, input_scale, NEAR):
        if scaled is None and not is_plain(plan, input_scale):
            warnings.warn(
                f"plan {plan.name!r} does not start from the noise as it is, and this pipeline gives its network just that, which "
                "is nearly the same: fewer.apply(plan, pipe) starts as the plan does (of a pipeline that was loaded with its plan, "
                "fewer.apply(pipe.scheduler.plans, pipe))",
                stacklevel=2,
            )
        return
    if scaled is None:
        raise InputError(
            f"plan {plan.name!r} does not start from the noise as it is, and nothing in this pipeline scales it: fewer.apply(plan, "
            "pipe) puts a hook on its network that does; elsewhere play a plan that starts at the noisiest level"
        )
    if not _holds(scaled.shape[1:], sample.shape[1:]):
        raise InputError(
            f"plan {plan.name!r} does not start from the noise as it is, and this pipeline gives its network more than the noise "
            f"({tuple(scaled.shape)} for a sample of {tuple(sample.shape)}): play a plan that starts at the noisiest level"
        )


def _holds(many: Sequence[int], few: Sequence[int]) -> bool:
    """Whether each of the few numbers is among the many, as often."""
    return not Counter(few) - Counter(many)
