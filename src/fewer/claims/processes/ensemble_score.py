"""Ensemble score sampling on densities that are known: modes that lie apart, and posteriors in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, solve, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.distances.energy import energy_distance
from fewer.models.linear_posterior import LinearPosterior
from fewer.models.schedules import Flow
from fewer.processes.ensemble_score import EnsembleScore, LogDensity
from fewer.tasks.black_box import solve_black_box

DIM, MODES, BEDS, N, TRUE = 3, 3, 6, 64, 1024
ALONE = 16  # particles by themselves, each an ensemble of one
OWN = EnsembleScore(64, 8, 25)
STEPS = (0.15, 0.4, 1.0, 2.5)  # of the random walk
SPREAD = 2.0  # deviation of the modes' means, of which the widest mode has a quarter


def bed(number: int) -> GaussianMixture:
    """Unequal modes that lie apart."""
    shape = GaussianMixture.random(DIM, MODES, seed=number)
    weights = torch.arange(1.0, MODES + 1, dtype=torch.float64)
    narrow = shape.variances / shape.variances.max() * (SPREAD / 4) ** 2
    return GaussianMixture(weights, SPREAD * shape.means, shape.basis, narrow, shape.residual, shape.shape)


def random_walk(log_density: LogDensity, step: float, seed: int) -> Tensor:
    """The last states (N, d) of as many Metropolis chains from N(0, (1 + SPREAD)^2), each of the same evaluations."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(N, DIM, dtype=torch.float64, generator=generator)

    x = (1 + SPREAD) * normal()
    here = log_density(x)
    for _ in range(OWN.evaluations - 1):
        y = x + step * normal()
        there = log_density(y)
        kept = torch.rand(N, dtype=torch.float64, generator=generator).log() < there - here
        x, here = torch.where(kept[:, None], y, x), torch.where(kept, there, here)
    return x


def stretched(log_density: LogDensity, seed: int, a: float = 2.0) -> Tensor:
    """The last states (N, d) of an ensemble of walkers that move along lines through each other (Goodman & Weare 2010)."""
    generator = torch.Generator().manual_seed(seed)
    x = (1 + SPREAD) * torch.randn(N, DIM, dtype=torch.float64, generator=generator)
    here, half = log_density(x), N // 2
    for _ in range(OWN.evaluations - 1):
        for mine, others in ((slice(0, half), slice(half, N)), (slice(half, N), slice(0, half))):
            z = ((a - 1) * torch.rand(half, dtype=torch.float64, generator=generator) + 1).square() / a
            other = x[others][torch.randint(half, (half,), generator=generator)]
            y = other + z[:, None] * (x[mine] - other)
            there = log_density(y)
            chance = (DIM - 1) * z.log() + there - here[mine]
            kept = torch.rand(half, dtype=torch.float64, generator=generator).log() < chance
            x[mine], here[mine] = torch.where(kept[:, None], y, x[mine]), torch.where(kept, there, here[mine])
    return x


@claim(
    "ensemble-score/against-chains",
    statement=f"Of mixtures of {MODES} unequal modes that lie apart, in {DIM} dimensions, {N} samples by values of the density "
    "alone are nearer to the truth than as many Metropolis chains of equal evaluations: difference of energy distances, mean "
    f"over {BEDS} mixtures; beside, an ensemble of walkers, and each particle by itself.",
    baseline=f"a random walk of {OWN.evaluations} evaluations, the best of {len(STEPS)} steps for each mixture",
    below=0.0,
    tier="full",
)
def against_chains(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the ensemble is given the density's square root, under which modes are wider and other weights theirs."""
    differences, walkers, alone, found = [], [], [], []
    for number in range(BEDS):
        own = BEDS * seed + number
        law = bed(own)
        true = law.sample(TRUE, own)[0]

        def away(x: Tensor, true: Tensor = true) -> float:
            return energy_distance(x, true).value

        def drawn(method: EnsembleScore, n: int, law: GaussianMixture = law, own: int = own) -> Tensor:
            return method.sample(lambda x: law.log_prob(x) / (1 + sabotage), DIM, n, scale=1 + SPREAD, seed=own).samples

        found.append(away(drawn(OWN, N)))
        differences.append(found[-1] - min(away(random_walk(law.log_prob, step, own)) for step in STEPS))
        walkers.append(found[-1] - away(stretched(law.log_prob, own)))
        alone.append(found[-1] - away(drawn(EnsembleScore(1, OWN.proposals, OWN.steps), ALONE)))
    return Measured(
        mean(differences),
        {
            "energy distance": mean(found),
            "less that of walkers": mean(walkers),
            "less that of particles by themselves": mean(alone),
        },
    )


@claim(
    "black-box/posterior",
    statement="Without any derivative, of the operator or the network, its samples are nearer to the exact posterior than those of "
    "MMPS, which has both: difference of energy distances, mean over measurements of one of two values of a mixture.",
    baseline="mmps at 100 calls, whose guess of the posterior more calls do not mend; 2 dimensions, 5 modes, plans of 30 "
    "calls",
    below=0.0,
    tier="full",
)
def black_box_posterior(seed: int, sabotage: bool) -> Measured:
    """Sabotage: it sees other measurements."""
    prior = GaussianMixture.random(2, 5, seed=3)
    model = Model.from_mixture(prior, Flow())
    matrix, noise, count = torch.tensor([[1.0, 0.5]], dtype=torch.float64), 0.2, 12
    posterior = LinearPosterior(prior, matrix, noise)
    _, y = posterior.measured(count, seed)
    plan = standard("dpmpp-2m", model, 30, "logsnr")
    differences = []
    for number in range(count):
        true = posterior.given(y[number]).sample(TRUE, number)[0]
        seen = y[(number + sabotage) % count].float()
        mine = solve_black_box(
            model, lambda x: x.detach() @ matrix[0].float()[:, None], seen, plan=plan, method=EnsembleScore(64, 8, 16),
            noise=noise, n=N, seed=seed,
        )  # fmt: skip
        its = solve(model, matrix, y[number].float(), plan=100, method="mmps", noise=noise, n=N, seed=seed)
        differences.append(
            energy_distance(mine.samples.double(), true).value - energy_distance(its.samples.double(), true).value
        )
    return Measured(mean(differences))
