"""Samplers of posteriors, where the posterior is known: mixtures under linear measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, solve
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean, mean, share
from fewer.claims.tasks.posterior_beds import PROBLEMS, Problem, problem
from fewer.evaluate.posteriors import energy_distances, fidelity
from fewer.evaluate.statistics.jackknife import student
from fewer.models.linear_posterior import LinearPosterior, moments
from fewer.models.schedules import Flow, Schedule, VarianceExploding, betas, discrete
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.methods.diffpir import DiffPIR
from fewer.tasks.inverse.methods.dps import DPS
from fewer.tasks.inverse.methods.exact import ExactGuidance
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.inverse.methods.pigdm import PiGDM
from fewer.tasks.inverse.methods.red_diff import REDDiff
from fewer.tasks.inverse.methods.split_gibbs import SplitGibbs
from fewer.tasks.inverse.methods.tmpd import TMPD

SCHEDULES: tuple[Schedule, ...] = (discrete(betas("linear")), Flow(), VarianceExploding(0.01, 50.0))
DIM, CALLS, NOISE, EACH, REPEATS = 4, 15, 0.4, 32, 9
MEASUREMENTS, MANY, DRAWS = 24, 96, 32


def apart_of_gaussian(
    method: PosteriorSampler, seed: int, isotropic: float | None, orthogonal: bool, noise: float
) -> list[float]:
    """Root mean square difference of samples to those by the exact data prediction, over the posterior's deviation.

    Of as many Gaussians and measurements under three processes, from the same noise; `noise` is what the method is told.
    """
    found = []
    for number in range(REPEATS):
        prior = GaussianMixture.random(DIM, 1, seed=REPEATS * seed + number)
        if isotropic is not None:
            prior = replace(prior, variances=torch.full((1, DIM), isotropic, dtype=torch.float64))
        generator = torch.Generator().manual_seed(REPEATS * seed + number)
        matrix = torch.randn(2, DIM, dtype=torch.float64, generator=generator)
        if orthogonal:
            matrix = torch.linalg.qr(matrix.T).Q.T
        posterior = LinearPosterior(prior, matrix, NOISE)
        _, y = posterior.measured(1, seed)
        model = Model.from_mixture(prior, SCHEDULES[number % len(SCHEDULES)])

        drawn = partial(solve, model, matrix, y[0].float(), plan=CALLS, n=EACH, seed=seed)
        away = drawn(method=method, noise=noise).samples - drawn(method=ExactGuidance(), noise=NOISE).samples
        deviation = moments(posterior.given(y[0]))[1].trace() / DIM
        found.append(math.sqrt(float(away.double().square().mean() / deviation)))
    return found


def exact_claim(name: str, method: PosteriorSampler, data: str, isotropic: float | None, orthogonal: bool) -> None:
    """Register that a method is exact on some Gaussians; the broken variant is told twice the noise."""

    @claim(
        f"{name}/exact-of-gaussians",
        statement=f"Of {data} its samples are those by the exact E[D | x, y], from the same noise and steps, under VP, VE and "
        f"flow: root mean square difference over the posterior's deviation at {CALLS} calls, geometric mean of {REPEATS} "
        "Gaussians.",
        baseline="the closed-form posterior",
        below=0.02,
    )
    def check(seed: int, sabotage: bool) -> Measured:
        return Measured(geometric_mean(apart_of_gaussian(method, seed, isotropic, orthogonal, (1 + sabotage) * NOISE)))


exact_claim("mmps", MMPS(), "any Gaussian under any linear measurement", None, False)
exact_claim(
    "pigdm",
    PiGDM(variance=0.3, weighting="formula"),
    "N(m, 0.3 I), told its variance, under any linear measurement",
    0.3,
    False,
)
exact_claim("tmpd", TMPD(), "N(m, v I) under measurements of orthonormal rows", 0.3, True)


def distances(
    method: PosteriorSampler, calls: int, seed: int, problems: Sequence[str] = tuple(PROBLEMS), roll: int = 0,
    measurements: int = MEASUREMENTS,
) -> list[float]:  # fmt: skip
    """Energy distances to the exact posteriors on problems in 16 dimensions, all measurements of one after the other."""
    found: list[float] = []
    for name in problems:
        case = problem(16, name)
        _, y, posteriors = case.measured(measurements, seed)
        found += energy_distances(case.samples(y.roll(roll, 0), method, calls, DRAWS, seed), posteriors, seed).tolist()
    return found


@claim(
    "exact-guidance/energy",
    statement="With the exact E[D | x, y] in the place of the data prediction, 100 DDIM steps draw from the posterior: energy "
    "distance, mean over measurements of five problems.",
    baseline="the closed-form posterior; mixture in 16 dimensions",
    below=0.01,
    tier="full",
)
def exact_energy(seed: int, sabotage: bool) -> Measured:
    """Sabotage: other samples' measurements."""
    return Measured(student(distances(ExactGuidance(), 100, seed, roll=int(sabotage))))


