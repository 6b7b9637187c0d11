"""Negative log-likelihood of data under a model, along its probability flow.

In the flow frame the state x~ = (1 - tau) D + tau eps moves by dx/dtau = u(x, tau), and with it the log-density by
d log p / dtau = -div u (Chen et al. 2018). From the cleanest level tau0 up to the level tau1 that samplers start from,

    -log p(x) = -log N(x~_1; 0, tau1^2 I) - int_tau0^tau1 div u dtau - d log(1 - tau0),    x~_0 = (1 - tau0) x

The first term is the samplers' own start tau1 z, with z unit noise, -log N(z; 0, I) + d log tau1 in full. The data's true
density at tau1 differs from it by what tau1 < 1 leaves of the data; where it is known, `prior` puts it there instead.
The last term undoes the scaling by 1 - tau0. So p is the density of D + s0 eps, s0 = tau0 / (1 - tau0): where data vary
by less than s0, the figure is that of s0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.probability_flow.dormand_prince import integrate
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.models.model import Model
from fewer.registry import part

EXACT_UP_TO = 64  # dimensions in which the trace is exact unless asked otherwise
MOST = 30_000  # evaluations

Trace = Literal["exact", "hutchinson"]
State = tuple[Tensor, Tensor]  # x (n, d), the divergence's integral (n, probes)
Field = Callable[[float, Tensor], State]
Prior = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihoods of n samples of `dim` values each, in nats (n,), float64 on the CPU: nll = prior - volume.

    `prior` is minus the log-density where the flow ends, `volume` the divergence's integral and the log of the scaling.
    `evaluations` are network evaluations per sample, of which each also had 1 backward pass a probe (or `dim` of them,
    for the exact trace). `probe_error` (n,) is the standard error in nats that the probes leave in each sample's
    figure: zero for the exact trace, None for a single probe, whose spread is not known.
    """

    prior: Tensor
    volume: Tensor
    dim: int
    evaluations: int
    probe_error: Tensor | None

    @property
    def nll(self) -> Tensor:
        """Negative log-likelihood (n,) in nats."""
        return self.prior - self.volume

    def nats(self) -> Interval:
        """Mean over the samples' population in nats per dimension, with Student's 95 % interval.

        Each sample has probes of its own, so what the probes add is in the samples' spread, and in the interval.
        Raises InputError for a single sample.
        """
        if len(self.nll) < 2:
            raise InputError("an interval of the likelihood needs at least 2 samples, got 1")
        return student((self.nll / self.dim).tolist())

    def bits(self, unit: float = 1.0) -> Interval:
        """The same in bits per dimension, -log2 (p unit^d) / d: `unit` is a grey level in data units (2/255, say)."""
        if not 0 < unit < math.inf:
            raise InputError(f"unit is {unit}; expected a positive size of one grey level in data units")
        nats, shift = self.nats(), math.log2(unit)
        value, low, high = (end / math.log(2) - shift for end in (nats.value, nats.low, nats.high))
        return Interval(value, low, high, nats.n)


@part(
    "probability-flow-nll",
    title="Negative log-likelihood by the probability flow, trace exact or Hutchinson's",
    source="Chen et al. 2018, arXiv:1806.07366; Grathwohl et al. 2019, arXiv:1810.01367; Song et al. 2021, "
    "arXiv:2011.13456",
    papers=(215,),
    role="procedure",
)
def flow_nll(
    model: Model,
    x: Tensor,
    labels: Tensor | None = None,
    *,
    trace: Trace | None = None,
    probes: int = 1,
    tol: float = 1e-5,
    low: float | None = None,
    high: float | None = None,
    prior: Prior | None = None,
    seed: int = 0,
    batch: int = MICRO_BATCH,
) -> Likelihood:
    """Negative log-likelihood of data x (n, *shape), in the model's data range, under the model's own flow.

    labels     (n,) classes; without them the empty class of a model that has classes
    trace      exact: d backward passes an evaluation. hutchinson: div u = E e' (du/dx) e with `probes` Rademacher
               vectors e a sample, kept along the flow, unbiased (Hutchinson 1990). Default: exact up to 64 dimensions
    tol        of a step's error: in x relative to 1 + |x|, in the log-density in nats per dimension (Dormand & Prince
               1980, order 5 with an embedded 4, one step size a batch)
    low, high  levels tau0 < tau1; by default the cleanest trained level, and the one that samplers start from
    prior      prior(x~ (n, *shape), tau1) -> log-density (n,) in nats at the upper level; by default N(0, tau1^2 I)
    seed       of the probes; a sample's do not depend on the batch

    Samples of a batch must not touch each other, as in any network in eval mode. Guidance is left out.
    Raises InputError for shapes and levels that do not fit, a network without derivatives, or a flow too rough to follow.
    """
    x = _checked(model, x)
    n, d = len(x), x[0].numel()
    labels = _labels(model, n, labels)
    low = model.schedule.tau_min if low is None else low
    high = model.start if high is None else high
    if not 0 < low < high <= 1:
        raise InputError(f"levels are low {low} and high {high}; expected 0 < low < high <= 1")
    if not 0 < tol < 1 or probes < 1 or batch < 1:
        raise InputError(
            f"tol {tol}, probes {probes}, batch {batch}: expected 0 < tol < 1 and at least 1 of the others"
        )
    trace = trace or ("exact" if d <= EXACT_UP_TO else "hutchinson")
    if trace not in ("exact", "hutchinson"):
        raise InputError(f"trace is {trace!r}; expected exact or hutchinson")
    generator = torch.Generator().manual_seed(seed)
    signs = None if trace == "exact" else torch.randint(2, (probes, n, d), generator=generator, dtype=torch.int8)

    ends, volumes, evaluations = [], [], 0
    for at in range(0, n, batch):
        rows = slice(at, at + batch)
        some = None if labels is None else labels[rows]
        vectors = None if signs is None else 2 * signs[:, rows].to(x) - 1

        def field(tau: float, z: Tensor, some: Tensor | None = some, vectors: Tensor | None = vectors) -> State:
            return _derivatives(model, z, tau, some, vectors)

        start = (1 - low) * x[rows].flatten(1)
        end, integral, calls = _integrate(field, start, 1 if signs is None else probes, low, high, tol, model.name)
        ends.append(_log_normal(end, high) if prior is None else prior(end.view(len(end), *model.shape), high).double())
        volumes.append(integral + d * math.log1p(-low))
        evaluations = max(evaluations, calls)
    log_prior, by_probe = torch.cat(ends).cpu(), torch.cat(volumes).cpu()
    error = torch.zeros(n, dtype=torch.float64) if signs is None else None
    if signs is not None and probes > 1:
        error = by_probe.std(1) / math.sqrt(probes)
    return Likelihood(-log_prior, by_probe.mean(1), d, evaluations, error)


