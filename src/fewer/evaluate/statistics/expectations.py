"""Several expectations from one adaptive sample, such as how often several faults occur among samples, without bias.

The rarer of them would need many samples each by plain Monte Carlo; here all share one sample, drawn where they matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.twosample import Z
from fewer.registry import part

ROUND, LEAST = 0.1, 200  # share of the budget that a round of adaptation takes; and samples of it
DEFENSIVE = 0.2  # share of the sampling density that is the law itself: no weight exceeds 1 / DEFENSIVE
PRIOR = 2  # effective samples a dimension that the law's own covariance counts for where a Gaussian is fitted
SURE = 3  # rounds before the variance that they let expect is believed

Functions = Callable[[Tensor], Tensor]  # (n, d) to (n, J)


@dataclass(frozen=True)
class Law:
    """A distribution in R^d that can be drawn from and has a density.

    draw         (n, generator) -> samples (n, d), float64
    log_density  samples (n, d) -> (n,)
    """

    draw: Callable[[int, torch.Generator], Tensor]
    log_density: Callable[[Tensor], Tensor]

    @classmethod
    def normal(cls, mean: Tensor, cov: Tensor) -> Law:
        """N(mean, cov), of mean (d,) and covariance (d, d)."""
        mean, root = mean.double(), torch.linalg.cholesky(cov.double())
        constant = float(root.diagonal().log().sum()) + len(mean) / 2 * math.log(2 * math.pi)

        def draw(n: int, generator: torch.Generator) -> Tensor:
            x: Tensor = mean + torch.randn(n, len(mean), generator=generator, dtype=torch.float64) @ root.T
            return x

        def log_density(x: Tensor) -> Tensor:
            logs: Tensor = (
                -torch.linalg.solve_triangular(root, (x - mean).T, upper=False).square().sum(0) / 2 - constant
            )
            return logs

        return cls(draw, log_density)

    @classmethod
    def standard(cls, d: int) -> Law:
        """The law of starting noise, N(0, I) in R^d."""
        return cls.normal(torch.zeros(d), torch.eye(d))


@dataclass(frozen=True)
class Expectations:
    """What came out.

    values     one a function, with 95 % intervals; n is the number of samples of the final stage
    adaptive   samples that the adaptation took
    rounds     of adaptation
    """

    values: tuple[Interval, ...]
    adaptive: int
    rounds: int


@part(
    "adaptive-expectations",
    title="Several expectations from one adaptive importance sample with control variates",
    source="Demange-Chryst et al. 2022, arXiv:2212.00568",
    papers=(216,),
    role="procedure",
)
def expectations(functions: Functions, law: Law, budget: int, seed: int = 0) -> Expectations:
    """E phi_j(X), j = 1 .. J, of X with density f, from `budget` evaluations of all functions at once.

    functions  x (n, d) -> (phi_1 .. phi_J)(x), (n, J), called a round at a time
    law        of X: `Law.standard(d)` for starting noise

    Were the J densities g_j = |phi_j| f / E |phi_j| known, sampling from their mixture g, with as control variates what
    each g_k / g exceeds 1 by, would leave no variance for phi_j >= 0:

        phi_j f / g - E phi_j (g_j / g - 1) = E phi_j

    Here g_k are Gaussians of the mean and covariance of |phi_k| f, fitted anew after each round on all samples so far,
    f itself has 20 % of the mixture, so that no weight f / g exceeds 5, and the coefficients of g_k / g - 1 and f / g - 1
    are those of the regression on the adaptation's samples. A round takes a tenth of the budget (at least 200). Rounds
    end when, from the third on, the variance that they let expect of the final stage, s^2 / (samples left), has not fallen,
    summed over the functions in units of plain Monte Carlo's, and before half the budget at the latest. What is left is
    drawn from the last g, and nothing is fitted to it: the estimates are unbiased, and their intervals the normal ones.

    Of use in few dimensions, where Gaussians can find what matters; elsewhere it costs the adaptation's share of the budget.
    A function that was 0 on all samples of the adaptation is estimated from the law's share of the rest alone.
    The Gaussians, the law's own share and the sizes of rounds are this package's choices.
    Raises InputError for a budget below 1000 and values that are not finite or of another shape.
    """
    if budget < 5 * LEAST:
        raise InputError(f"budget must be at least {5 * LEAST}, got {budget}")
    generator = torch.Generator().manual_seed(seed)
    size = max(LEAST, int(ROUND * budget))
    seen, chosen, expected = _Seen(law), _Mixture(law, ()), [math.inf]
    while len(seen.x) + size <= budget / 2:
        seen.add(functions, chosen, size, generator)
        chosen = seen.fitted()
        spread = seen.variance(chosen) / seen.variance(_Mixture(law, ())).clamp_min(1e-300)
        expected.append(float(spread.sum()) / (budget - len(seen.x)))
        if seen.rounds >= SURE and expected[-1] >= expected[-2]:
            break
    coefficients = seen.coefficients(chosen)
    x = chosen.draw(budget - len(seen.x), generator)
    estimates = _weighed(_values(functions, x), law, chosen, x) - chosen.variates(x) @ coefficients
    mean, reach = estimates.mean(0), Z * estimates.std(0) / math.sqrt(len(x))
    values = tuple(Interval(m, m - r, m + r, len(x)) for m, r in zip(mean.tolist(), reach.tolist(), strict=True))
    return Expectations(values, len(seen.x), seen.rounds)


class _Mixture:
    """The sampling density: the law, and Gaussians, in equal shares of what `DEFENSIVE` leaves."""

    def __init__(self, law: Law, others: tuple[Law, ...]) -> None:
        self.components = (law, *others)
        shares = [DEFENSIVE, *[(1 - DEFENSIVE) / len(others)] * len(others)] if others else [1.0]
        self.shares = torch.tensor(shares, dtype=torch.float64)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Independent samples (n, d)."""
        counts = torch.multinomial(self.shares, n, True, generator=generator).bincount(minlength=len(self.shares))
        return torch.cat([c.draw(int(k), generator) for c, k in zip(self.components, counts, strict=True)])

    def logs(self, x: Tensor) -> Tensor:
        """Log densities of the components (n, K)."""
        return torch.stack([each.log_density(x) for each in self.components], 1)

    def log_density(self, x: Tensor) -> Tensor:
        """Of the mixture (n,)."""
        return (self.logs(x) + self.shares.log()).logsumexp(1)

    def variates(self, x: Tensor) -> Tensor:
        """g_k / g - 1 of all components but the last, which the others give: of mean 0 under g, (n, K - 1)."""
        logs = self.logs(x)
        return ((logs - (logs + self.shares.log()).logsumexp(1, keepdim=True)).exp() - 1)[:, :-1]


