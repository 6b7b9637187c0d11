"""Interpolants on velocity fields without divergence, whose law from one time to the next is exact in Fourier space."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean, mean
from fewer.evaluate.forecasts import crps
from fewer.evaluate.statistics.jackknife import student
from fewer.tasks.series.interpolants import Drift, Interpolant, divergence_free, unchanged, wave_numbers

SIZE, STEPS, NOISE = 8, 4, 0.3
PAIRS, STARTS, HORIZON, REPEATS = 512, 8, 40, 5


@dataclass(frozen=True)
class Field:
    """A stationary Gaussian field (2, SIZE, SIZE) that a mean flow carries along, that decays and is driven, wave by wave.

    Of each wave k the velocity, along its one direction without divergence, goes from v to r_k v + sqrt(p_k (1 - r_k^2)) z,
    r_k = exp(-(0.02 |k|^2 + i k.U)).
    """

    @cached_property
    def _waves(self) -> tuple[Tensor, Tensor, Tensor]:
        first, second = wave_numbers(SIZE, SIZE)
        square = first**2 + second**2
        power = torch.where(square > 0, 4.0 * torch.exp(-square / 4), 0.0)  # p_k, in units of white noise
        decay = torch.exp(-0.02 * square)
        return power, decay, torch.exp(-1j * (0.6 * first + 0.3 * second))

    def _times(self, x: Tensor, gain: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x.double()) * gain).real.to(x)

    def ahead(self, x: Tensor) -> Tensor:
        """E[x_1 | x_0] of fields (n, 2, SIZE, SIZE)."""
        _, decay, turn = self._waves
        return self._times(x, decay * turn)

    def drawn(self, n: int, seed: int) -> Tensor:
        """Fields (n, 2, SIZE, SIZE) of the stationary law."""
        z = torch.randn(n, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        return self._times(divergence_free(z), self._waves[0].sqrt())

    def after(self, x: Tensor, seed: int) -> Tensor:
        """A draw of the next field for each."""
        _, decay, _ = self._waves
        return self.ahead(x) + self._times(self.drawn(len(x), seed), (1 - decay**2).sqrt())

    def drift(self, own: Interpolant) -> Drift:
        """The exact E[R | I_s = X, x_0] for noise without divergence."""
        power, decay, _ = self._waves
        q = power * (1 - decay**2)

        def exact(x: Tensor, x0: Tensor, s: float) -> Tensor:
            (a, da), (b, db), (c, dc) = own.alpha(s), own.beta(s), own.gamma(s)
            mean = self.ahead(x0)
            away = x - a * x0 - b * mean
            seen = b**2 * q + c**2 * s
            gain = torch.where(seen > 0, (db * b * q + dc * c * s) / seen.clamp_min(1e-30), 0.0)
            return da * x0 + db * mean + self._times(away, gain)

        return exact


FIELD = Field()


def coefficients(seed: int) -> tuple[Interpolant, Interpolant]:
    """The usual interpolant, and the one that is consistent in energy, from pairs of fields."""
    usual = Interpolant(noise=NOISE)
    x0 = FIELD.drawn(PAIRS, 90_000 + seed)
    return usual, usual.energy_consistent(x0, FIELD.after(x0, 91_000 + seed), project=divergence_free)


def energy(x: Tensor) -> Tensor:
    """|x|^2 / 2 of fields (.., 2, H, W)."""
    return x.double().square().sum((-3, -2, -1)) / 2


@claim(
    "energy-interpolant/rolls-out",
    statement=f"After {HORIZON} times of {STEPS} calls each its fields have the energy of the process more nearly than "
    "those of the usual interpolant, with the exact drift of each: ratio of errors of the mean energy, geometric mean of "
    "five sets of starts.",
    baseline="alpha = 1 - s, beta = s; a stationary field on a torus, carried along and driven",
    below=1.0,
)
def rolls_out(seed: int, sabotage: bool) -> Measured:
    """Sabotage: coefficients with the opposite signs."""
    usual, fitted = coefficients(seed)
    if sabotage:
        fitted = replace(fitted, a=tuple(-each for each in fitted.a), b=tuple(-each for each in fitted.b))
    truth = float(energy(FIELD.drawn(20_000, 5)).mean())
    errors: dict[str, list[float]] = {"usual": [], "fitted": []}
    for number in range(REPEATS):
        start = FIELD.drawn(STARTS, REPEATS * seed + number)
        for name, own in (("usual", usual), ("fitted", fitted)):
            x = own.draw(
                FIELD.drift(own),
                start,
                HORIZON,
                steps=STEPS,
                n=4,
                seed=REPEATS * seed + number,
                project=divergence_free,
            )
            errors[name].append(abs(float(energy(x[:, :, HORIZON // 2 :]).mean()) / truth - 1))
    ratios = [a / b for a, b in zip(errors["fitted"], errors["usual"], strict=True)]
    return Measured(geometric_mean(ratios), {f"{name}: relative error": mean(each) for name, each in errors.items()})


@claim(
    "energy-interpolant/forecasts",
    statement=f"One time ahead, with {STEPS} calls of its exact drift, it forecasts better than the usual interpolant: "
    f"difference of CRPS.",
    baseline="alpha = 1 - s, beta = s, as many calls; a stationary field on a torus, carried along and driven",
    below=0.0,
)
def forecasts(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the drift of other starts."""
    usual, fitted = coefficients(seed)
    start = FIELD.drawn(96, seed)
    truth = FIELD.after(start, 7_000 + seed)
    found = []
    for own, moved in ((fitted, int(sabotage)), (usual, 0)):
        x = own.draw(FIELD.drift(own), start.roll(moved, 0), 1, steps=STEPS, n=12, seed=seed, project=divergence_free)
        found.append(crps(x[:, :, 0], truth).flatten(1).mean(1))
    mine, its = found
    exact = torch.stack([FIELD.after(start, 8_000 + k) for k in range(12)], 1)
    beside = {"energy-consistent": mine, "usual": its, "exact": crps(exact, truth).flatten(1).mean(1)}
    return Measured(student((mine - its).tolist()), {name: student(each.tolist()) for name, each in beside.items()})


@claim(
    "energy-interpolant/divergence",
    statement=f"Fields stay without divergence over {HORIZON} times: root mean square of the divergent part over that "
    "of the field, geometric mean over starts.",
    baseline="0, up to rounding; a stationary field on a torus, carried along and driven",
    below=1e-5,
)
def divergence(seed: int, sabotage: bool) -> Measured:
    """Sabotage: nothing is projected."""
    _, fitted = coefficients(seed)
    start = FIELD.drawn(STARTS, seed)
    project = unchanged if sabotage else divergence_free
    x = fitted.draw(FIELD.drift(fitted), start, HORIZON, steps=STEPS, n=1, seed=seed, project=project)[:, 0, -1]
    away = x - divergence_free(x)
    shares = (energy(away).sqrt() / energy(x).sqrt()).clamp_min(math.ulp(1.0))
    return Measured(geometric_mean(shares.tolist()))