def divergence(
    model: Model, x: Tensor, tau: float, labels: Tensor | None = None, vectors: Tensor | None = None
) -> Tensor:
    """div u at states x (n, *shape) of level tau: exact (n, 1), or e' (du/dx) e of each of `vectors` (K, n, d), (n, K)."""
    flat = _checked(model, x).flatten(1)
    return _derivatives(model, flat, tau, _labels(model, len(x), labels), vectors)[1]


def _checked(model: Model, x: Tensor) -> Tensor:
    if tuple(x.shape[1:]) != tuple(model.shape) or not len(x) or not x.is_floating_point():
        raise InputError(f"x is {x.dtype} {tuple(x.shape)}; expected floats (n, {', '.join(map(str, model.shape))})")
    if not bool(x.isfinite().all()):
        raise InputError("x holds values that are not finite")
    return x.detach().to(model.device, torch.float64)


def _log_normal(x: Tensor, scale: float) -> Tensor:
    """log N(x; 0, scale^2 I) of x (n, d)."""
    return -0.5 * (x / scale).square().sum(1) - x.shape[1] * math.log(scale * math.sqrt(2 * math.pi))


def _labels(model: Model, n: int, labels: Tensor | None) -> Tensor | None:
    """Labels of the data: those given, else the empty class."""
    if labels is None and model.classes is not None:
        if model.empty_label is None:
            raise InputError(f"labels are missing: {model.name} has classes and no empty label")
        labels = torch.tensor(model.empty_label)
    return model.labels(n, labels)


def _derivatives(model: Model, z: Tensor, tau: float, labels: Tensor | None, vectors: Tensor | None) -> State:
    """u (n, d) and its divergence (n, 1), or e' (du/dx) e (n, K) for the vectors e (K, n, d)."""
    with torch.inference_mode(False), torch.enable_grad():
        z = z.clone().requires_grad_()
        u = differentiable_velocity(model, z, tau, labels)
        if vectors is not None:
            rows = (torch.autograd.grad(u, z, e, retain_graph=True)[0] for e in vectors)
            traces = torch.stack([(row * e).sum(1) for row, e in zip(rows, vectors, strict=True)], 1)
        else:
            columns = range(z.shape[1])
            entries = [torch.autograd.grad(u[:, j].sum(), z, retain_graph=True)[0][:, j] for j in columns]
            traces = torch.stack(entries, 1).sum(1, keepdim=True)
    if not bool(u.isfinite().all() and traces.isfinite().all()):
        raise InputError(f"{model.name} returned values or derivatives that are not finite at level {tau:.4g}")
    return u.detach(), traces


def differentiable_velocity(model: Model, z: Tensor, tau: float, labels: Tensor | None) -> Tensor:
    """u (n, d) of flat states z. Raises InputError where the network's output does not depend on them."""

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        f = model.output(x, t[0], labels)
        if not f.requires_grad:
            raise InputError(f"derivatives are needed, and the network of {model.name} has none (it cuts them off)")
        return f

    return replace(model, network=network).velocity(z.view(len(z), *model.shape), tau, labels).flatten(1)


def _integrate(
    field: Field, x: Tensor, columns: int, low: float, high: float, tol: float, name: str
) -> tuple[Tensor, Tensor, int]:
    """x and the divergence's integral (n, columns) at `high`, from x at `low`, and the number of evaluations of the field."""
    dim = x.shape[1]

    def both(tau: float, state: Tensor) -> Tensor:
        return torch.cat(field(tau, state[:, :dim]), 1)

    def error(estimate: Tensor, before: Tensor, after: Tensor) -> float:
        size = torch.maximum(before[:, :dim].abs(), after[:, :dim].abs())
        in_x = (estimate[:, :dim] / (tol * (1 + size))).square().mean(1).max().sqrt()
        return max(float(in_x), float(estimate[:, dim:].abs().max()) / (tol * dim))

    start = torch.cat([x, x.new_zeros(len(x), columns)], 1)
    solution = integrate(both, start, low, high, error, MOST, f"the flow of {name} at tol {tol:g}")
    return solution.x[:, :dim], solution.x[:, dim:], solution.evaluations
