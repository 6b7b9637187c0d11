"""Proximal Langevin chains on Laplace's law, whose quantiles are known, each at the step that is best on other noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.dynamic import Corrector, Law
from fewer.dynamic.bregman import BregmanLangevin, Hyperbolic
from fewer.dynamic.proximal import Myula, l1_prox

CHAINS, STEPS, DIM, REPEATED = 1000, 100, 10, 8
SIZES = (0.003, 0.01, 0.03, 0.1, 0.3)
RATES = torch.arange(1, DIM + 1, dtype=torch.float64)  # of the values: scales from 1 to a tenth
SAME = torch.ones(DIM, dtype=torch.float64)

Make = Callable[[float], Corrector]


def subgradient(x: Tensor, smoothing: float, rates: Tensor) -> Tensor:
    """x - l sign(x) rate: with it the step follows a subgradient of g, as plain Langevin does."""
    return x - smoothing * rates * x.sign()


def distance(corrector: Corrector, rates: Tensor, seed: int, flipped: bool = False) -> float:
    """Wasserstein-1 distance of chains' ends to exp(-sum rates |x|), in units of each value's scale, averaged over values."""
    generator = torch.Generator().manual_seed(seed)
    law = Law(1.0, torch.zeros_like, lambda x: torch.zeros(len(x), dtype=x.dtype))
    x = torch.randn(CHAINS, DIM, dtype=torch.float64, generator=generator)
    for _ in range(STEPS):
        z = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        log_u = torch.rand(CHAINS, dtype=x.dtype, generator=generator).log()
        x = corrector.move(law, x, torch.zeros_like(x), 2 * z if flipped else z, log_u).x
    u = (torch.arange(CHAINS, dtype=torch.float64) + 0.5) / CHAINS - 0.5
    exact = -u.sign() * torch.log1p(-2 * u.abs())
    return float(((x * rates).sort(0).values - exact[:, None]).abs().mean())


def best(make: Make, rates: Tensor, seed: int, sizes: Sequence[float] = SIZES) -> Corrector:
    """The corrector of the size that comes nearest, on noise of its own."""
    return min((make(size) for size in sizes), key=lambda each: distance(each, rates, seed + 1_000_000))


def compared(mine: Make, its: Make, others: Mapping[str, Make], rates: Tensor, seed: int, sabotage: bool) -> Measured:
    """Ratio of distances, geometric mean over independent chains. Sabotage: twice the noise."""
    own, other = best(mine, rates, seed), best(its, rates, seed)

    def found(corrector: Corrector, broken: bool = False) -> list[float]:
        return [distance(corrector, rates, REPEATED * seed + k, broken) for k in range(REPEATED)]

    one, two = found(own, sabotage), found(other)
    beside: Beside = {"distance": geometric_mean(one), "its": geometric_mean(two)}
    rest = {name: geometric_mean(found(best(make, rates, seed))) for name, make in others.items()}
    return Measured(geometric_mean([a / b for a, b in zip(one, two, strict=True)]), {**beside, **rest})


def penalty(rates: Tensor) -> Callable[[Tensor], Tensor]:
    """sum rates |x|."""
    return lambda x: (rates * x.abs()).sum(1)


def plain(size: float, rates: Tensor) -> Corrector:
    """Unadjusted, along a subgradient."""
    return Myula(partial(subgradient, rates=rates), size)


def smooth(size: float, rates: Tensor) -> Corrector:
    """Unadjusted, along the envelope of l = h."""
    return Myula(l1_prox(rates), size, size)


@claim(
    "myula/laplace",
    statement=f"On {DIM} independent Laplace values {STEPS} unadjusted steps along the envelope end nearer to the law than along a "
    "subgradient (ratio of Wasserstein-1 distances, each at its best of five sizes); beside, adjusted steps.",
    baseline="unadjusted Langevin along a subgradient, equally many steps",
    below=1.0,
)
def laplace(seed: int, sabotage: bool) -> Measured:
    """Envelope against subgradient."""
    rates = SAME
    adjusted = {"adjusted": lambda size: Myula(l1_prox(rates), size, size, penalty(rates), "density")}
    return compared(partial(smooth, rates=rates), partial(plain, rates=rates), adjusted, rates, seed, sabotage)


@claim(
    "bregman-langevin/anisotropic",
    statement=f"On {DIM} independent Laplace values of scales 1 to 1/{DIM}, {STEPS} steps in the hyperbolic mirror of these scales "
    "end nearer to the law than steps along the Moreau envelope (ratio of Wasserstein-1 distances in units of the scales, each at "
    "its best of five sizes); beside, along the envelope in values that are scaled alike.",
    baseline="Moreau-Yosida Langevin in the plane, equally many steps, which knows no scales",
    below=1.0,
)
def anisotropic(seed: int, sabotage: bool) -> Measured:
    """Mirror against plane."""
    mirror = Hyperbolic(1 / RATES)

    def mirrored(size: float) -> Corrector:
        return BregmanLangevin(mirror.l1_prox(RATES), mirror, size, size)

    scaled = best(partial(smooth, rates=SAME), SAME, seed)
    alike = geometric_mean([distance(scaled, SAME, REPEATED * seed + k) for k in range(REPEATED)])
    others = {"along a subgradient": partial(plain, rates=RATES)}
    found = compared(mirrored, partial(smooth, rates=RATES), others, RATES, seed, sabotage)
    return found.with_beside({"along the envelope, scaled": alike})
