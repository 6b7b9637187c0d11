"""Empirical statistics of a model along its own trajectories, which DPM-Solver-v3 needs.

On trajectories of the probability flow, at each lambda and for each pixel,

    l = E[r d eps_i / dX_i]            makes the Jacobian of f = r eps - l X least (squared, off the diagonal too)
    s = cov(f, f') / var(f), b = E f' - s E f        predict f' = df/dlambda along the trajectory by least squares

r = sigma / alpha, X = x / alpha. The diagonal is estimated by v_i (J v)_i with one vector v of random signs a sample
(Hutchinson 1990; Bekas et al. 2007), J v by a difference of two network calls, and f' by central differences along
the trajectory; so the network is only ever called forwards, twice a sample and place.
Source: Zheng et al. 2023, DPM-Solver-v3 (paper 221), whose published code takes these tables as given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from fewer.engine import MICRO_BATCH, History, Step, begin, bind, output, play
from fewer.errors import InputError
from fewer.measures.reference import fine_plan
from fewer.models.model import Model
from fewer.models.schedules import log_s
from fewer.noise import unit_noise
from fewer.planfile import LARGEST_TENSORS, read_safetensors, write_atomically

_ALIKE = 1e-9  # share of f's square below which its variance is rounding
_ROUGH = 0.02  # width of the difference that J v is taken by, relative to the state's size


@dataclass(frozen=True)
class Statistics:
    """l, s and b (N, *shape) float64 at regular `lam` (N,), rising, of the model with this hash.

    Between them they are piecewise linear; beyond the ends they stay as they are there. `evaluations` is what they
    cost, in network evaluations of single samples.
    """

    model: str
    lam: Tensor
    l: Tensor
    s: Tensor
    b: Tensor
    evaluations: int = 0

    def check(self, model: Model) -> Statistics:
        """The statistics themselves; InputError where they are another model's."""
        if self.model != model.hash or tuple(self.l.shape[1:]) != tuple(model.shape):
            raise InputError(f"these statistics were made on another model than {model.name}: make them on this one")
        return self

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        tensors = {name: getattr(self, name).float().contiguous() for name in ("lam", "l", "s", "b")}
        content = dump_safetensors(tensors, {"model": self.model, "evaluations": str(self.evaluations)})
        write_atomically(Path(path), content)
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Statistics:
        """Read what `save` wrote; InputError for anything else."""
        path = Path(path)
        tensors = read_safetensors(path, LARGEST_TENSORS)
        if set(tensors) != {"lam", "l", "s", "b"}:
            raise InputError(f"{path} holds no model statistics (lam, l, s, b), but {', '.join(sorted(tensors))}")
        lam, l, s, b = (tensors[name].double() for name in ("lam", "l", "s", "b"))
        regular = lam.ndim == 1 and len(lam) > 1 and bool((lam.diff() > 0).all())
        if not regular or not l.shape == s.shape == b.shape or len(l) != len(lam):
            raise InputError(f"{path}: statistics need rising lam (N,) and l, s, b of one shape (N, ...)")
        if not all(bool(t.isfinite().all()) for t in (lam, l, s, b)):
            raise InputError(f"{path}: statistics are not finite")
        header = safe_open(path, "pt").metadata() or {}
        return Statistics(header.get("model", ""), lam, l, s, b, int(header.get("evaluations", 0)))

    def l_at(self, lam: float) -> Tensor:
        """l at lambda."""
        return self._at(self.l, lam)

    def shrunk(self, start: float, end: float) -> Tensor:
        """e^-(L(end) - L(start))."""
        return torch.exp(self._at(self._L, start) - self._at(self._L, end))

    def decayed(self, start: float, end: float) -> Tensor:
        """e^-(S(end) - S(start))."""
        return torch.exp(self._at(self._S, start) - self._at(self._S, end))

    def grown(self, start: float, end: float) -> Tensor:
        """E = e^(L(end) - L(start) + S(end) - S(start))."""
        return 1 / (self.shrunk(start, end) * self.decayed(start, end))

    def drift(self, start: float, end: float) -> Tensor:
        """B = int_start^end e^-(S(r) - S(start)) b(r) dr."""
        return torch.exp(self._at(self._S, start)) * (self._at(self._C, end) - self._at(self._C, start))

    @cached_property
    def _L(self) -> Tensor:
        return self._summed(self.l)

    @cached_property
    def _S(self) -> Tensor:
        return self._summed(self.s)

    @cached_property
    def _C(self) -> Tensor:
        return self._summed(torch.exp(-self._S) * self.b)

    def _summed(self, values: Tensor) -> Tensor:
        """int from lam_0 to each lam, by the trapezoid rule."""
        parts = torch.cumulative_trapezoid(values, self.lam.view(-1, *[1] * (values.ndim - 1)), dim=0)
        return torch.cat([torch.zeros_like(values[:1]), parts])

    def _at(self, values: Tensor, lam: float) -> Tensor:
        place = (lam - float(self.lam[0])) / float(self.lam[-1] - self.lam[0]) * (len(self.lam) - 1)
        place = min(max(place, 0.0), len(self.lam) - 1.0)
        below = min(int(place), len(self.lam) - 2)
        return torch.lerp(values[below], values[below + 1], place - below)


def statistics(
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
    for name, value in (("places", places), ("noises", noises)):
        if value < 8:
            raise InputError(f"{name} is {value}; statistics need at least 8")
    plan = fine_plan(model, places + (model.start == 1), guidance)
    steps = bind(model, plan)
    rows = [n for n, row in enumerate(plan.rows) if float(row.tau) < 1]
    lam = -log_s(torch.tensor([float(plan.rows[n].tau) for n in rows], dtype=torch.float64))
    labels = model.labels(noises)
    diagonal = torch.zeros(len(rows), *model.shape, dtype=torch.float64)
    moments = _Moments(diagonal)
    for at in range(0, noises, batch):
        numbers = range(at, min(at + batch, noises))
        z = unit_noise(seed, numbers, model.shape, device=model.device)
        signs = unit_noise(seed, numbers, model.shape, 1, model.device).sign()
        history = History()
        own = None if labels is None else labels[at : numbers.stop]
        with torch.inference_mode():
            play(model, steps, begin(plan, z, partial(torch.zeros_like, z)), own, history=history)
            for place, n in enumerate(rows):
                diagonal[place] += _diagonal(model, steps[n], history, n, own, signs).sum(0) / noises
        tau = torch.tensor([float(plan.rows[n].tau) for n in rows], dtype=torch.float64).view(-1, *[1] * z.ndim)
        x, u = (torch.stack([kept[n] for n in rows]).double().cpu() for kept in (history.states, history.outputs))
        moments.add(x / (1 - tau), x - tau * u, lam)
    if not bool(diagonal.isfinite().all()):
        raise InputError(f"{model.name} returned values that are not finite")
    s, b = moments.line(1 - diagonal, lam)
    return Statistics(model.hash, lam, diagonal, s, b, 2 * plan.nfe * noises)


def _diagonal(model: Model, step: Step, history: History, n: int, labels: Tensor | None, signs: Tensor) -> Tensor:
    """An estimate (n, *shape) of diag(d(r eps) / dX) = 1 - (1 - tau) (1 - tau diag(du/dx))."""
    x, tau = history.states[n], float(step.row.tau)
    width = _ROUGH * float(x.square().mean().sqrt())
    change = output(step.model, step, x + width * signs, labels) - history.outputs[n]
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