@claim(
    "diffpir/against-dps",
    statement="Without a derivative, at 20 calls, its samples are nearer to the exact posteriors than those of DPS at 20: "
    "difference of energy distances, mean over measurements of five problems; each at the best of three settings; beside, at 100 "
    "calls.",
    baseline="DPS on ancestral steps; mixture in 16 dimensions",
    below=0.0,
    tier="full",
)
def diffpir_against_dps(seed: int, sabotage: bool) -> Measured:
    """Sabotage: DiffPIR sees other samples' measurements."""

    def difference(calls: int) -> list[float]:
        made = partial(distances, calls=calls, seed=seed, measurements=MANY)
        mine = _best([made(DiffPIR(weight), roll=int(sabotage)) for weight in (1.0, 3.0, 8.0)])
        its = _best([made(DPS(strength)) for strength in (0.3, 1.0, 3.0)])
        return [a - b for a, b in zip(mine, its, strict=True)]

    return Measured(student(difference(20)), {"at 100 calls": student(difference(100))})


@claim(
    "dps/calibrated",
    statement="At 200 calls the smallest sets that hold 80 % of the exact posterior hold 80 % of its samples, to 5 %: mean over "
    "measurements of super-resolution, at the best of three strengths; beside, the coverage of true values by its central 80 %.",
    baseline="the closed-form posterior; mixture in 16 dimensions",
    above=0.75,
    below=0.85,
    tier="full",
)
def dps_calibrated(seed: int, sabotage: bool) -> Measured:
    """Sabotage: a hundredth of the strength, so that samples are nearly the prior's."""
    case = problem(16, "super-resolution")
    truth, y, posteriors = case.measured(MANY, seed)
    found = [
        fidelity(
            case.samples(y, DPS(strength / (100 if sabotage else 1)), 200, DRAWS, seed), truth, posteriors, seed=seed
        )
        for strength in (0.3, 1.0, 3.0)
    ]
    best = min(found, key=lambda each: abs(each.hpd[0.8].value - 0.8))
    return Measured(best.hpd[0.8], {"coverage of true values": best.coverage[0.8]})


