"""Measures the statistics of DPM-Solver-v3 along a model's own trajectories.

They are l, s and b (`fewer.solvers.ode.dpm_v3`) at each level and for each pixel, of f = r eps - l X and f' = df/dlambda:

    l = E[r d eps_i / dX_i]            s = cov(f, f') / var(f)            b = E f' - s E f

The diagonal is estimated by v_i (J v)_i with one vector v of random signs a sample (Hutchinson 1990; Bekas et al. 2007),
J v by a difference of two network calls, and f' by central differences along the trajectory; so the network is only ever
called forwards, twice a sample and level.
Source: Zheng et al. 2023, DPM-Solver-v3 (paper 221), whose published code takes these tables as given.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH, History, Step, begin, bind, output, play
from fewer.errors import InputError, whole
from fewer.evaluate.reference import reference_plan
from fewer.levels import log_s
from fewer.models.model import Model
from fewer.noise import Draw, unit_noise
from fewer.solvers.ode.dpm_v3 import Statistics

_ALIKE = 1e-9  # share of f's square below which its variance is rounding
_ROUGH = 0.02  # width of the difference that J v is taken by, relative to the state's size


def ems_statistics(
    model: Model,
    *,
    places: int = 120,
    noises: int = 64,
    seed: int = 0,
    guidance: float | None = None,
    batch: int = MICRO_BATCH,
) -> Statistics:
    """The model's statistics along its trajectories from `noises` starting noises, at `places` levels.

    Costs 2 x places x noises network evaluations (twice that under guidance). Raises InputError for fewer than 8
    places or noises, and where the network gives values that are not finite.
    """
    whole("places", places, 8)
    whole("noises", noises, 8)
    plan = reference_plan(model, places + (model.start == 1), guidance)
    steps = bind(model, plan)
    rows = [n for n, row in enumerate(plan.rows) if float(row.tau) < 1]
    lam = -log_s(torch.tensor([float(plan.rows[n].tau) for n in rows], dtype=torch.float64))
    labels = model.labels(noises)
    diagonal = torch.zeros(len(rows), *model.shape, dtype=torch.float64)
    moments = _Moments(diagonal)
    for at in range(0, noises, batch):
        numbers = range(at, min(at + batch, noises))
        z = unit_noise(seed, numbers, model.shape, device=model.device)
        signs = unit_noise(seed, numbers, model.shape, Draw.PROBE(), model.device).sign()
        history = History()
        y = None if labels is None else labels[at : numbers.stop]
        with torch.inference_mode():
            play(model, steps, begin(plan, z, partial(torch.zeros_like, z)), y, history=history)
            for place, n in enumerate(rows):
                diagonal[place] += _diagonal(model, steps[n], history, n, y, signs).sum(0) / noises
        tau = torch.tensor([float(plan.rows[n].tau) for n in rows], dtype=torch.float64).view(-1, *[1] * z.ndim)
        x, u = (torch.stack([each[n] for n in rows]).double().cpu() for each in (history.states, history.outputs))
        moments.add(x / (1 - tau), x - tau * u, lam)
    if not bool(diagonal.isfinite().all()):
        raise InputError(f"{model.name} returned values that are not finite")
    s, b = moments.line(1 - diagonal, lam)
    return Statistics(model.hash, lam, diagonal, s, b, 2 * plan.nfe * noises)


def _diagonal(model: Model, step: Step, history: History, n: int, labels: Tensor | None, signs: Tensor) -> Tensor:
    """An estimate (n, *shape) of diag(d(r eps) / dX) = 1 - (1 - tau) (1 - tau diag(du/dx))."""
    x, tau = history.states[n], float(step.row.tau)
    width = _ROUGH * float(x.square().mean().sqrt())
    change = output(step, x + width * signs, labels) - history.outputs[n]
    return 1 - (1 - tau) * (1 - tau * (signs * change / width).double().cpu())


class _Moments:
    """Sums over samples, from which the line of f' on f follows for any l."""

    def __init__(self, like: Tensor) -> None:
        self.n = 0
        self.sums = {name: torch.zeros_like(like) for name in ("X", "D", "d", "XX", "XD", "DD", "Xd", "Dd")}

    def add(self, X: Tensor, D: Tensor, lam: Tensor) -> None:
        """Trajectories X = x / alpha and data predictions D (N, n, *shape) at lam (N,); d is D's slope along them."""
        d = torch.gradient(D, spacing=(lam,), dim=0)[0]
        self.n += X.shape[1]
        for name, values in {"X": X, "D": D, "d": d}.items():
            self.sums[name] += values.sum(1)
        for name, (v, w) in {"XX": (X, X), "XD": (X, D), "DD": (D, D), "Xd": (X, d), "Dd": (D, d)}.items():
            self.sums[name] += (v * w).sum(1)

    def line(self, m: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        """s and b of f' = s f + b by least squares, f = m X - D; X' = D - X along the flow."""
        mean = {name: total / self.n for name, total in self.sums.items()}
        cov = {name: mean[name] - mean[name[0]] * mean[name[1]] for name in ("XX", "XD", "DD", "Xd", "Dd")}
        k = torch.gradient(m, spacing=(lam,), dim=0)[0] - m  # f' = k X + m D - D'
        f, slope = m * mean["X"] - mean["D"], k * mean["X"] + m * mean["D"] - mean["d"]
        with_slope = m * k * cov["XX"] + (m * m - k) * cov["XD"] - m * cov["DD"] - m * cov["Xd"] + cov["Dd"]
        var = m * m * cov["XX"] - 2 * m * cov["XD"] + cov["DD"]
        size = m * m * mean["XX"] + mean["DD"]
        known = var > _ALIKE * size  # else f is the same for every sample, and b alone is its slope
        s = torch.where(known, with_slope / torch.where(known, var, 1.0), 0.0)
        return s, slope - s * f
