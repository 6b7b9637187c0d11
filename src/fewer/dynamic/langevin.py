"""Langevin steps at one level: unadjusted with a step from norms, and adjusted by acceptance.

In the flow frame a state of level tau has the score

    grad log p(x) = -eps / tau = -(x + (1 - tau) u) / tau

and grad log p is nowhere steeper than 1 / tau^2 towards the mode, so that steps are given in units of tau^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewer.batch import inner, norm, per_sample
from fewer.dynamic import Law, Moved
from fewer.errors import InputError
from fewer.registry import part
from fewer.settings import positive

Ratio = Literal["line", "density"]


@part(
    "langevin",
    title="Langevin step of a given signal-to-noise ratio, unadjusted",
    source="Song et al. 2021, Score-Based Generative Modeling through SDEs (corrector), arXiv:2011.13456; "
    "Roberts & Tweedie 1996, doi:10.2307/3318418",
)
@dataclass(frozen=True)
class Langevin:
    """x' = x + h g + sqrt(2 h) z with g = grad log p(x), and h = 2 (snr tau)^2, or by norms h = 2 (snr |z| / |g|)^2.

    snr    positive; 0.16 in the paper. By norms it is the length of h g over that of sqrt(2 h) z, else its mean on pure noise
    norms  |z| / |g| in place of tau, of each sample, so that it does not depend on its batch; the paper takes batch means

    Norms make sense of images: there |g| hardly varies, and is far from 1 / tau per value where the data's variance is.
    Where a sample is of few values g is near 0 now and then, and the step breaks all bounds. Any unadjusted step has a bias
    of first order in h: a Gaussian of variance v becomes one of v / (1 - h / (2 v)).
    """

    snr: float = 0.16
    norms: bool = False

    def __post_init__(self) -> None:
        positive("snr", self.snr)

    @property
    def calls(self) -> int:
        """The score at the state that the step begins with."""
        return 1

    def move(self, law: Law, x: Tensor, score: Tensor, noise: Tensor, log_u: Tensor) -> Moved:
        """Of states (n, *shape); all take the step."""
        ratio = norm(noise) / norm(score).clamp_min(1e-30) if self.norms else law.tau
        root = self.snr * ratio  # sqrt(h / 2)
        return Moved.unadjusted(x + 2 * root**2 * score + 2 * root * noise)


@part(
    "mala",
    title="Metropolis-adjusted Langevin step, the density's ratio from the score along the line or exact",
    source="Roberts & Tweedie 1996, doi:10.2307/3318418; Du et al. 2023, Reduce, Reuse, Recycle (ratio from the score), "
    "arXiv:2302.11552; Lau et al. 2023, Non-Log-Concave and Nonsmooth Sampling via Langevin Monte Carlo, arXiv:2305.15988",
    papers=(122,),
)
@dataclass(frozen=True)
class Mala:
    """y = x + h g(x) + sqrt(2 h) z, taken with probability min(1, r), r = p(y) q(x | y) / (p(x) q(y | x)); h = size tau^2.

    log p(y) - log p(x) is, by `ratio`,

        line     int_0^1 g(x + a (y - x)) . (y - x) da by the trapezoid of g(x) and g(y), which the step needs anyway: exact
                 for Gaussians, of an error |y - x|^3 else; the score of a network need not be a gradient
        density  exact, where the law's density is known (an exact mixture, an energy): detailed balance holds exactly

    A step costs one call, since g(x) is kept from the last one. Raises InputError for a size that is not positive, other
    words, and for `density` on a law without one.
    """

    size: float = 0.5
    ratio: Ratio = "line"

    def __post_init__(self) -> None:
        positive("size", self.size)
        if self.ratio not in ("line", "density"):
            raise InputError(f"ratio is {self.ratio!r}; expected 'line' or 'density'")

    @property
    def calls(self) -> int:
        """The score at the state that is proposed."""
        return 1

    def move(self, law: Law, x: Tensor, score: Tensor, noise: Tensor, log_u: Tensor) -> Moved:
        """Of states (n, *shape), each with its own decision."""
        h = self.size * law.tau**2
        y = x + h * score + math.sqrt(2 * h) * noise
        ahead = law.score(y)
        log_ratio = log_density_ratio(law, x, y, score, ahead, self.ratio)
        accepted = log_u.to(log_ratio) < log_ratio + log_proposal_ratio(x, y, score, ahead, h)
        took = per_sample(accepted, x)
        return Moved(torch.where(took, y, x), torch.where(took, ahead, score), accepted)


def log_proposal_ratio(x: Tensor, y: Tensor, drift_x: Tensor, drift_y: Tensor, h: float) -> Tensor:
    """log q(x | y) - log q(y | x), (n,) in float64, of q(y | x) = N(y; x + h drift(x), 2 h I)."""
    forth, back = y - x - h * drift_x, x - y - h * drift_y
    return ((inner(forth, forth) - inner(back, back)) / (4 * h)).flatten()


def log_density_ratio(law: Law, x: Tensor, y: Tensor, at_x: Tensor, at_y: Tensor, ratio: Ratio) -> Tensor:
    """log p(y) - log p(x), (n,) in float64."""
    if ratio == "line":
        return inner(at_x + at_y, y - x).flatten() / 2
    if law.log_density is None:
        raise InputError("ratio 'density' needs a law whose density is known: an exact mixture's, or one given")
    return (law.log_density(y) - law.log_density(x)).double()
