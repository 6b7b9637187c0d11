"""Multistep sampling of consistency models: each call's data prediction is noised anew to the next level.

A consistency model D(x, t) gives the end of the flow that passes through x, where a denoiser gives the mean of all data that x
may come from. So its data prediction is a sample, and the next state is that sample with noise of its own. For any levels the
samples are of the data's law where the model is exact: more calls only mend what it errs by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.levels import s_of_tau
from fewer.registry import part
from fewer.solvers.sde.ancestral import Renoises
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector


@part(
    "lcm",
    title="Consistency sampling: the data prediction, noised anew to the next level",
    source="Luo et al. 2023, Latent Consistency Models (algorithm 3), arXiv:2310.04378",
    ranked=False,
)
@dataclass(frozen=True)
class LatentConsistency(Renoises):
    """x' = alpha' D + sigma' z with fresh unit noise z, none on the step to level 0.

    In the flow frame (1 - tau') D + tau' z: the step of diffusers' LCMScheduler and, on flows, FlowMatchLCMScheduler. LCM's
    boundary scalings are left out: c_skip is below 7e-6 from the time 19 on, the cleanest that such models are trained at.

    order  0: of a denoiser the samples do not converge with more calls
    """

    order: int = 0

    def kept(self, here: Level, there: Level) -> float:
        """Nothing."""
        return 0.0


@part(
    "consistency",
    title="Multistep consistency sampling, from a cleanest level above 0",
    source="Song et al. 2023, Consistency Models (algorithm 1), arXiv:2303.01469",
    ranked=False,
)
@dataclass(frozen=True)
class Consistency(OneLevelACall):
    """x' / alpha' = D + sqrt(s'^2 - e^2) z with fresh unit noise z, none on the step to level 0; s = sigma / alpha.

    e is the cleanest level of the model's schedule (0 without one), of which its data predictions are samples: to these only
    what is missing of the noise at s' is added. The step of diffusers' CMStochasticIterativeScheduler.

    order  0, as of `lcm`
    """

    order: int = 0

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        x = trace.start
        for here, there in pairwise(levels):
            data, clean = trace.call(x, here).data, 0.0 if here.schedule is None else s_of_tau(here.schedule.tau_min)
            x = (1 - there.tau) * data
            if there.tau > 0:  # s' (1 - tau') = tau', finite where s' is not
                x = x + math.sqrt(max(there.tau**2 - ((1 - there.tau) * clean) ** 2, 0.0)) * trace.noise()
        return x