class _Seen:
    """The samples of the adaptation, the functions there, and the log density that each round drew from."""

    def __init__(self, law: Law) -> None:
        self.law, self.rounds = law, 0
        self.x, self.phi = torch.empty(0), torch.empty(0)
        self.drawn: list[_Mixture] = []

    def add(self, functions: Functions, proposal: _Mixture, n: int, generator: torch.Generator) -> None:
        """A round of n samples; all rounds are of one size."""
        x = proposal.draw(n, generator)
        phi = _values(functions, x)
        self.x, self.phi = (x, phi) if not self.rounds else (torch.cat([self.x, x]), torch.cat([self.phi, phi]))
        self.drawn.append(proposal)
        self.rounds += 1

    def weights(self) -> Tensor:
        """f / (mean of the rounds' densities) (n,): all samples as one from the rounds' mixture (Veach & Guibas 1995)."""
        logs = torch.stack([each.log_density(self.x) for each in self.drawn]).logsumexp(0) - math.log(self.rounds)
        return (self.law.log_density(self.x) - logs).exp()

    def fitted(self) -> _Mixture:
        """The mixture of the law and a Gaussian for each function that was not 0 everywhere."""
        weights = self.weights()
        by = [w for w in (weights[:, None] * self.phi.abs()).T if float(w.sum()) > 0]
        around = self._moments(weights)[1]
        return _Mixture(self.law, tuple(self._gaussian(w, around) for w in by))

    def _moments(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted mean and covariance."""
        w = w / w.sum()
        centred = self.x - w @ self.x
        return w @ self.x, (w[:, None] * centred).T @ centred

    def _gaussian(self, w: Tensor, around: Tensor) -> Law:
        """Of the weighted moments; few effective samples leave much of the law's own covariance."""
        mean, cov = self._moments(w)
        effective, prior = float(w.sum() ** 2 / w.square().sum()), PRIOR * len(cov)
        return Law.normal(mean, (effective * cov + prior * around) / (effective + prior))

    def _under(self, g: _Mixture) -> tuple[Tensor, Tensor, Tensor]:
        """Weights g / (the rounds' mixture), and under g the functions' estimates and the variates."""
        weights = self.weights() * (g.log_density(self.x) - self.law.log_density(self.x)).exp()
        return weights / weights.sum(), _weighed(self.phi, self.law, g, self.x), g.variates(self.x)

    def coefficients(self, g: _Mixture) -> Tensor:
        """Of the variates (K, J), by weighted least squares with an intercept."""
        w, y, v = self._under(g)
        centred_y, centred_v = (w.sqrt()[:, None] * (z - w @ z) for z in (y, v))
        solution: Tensor = torch.linalg.lstsq(centred_v, centred_y, driver="gelsd").solution
        return solution

    def variance(self, g: _Mixture) -> Tensor:
        """Of one sample's estimates under g, after the variates, (J,)."""
        w, y, v = self._under(g)
        rest = y - v @ self.coefficients(g)
        return w @ (rest - w @ rest).square()


def _weighed(phi: Tensor, law: Law, g: _Mixture, x: Tensor) -> Tensor:
    """phi f / g (n, J)."""
    return phi * (law.log_density(x) - g.log_density(x)).exp()[:, None]


def _values(functions: Functions, x: Tensor) -> Tensor:
    phi = functions(x)
    if phi.ndim != 2 or len(phi) != len(x) or not phi.isfinite().all():
        raise InputError(f"functions must return finite values ({len(x)}, J), got {tuple(phi.shape)}")
    return phi.detach().to("cpu", torch.float64)