@claim(
    "split-gibbs/converges",
    statement="Four times the calls (50 and 200) at least halve its energy distance to the exact posteriors: ratio of means over "
    "problems, geometric mean of repeated measurements; no derivative is taken. Beside, MMPS, whose error does not fall.",
    baseline="its own error at 50 calls; mixture in 16 dimensions",
    below=0.5,
    tier="full",
)
def gibbs_converges(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the many calls all go to one turn, which does not see the measurement."""
    problems = ("inpaint", "compressed-sensing")
    half = len(problems) * MANY // 2

    def ratios(method: PosteriorSampler, other: PosteriorSampler) -> list[float]:
        few, many = (
            torch.tensor(distances(each, calls, seed, problems, measurements=MANY))
            for each, calls in ((method, 50), (other, 200))
        )
        rows = torch.arange(2 * half).view(-1, 8).T  # eight parts, each with measurements of both problems
        return [float(many[part].mean().clamp_min(1e-4) / few[part].mean()) for part in rows]

    own = SplitGibbs(2)
    found = ratios(own, SplitGibbs(200) if sabotage else own)
    return Measured(geometric_mean(found), {"mmps": geometric_mean(ratios(MMPS(), MMPS()))})


@claim(
    "red-diff/against-dps",
    statement="Its restored samples are nearer to the true ones than those of DPS at equal calls (100), on inpainting and "
    "super-resolution: difference of distances |x^ - x|, mean over measurements; each at the best of three settings. Beside, the "
    "spread of its samples over that of the posterior: the paper's fit is of one point.",
    baseline="DPS on ancestral steps; mixture in 16 dimensions",
    below=0.0,
    tier="full",
)
def red_diff_against_dps(seed: int, sabotage: bool) -> Measured:
    """Sabotage: RED-diff sees other samples' measurements."""
    differences, narrow = [], []
    for name in ("inpaint", "super-resolution"):
        case = problem(16, name)
        truth, y, posteriors = case.measured(MEASUREMENTS, seed)

        mine, x = _nearest(
            case, truth, y.roll(int(sabotage), 0), [REDDiff(weight) for weight in (0.25, 1.0, 4.0)], seed
        )
        its, _ = _nearest(case, truth, y, [DPS(strength) for strength in (0.3, 1.0, 3.0)], seed)
        differences += [a - b for a, b in zip(mine, its, strict=True)]
        spread = x.double().flatten(2).var(1).sum(1).sqrt()
        narrow += [float(own / moments(each)[1].trace().sqrt()) for own, each in zip(spread, posteriors, strict=True)]
    return Measured(student(differences), {"spread over the posterior's": mean(narrow)})


@claim(
    "posterior-fidelity/intervals",
    statement="Of draws of the posterior itself the 95 % intervals of its figures hold what they should (0; the level): share of "
    "intervals that do, of five figures on each of 24 beds of 24 measurements.",
    baseline="the closed-form posterior; random mixtures in 3 dimensions",
    above=0.85,
)
def fidelity_intervals(seed: int, sabotage: bool) -> Measured:
    """Sabotage: draws half as wide."""
    hits, beds = 0, 24
    for number in range(beds):
        own = beds * seed + number
        generator = torch.Generator().manual_seed(own)
        matrix = torch.randn(2, 3, dtype=torch.float64, generator=generator)
        posterior = LinearPosterior(GaussianMixture.random(3, 3, seed=own), matrix, 0.5)
        truth, y = posterior.measured(MEASUREMENTS, own)
        exact = [posterior.given(each) for each in y]
        x = torch.stack([each.sample(16, MEASUREMENTS * own + b)[0] for b, each in enumerate(exact)])
        if sabotage:
            x = x.mean(1, keepdim=True) + (x - x.mean(1, keepdim=True)) / 2
        found = fidelity(x, truth, exact, seed=own)
        right = (
            (found.energy, 0.0),
            (found.mean_error, 0.0),
            (found.stein, 0.0),
            (found.coverage[0.8], 0.8),
            (found.hpd[0.8], 0.8),
        )
        hits += sum(figure.low <= value <= figure.high for figure, value in right)
    return Measured(share(hits, 5 * beds))


def _nearest(
    case: Problem, truth: Tensor, y: Tensor, methods: Sequence[PosteriorSampler], seed: int
) -> tuple[list[float], Tensor]:
    """Mean distances (B) of samples to the true ones, and the samples (B, 8, *shape), of the method whose mean is least."""
    made = [case.samples(y, each, 100, 8, seed) for each in methods]
    errors = [(x.double() - truth[:, None]).flatten(2).norm(dim=2).mean(1).tolist() for x in made]
    at = min(range(len(methods)), key=lambda k: sum(errors[k]))
    return errors[at], made[at]


def _best(of_settings: Sequence[list[float]]) -> list[float]:
    """The distances whose mean is least."""
    return min(of_settings, key=lambda found: sum(found))
