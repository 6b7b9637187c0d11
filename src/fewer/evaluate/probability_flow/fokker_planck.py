"""The Fokker-Planck residual of a score: where it is not 0, the model's ODE and its SDE lead to different laws.

In v = s^2, of X = D + s eps, the density p_v obeys the heat equation, and its score S = grad log p_v therefore

    dS/dv = grad (div S + |S|^2) / 2

A network's S = (D(X, s) - X) / s^2 need not: R = dS/dv - grad (div S + |S|^2) / 2 is its residual. Along the SDE, whose law is q,
the error e = S - grad log q begins at 0 and grows by R alone (in rho = -v: de/drho = -R + grad (div e - |e|^2) / 2 + transport),
and the SDE's law moves by the ODE's velocity S / 2 plus e / 2. So where R is 0 the two laws are one, be the score right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.evaluate.probability_flow.likelihood import EXACT_UP_TO, differentiable_velocity
from fewer.levels import tau_of_s
from fewer.models.model import Model
from fewer.noise import Draw, Stream, unit_noise
from fewer.registry import part

WIDTH = 1e-3  # of the difference in log s


@dataclass(frozen=True)
class Residuals:
    """The residual of a model over levels.

    s         (L,) falling levels s = sigma / alpha
    residual  (L,) root mean square over states of |s^3 R|, which has no unit
    gap       int (int_s^top |R| dv) dv / 2, in data units: how far the ODE's samples come to lie from the SDE's if errors are
              neither carried nor damped on the way
    """

    s: Tensor
    residual: Tensor
    gap: float


def score_residual(
    model: Model, x: Tensor, s: float, labels: Tensor | None = None, signs: Tensor | None = None, *, graph: bool = False
) -> Tensor:
    """s^3 R (n, *shape) at states X (n, *shape) of level s.

    signs  (K, n, d) vectors of +1 and -1, by which div S is estimated (Hutchinson); None for the exact sum over d directions
    graph  keeps derivatives with respect to the network's weights: the mean square is then a penalty for training

    dS/dv is a central difference over 0.1 % of s, so that a float32 network's residual is known to about 1e-3.
    Raises InputError for a network without derivatives.
    """

    def score(x: Tensor, s: float) -> Tensor:
        state, tau = x / (1 + s), tau_of_s(s)
        return (state - tau * differentiable_velocity(model, state, tau, labels) - x) / s**2

    with torch.inference_mode(False), torch.enable_grad():
        flat = x.detach().flatten(1).clone().requires_grad_()
        here = score(flat, s)
        rows = torch.eye(flat.shape[1]).to(flat)[:, None].expand(-1, len(flat), -1) if signs is None else signs.to(flat)
        weight = 1.0 if signs is None else 1 / len(rows)
        potential = here.square().sum(1)
        for e in rows:
            (along,) = torch.autograd.grad(here, flat, e, create_graph=True)
            potential = potential + weight * (along * e).sum(1)
        (gradient,) = torch.autograd.grad(potential.sum(), flat, create_graph=graph)
        slope = (score(flat, s * (1 + WIDTH)) - score(flat, s * (1 - WIDTH))) / (
            2 * WIDTH
        )  # dS / d log s = 2 s^2 dS/dv
        residual = s * slope / 2 - s**3 * gradient / 2
    return (residual if graph else residual.detach()).view_as(x)


@part(
    "fokker-planck-residual",
    title="Fokker-Planck residual of the score, which says how far ODE and SDE samples part",
    source="Deveney et al. 2025, Closing the ODE-SDE gap in score-based diffusion models through the Fokker-Planck equation, "
    "arXiv:2311.15996",
    papers=(222,),
    role="procedure",
)
def fokker_planck_residual(
    model: Model,
    data: Tensor,
    levels: Sequence[float],
    labels: Tensor | None = None,
    *,
    probes: int | None = None,
    seed: int = 0,
) -> Residuals:
    """The residuals of a model at noised data, level by level, and the gap between ODE and SDE samples that they foretell.

    data    (n, *shape): samples of the model, or what it was trained on
    levels  falling s = sigma / alpha, at least two; the gap is their trapezoid in log s
    labels  (n,) for a model with classes
    probes  of Hutchinson's estimate of the divergence; by default none and the exact sum up to 64 values a sample, 4 above

    Costs 3 network calls a level and sample, and twice as many derivatives as there are directions. Whether the ODE or the SDE is
    the nearer to the data the residual does not say, only whether it matters. Raises InputError for shapes and levels that do
    not fit, and networks without derivatives.
    """
    if tuple(data.shape[1:]) != tuple(model.shape) or not len(data):
        raise InputError(
            f"data has shape {tuple(data.shape)}; {model.name} needs (n, {', '.join(map(str, model.shape))})"
        )
    s = torch.tensor([float(level) for level in levels], dtype=torch.float64)
    if len(s) < 2 or not bool((s > 0).all() & (s.diff() < 0).all()):
        raise InputError("levels must be at least two falling positive numbers s")
    dim = data[0].numel()
    if probes is None:
        probes = 0 if dim <= EXACT_UP_TO else 4
    whole("probes", probes, 0)
    numbers, y = Stream.PATHS.numbers(len(data)), None if model.classes is None else model.labels(len(data), labels)
    clean, found = data.detach().to(model.device, torch.float64), []
    for k, level in enumerate(s.tolist()):
        noise = unit_noise(seed, numbers, model.shape, Draw.MOVE(k), model.device).double()
        vectors = None
        if probes:
            draws = [
                unit_noise(seed, numbers, (dim,), Draw.CHANCE(k * probes + j), model.device) for j in range(probes)
            ]
            vectors = torch.stack(draws).sign()
        residual = score_residual(model, clean + level * noise, level, y, vectors)
        found.append(residual.flatten(1).square().sum(1).mean().sqrt())
    each = torch.stack(found).cpu()
    return Residuals(s, each, _gap(s, each))


def _gap(s: Tensor, residual: Tensor) -> float:
    """int s^2 E(s) dlog s with E(s) = int_s^top 2 residual / s' dlog s', as dv = 2 s^2 dlog s."""
    steps = -s.log().diff()
    rates = 2 * residual / s
    error = torch.cat([s.new_zeros(1), (steps * (rates[1:] + rates[:-1]) / 2).cumsum(0)])
    return float((steps * ((s**2 * error)[1:] + (s**2 * error)[:-1]) / 2).sum())
