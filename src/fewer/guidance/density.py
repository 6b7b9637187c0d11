"""Density guidance: samples carried along to a higher or lower log-density than the flow gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

from torch import Tensor

from fewer.batch import inner
from fewer.errors import InputError
from fewer.guidance.cfg import OnGuided
from fewer.guidance.passes import Passes
from fewer.registry import part


@part(
    "density-guidance",
    title="Density guidance: the score rescaled for a prescribed gain of log-density",
    source="Karczewski et al. 2025, Devil is in the Details: Density Guidance (the deterministic sampler), "
    "arXiv:2502.05807",
    papers=(40,),
)
@dataclass(frozen=True)
class DensityGuidance(OnGuided):
    """eps' = (1 + eta) eps at the same state, eta = sqrt(2 d) Phi^-1(quantile) / |eps|^2, Phi the normal distribution's.

    Under a drift v in the place of u, d log p / dtau = -div u + score (v - u). Of the drifts with a given rate the nearest
    to u moves along the score = -eps / tau; with -sqrt(2 d) Phi^-1(quantile) d log s / dtau beside -div u it is

        v = u + eta eps / (1 - tau)

    so that log p gains sqrt(2 d) Phi^-1(quantile) nats per unit of log s = log tau / (1 - tau) on the way down, whatever
    the divergence, which need not be known. sqrt(2 d) is the deviation of twice the log-density of a Gaussian.

    quantile   in (0, 1): above 1/2 smoother, of higher density; below, more detail; 1/2 is the flow itself
    cfg        scale of the classifier-free guidance that makes u; its passes are this rule's
    low, high  levels tau within which it acts, low < tau <= high < 1: at tau = 1, log s is infinite

    The prescribed gain must be attainable: no state lies above a mode, and a solver's steps resolve eta only where log s
    changes little in one. The paper's sampler with added noise is left out.
    """

    quantile: float
    cfg: float = 1.0
    low: float = 0.0
    high: float = 0.99
    rule: ClassVar[str] = "density-guidance"
    ranges: ClassVar = {"quantile": (0, 1), "low": (0, 1), "high": (0, 1)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantile in (0, 1):
            raise InputError(f"guidance quantile is {self.quantile!r}; expected a number strictly between 0 and 1")
        if self.low >= self.high or self.high == 1:
            raise InputError(f"guidance levels are low {self.low!r} and high {self.high!r}; expected low < high < 1")

    def rate(self, values: int) -> float:
        """Nats gained per unit of log s by samples of so many values."""
        return math.sqrt(2 * values) * NormalDist().inv_cdf(self.quantile)

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        u = self.guided(passes)
        if not self.low < float(passes.tau) <= self.high:
            return u
        eps = passes.noise(u)
        eta = self.rate(eps[0].numel()) / inner(eps, eps).clamp_min(1e-30)
        return u + eta.to(u) / (1 - passes.tau) * eps
