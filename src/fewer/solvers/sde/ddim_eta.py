"""DDPM, DDIM with eta and Euler ancestral: a step down without noise, and a part of it up again with fresh noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from fewer.errors import InputError
from fewer.registry import part, variant
from fewer.settings import share
from fewer.solvers.sde.ancestral import Ancestral
from fewer.solvers.sde.fresh import KeepsNoise, kept_by_eta, ratio
from fewer.solvers.trace import Level, Trace, Vector

DDPM_SOURCE = "Ho et al. 2020, DDPM (algorithm 2), arXiv:2006.11239"


@part(
    "ddim-eta",
    title="DDIM with a share eta of DDPM's noise",
    source="Song et al. 2021, DDIM, arXiv:2010.02502",
    ranked=False,
)
@dataclass(frozen=True)
class DDIMEta(KeepsNoise):
    """x' = (1 - tau') D + tau' (k eps + sqrt(1 - k^2) z) with k = sqrt(1 - eta^2 (1 - s'^2 / s^2)), s = sigma / alpha.

    Song et al.'s equation 12 with sigma_t of equation 16, which is sigma' sqrt(1 - k^2) for every eta; k-diffusion's Euler
    ancestral is the same table, whatever the process. No noise on the step to level 0.

    eta  0 to 1: 0 is DDIM, 1 is DDPM
    """

    eta: float = 0.5
    order: int = 1

    def __post_init__(self) -> None:
        share("eta", self.eta)

    def kept(self, here: Level, there: Level) -> float:
        """The share of the noise that a step keeps."""
        return kept_by_eta(self.eta, here, there)


EulerAncestral = variant(
    DDIMEta, "euler-ancestral", "Euler ancestral, whatever the process",
    "`ddim-eta` with eta = 1: Euler's step down to s_d = s'^2 / s, and noise of sqrt(s'^2 - s_d^2) up to s'.",
    source="Crowson et al., k-diffusion (euler_ancestral); Song et al. 2021, DDIM, arXiv:2010.02502", eta=1.0,
)  # fmt: skip


@part(
    "euler-ancestral-flow",
    title="Euler ancestral of flows: the lower level in proportion in tau",
    source="Comfy Org, ComfyUI (euler_ancestral on flows)",
    ranked=False,
)
@dataclass(frozen=True)
class EulerAncestralFlow(DDIMEta):
    """Euler's step down to tau_d = tau' (1 - eta (1 - tau' / tau)), and noise up to tau': k = s_d / s'.

    eta  0 to 1: 0 is Euler's method, 1 goes down by the same factor in tau twice
    """

    eta: float = 1.0

    def kept(self, here: Level, there: Level) -> float:
        """s_d / s' of the level tau_d."""
        return kept_by_flow(self.eta, here, there)


def kept_by_flow(eta: float, here: Level, there: Level) -> float:
    """s_d / s' with tau_d / tau' = 1 - eta (1 - tau' / tau); 1 on the step to level 0."""
    if there.tau == 0 or eta == 0:
        return 1.0
    down = 1 - eta * (1 - there.tau / here.tau)
    return down * (1 - there.tau) / (1 - down * there.tau)


@part("ddpm", title="Ancestral sampling of DDPM, with either of its variances", source=DDPM_SOURCE, ranked=False)
@dataclass(frozen=True)
class DDPM(Ancestral):
    """The posterior's mean with noise of one of the two variances that DDPM names.

    variance  small  that of the posterior, exact for data of one point: the table of `ancestral`
              large  beta' = 1 - alpha^2 / alpha'^2 of the variance-preserving process, exact for data of unit variance
    """

    variance: Literal["small", "large"] = "small"

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large"):
            raise InputError(f"variance is {self.variance!r}; expected 'small' or 'large'")

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        if self.variance == "small":
            return super().run(trace, levels, calls)
        x = trace.start
        for here, there in pairwise(levels):
            out, r = trace.call(x, here), ratio(here, there)
            x = (1 - there.tau) * out.data + there.tau * r * out.noise
            if there.tau > 0:  # s'^2 (1 - r^2) (1 + 1 / s'^2) / (1 + 1 / s^2) in units of alpha'
                up = (1 - r**2) * (there.tau**2 + (1 - there.tau) ** 2)
                x = x + math.sqrt(up / (1 + (1 / here.tau - 1) ** 2)) * trace.noise()
        return x
