"""Density guidance on exact models: the gain of log-density that is wanted against the one that comes out."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, sample, standard
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.exact import images, mixture_of
from fewer.claims.repeated import geometric_mean
from fewer.evaluate.probability_flow.likelihood import divergence
from fewer.evaluate.statistics.interval import Interval
from fewer.guidance import guide
from fewer.guidance.density import DensityGuidance
from fewer.levels import s_of_tau, tau_of_s
from fewer.models.schedules import Flow
from fewer.noise import unit_noise

RULE, ROWS, NOISES = DensityGuidance(0.55, high=0.9), 40, 64
MODELS, EACH, COARSE, FINE = 32, 16, 20, 160


def states(model: Model, plan: Plan, noise: Tensor) -> list[Tensor]:
    """The states before each row, in float64."""
    seen: list[Tensor] = []
    sample(model, plan, noise=noise, callback=lambda row, x, data: seen.append(x.double()))
    return seen


def wanted(rule: DensityGuidance, plan: Plan, values: int) -> float:
    """Nats from the first row in which the rule acts to the last row's level."""
    levels = [float(row.tau) for row in plan.rows if float(row.tau) <= rule.high]
    first, last = (s_of_tau(tau) for tau in (levels[0], levels[-1]))
    return rule.rate(values) * math.log(first / last)


@claim(
    "density-guidance/gain",
    statement=f"At quantile {RULE.quantile:g} on mixture16 the gain of log-density over the flow's own, from equal noise at the "
    f"last row's level, is the asked one: median ratio of {NOISES} noises, within 10 %. Beside, at the opposite quantile, the "
    "mean (a sample that ends in another component gains what that one has), and the gain asked, in nats.",
    baseline=f"the exact density; dpmpp-2m of {ROWS} rows",
    above=0.9,
    below=1.1,
)
def gain(seed: int, sabotage: bool) -> Measured:
    """The broken variant goes the other way."""
    model, noise = images(), unit_noise(seed, range(NOISES), images().shape)
    plan = standard("dpmpp-2m", model, ROWS, "logsnr")
    own, last = states(model, plan, noise)[-1], float(plan.rows[-1].tau)
    density = mixture_of(model).to(dtype=torch.float64).log_prob
    less = DensityGuidance(1 - RULE.quantile, high=RULE.high)
    found = []
    for rule in (RULE, less):
        end = states(model, guide(plan, rule), noise)[-1]
        found.append((density(end, last) - density(own, last)) / wanted(rule, plan, end[0].numel()))
    more, fewer = found
    beside: Beside = {
        "opposite quantile": median(fewer), "mean": float(more.mean()), "asked": wanted(RULE, plan, noise[0].numel()),
    }  # fmt: skip
    return Measured(median(-fewer if sabotage else more), beside)


def median(x: Tensor) -> Interval:
    """With the interval of order statistics, of at least 95 % whatever the distribution."""
    ordered, n = x.sort().values.tolist(), len(x)
    k = max(int(stats.binom.ppf(0.025, n, 0.5)) - 1, 0)
    return Interval(float(x.quantile(0.5)), ordered[k], ordered[n - 1 - k], n)


@claim(
    "density-guidance/steps",
    statement=f"What log-density gains along a guided path beyond the flow's -div u nears the asked: its error at "
    f"{FINE} rows over that at {COARSE} (root mean square; geometric mean over {MODELS} mixtures in 4 dimensions).",
    baseline=f"its own error at {COARSE} rows; exact densities and divergences, ddim",
    below=0.75,
)
def steps(seed: int, sabotage: bool) -> Measured:
    """The broken variant forgets the divergence."""
    ratios, fine = [], []
    for number in range(MODELS):
        exact = GaussianMixture.random((1, 2, 2), components=4, seed=MODELS * seed + number)
        model = Model.from_mixture(exact, Flow(), dtype=torch.float64)
        noise = unit_noise(MODELS * seed + number, range(EACH), model.shape)
        errors = [_error(model, exact, rows, noise, sabotage) for rows in (COARSE, FINE)]
        ratios.append(errors[1] / errors[0])
        fine.append(errors[1])
    return Measured(geometric_mean(ratios), {f"error at {FINE} rows, nats": geometric_mean(fine)})


def _error(model: Model, exact: GaussianMixture, rows: int, noise: Tensor, sabotage: bool) -> float:
    """Of log p(last) - log p(first) + int div u dtau, against the wanted gain, along levels 0.9 to 0.1."""
    levels = torch.logspace(math.log10(9), math.log10(1 / 9), rows, dtype=torch.float64)
    rule = DensityGuidance(0.52, high=0.95)
    plan = guide(standard("ddim", model, rows, tau_of_s(levels).tolist()), rule)
    path, taus = states(model, plan, noise), [float(row.tau) for row in plan.rows]
    gained = exact.log_prob(path[-1], taus[-1]) - exact.log_prob(path[0], taus[0])
    if not sabotage:
        slopes = torch.stack([divergence(model, x, tau)[:, 0] for x, tau in zip(path, taus, strict=True)])
        gained = gained + torch.trapezoid(slopes, torch.tensor(taus, dtype=torch.float64), dim=0)
    return float((gained - wanted(rule, plan, 4)).square().mean().sqrt())
