"""Correctors against the same number of network calls without them, on the exact score and on scores of known error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from fewer import GaussianMixture, standard
from fewer.claims.beds import CHOOSING, CLASSES, EACH, OTHER_NOISE, SAYS, Bed, bed, mean_of, scaled_linear
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import mean
from fewer.dynamic import Corrector, Law, Moved
from fewer.dynamic.langevin import Langevin, Mala
from fewer.dynamic.predictor_corrector import PredictorCorrector
from fewer.models.flawed import Branch, FlawedMixture
from fewer.noise import unit_noise

CALLS, RATIOS, SEEDS = 20, (0.1, 0.2, 0.4), 6
DRAWS, STEPS, SIZE, LEVEL, REPEATED = 4096, 12, 0.6, 0.3, 8
BEDS = {"exact": "the exact score", "rough": SAYS["rough"], "drifting": SAYS["drifting"]}


@cache
def bed_of(name: str) -> Bed:
    """A bed by name, or that of the exact score."""
    if name != "exact":
        return bed(name)
    none = FlawedMixture(CLASSES, Branch(CLASSES), Branch(CLASSES))
    return Bed(none, none.model(scaled_linear(), name="exact"))


@dataclass(frozen=True)
class Away(Langevin):
    """A Langevin step that goes against the score: the broken variant."""

    def move(self, law: Law, x: Tensor, score: Tensor, noise: Tensor, log_u: Tensor) -> Moved:
        """As that of the score with the other sign."""
        return super().move(law, x, -score, noise, log_u)


def corrected(where: Bed, solver: str, corrector: Corrector, seed: int, each: int = EACH) -> Tensor:
    """Samples (classes each, *shape) of the solver with half of the calls, the others the corrector's."""
    plan = standard(solver, where.model, CALLS // 2, "logsnr")
    n = each * where.flawed.classes
    made = PredictorCorrector(plan, corrector).sample(where.model, n, seed=seed, labels=where.labels(n), batch=n)
    return made.x.double()


def equal_calls(name: str, seed: int, sabotage: bool) -> Measured:
    """Energy distance to the truth less that of the predictor alone. Sabotage: steps against the score."""
    where = bed_of(name)
    chosen = min(
        (Langevin(snr, norms=True) for snr in RATIOS),
        key=lambda each: (
            where.distance(corrected(where, "ancestral", each, seed + OTHER_NOISE, CHOOSING), seed + OTHER_NOISE).value
        ),
    )
    own = Away(chosen.snr, norms=True) if sabotage else chosen
    seeds = range(SEEDS * seed, SEEDS * (seed + 1))
    found = mean_of(
        where.nearer(corrected(where, "ancestral", own, k), where.made(where.plain("ancestral", CALLS), k), k)
        for k in seeds
    )
    alone = {solver: where.made(where.plain(solver, CALLS), seeds[0]) for solver in ("ancestral", "ddim")}
    beside: Beside = {
        "snr": chosen.snr, "its distance": where.distance(corrected(where, "ancestral", own, seeds[0]), seeds[0]),
        **{f"{solver} alone": where.distance(x, seeds[0]) for solver, x in alone.items()},
        "mala": where.distance(corrected(where, "ancestral", Mala(), seeds[0]), seeds[0]),
        "on ddim less ddim alone": where.nearer(corrected(where, "ddim", chosen, seeds[0]), alone["ddim"], seeds[0]),
    }  # fmt: skip
    return Measured(found, beside)


for bed_name, called in BEDS.items():
    claim(
        f"predictor-corrector/equal-calls-{bed_name}",
        of=(("dynamic", "predictor-corrector"), ("dynamic", "langevin")),
        statement=f"With {called}, ancestral sampling in {CALLS // 2} rows with a Langevin step at each level, its ratio chosen on "
        f"other noise, is nearer to the true distribution than in {CALLS} rows (difference of energy distances, below 0 where "
        "it is); beside, with mala (size 0.5), and the same on ddim.",
        baseline=f"ancestral sampling with {CALLS} calls, as in the paper's comparison; four classes in 8 dimensions",
        below=0.0,
        tier="full",
    )(partial(equal_calls, bed_name))


def drift_of_density(corrector: Corrector, law: Law, mixture: GaussianMixture, seed: int) -> float:
    """How far the mean of log p moves in some steps from exact draws of the level."""
    x0, noise = mixture.sample(DRAWS, seed)[0], unit_noise(seed, range(DRAWS), mixture.shape).double()
    x = (1 - LEVEL) * x0 + LEVEL * noise
    assert law.log_density is not None
    before, generator = law.log_density(x).mean(), torch.Generator().manual_seed(seed)
    score = law.score(x)
    for _ in range(STEPS):
        z = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        moved = corrector.move(law, x, score, z, torch.rand(len(x), dtype=x.dtype, generator=generator).log())
        x, score = moved.x, law.score(moved.x) if moved.score is None else moved.score
    return float(law.log_density(x).mean() - before)


@claim(
    "mala/invariance",
    statement=f"Exact draws of a mixture at level {LEVEL} keep their law in {STEPS} steps of size {SIZE:g}, with the ratio from "
    f"the score along the line: the mean log density stays within 0.03 nats (mean of {REPEATED} populations of {DRAWS}); beside, "
    "by the exact density, and by unadjusted steps of the same size.",
    baseline="0, the exact invariance; eight Gaussians in the plane",
    above=-0.03,
    below=0.03,
)
def invariance(seed: int, sabotage: bool) -> Measured:
    """Sabotage: every proposal is taken."""
    mixture = GaussianMixture.random((1, 1, 2), components=8, seed=5)
    law = Law(
        LEVEL,
        lambda x: ((1 - LEVEL) * mixture.denoise(x, LEVEL) - x) / LEVEL**2,
        lambda x: mixture.log_prob(x, LEVEL),
    )  # fmt: skip
    kinds: dict[str, Corrector] = {
        "line": Mala(SIZE),
        "density": Mala(SIZE, "density"),
        "unadjusted": Langevin(math.sqrt(SIZE / 2)),
    }
    found = {
        name: mean([drift_of_density(kind, law, mixture, REPEATED * seed + k) for k in range(REPEATED)])
        for name, kind in kinds.items()
    }
    return Measured(found.pop("unadjusted" if sabotage else "line"), dict(found))
