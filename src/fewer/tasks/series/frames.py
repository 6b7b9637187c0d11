"""Models of windows whose frames have noise levels of their own: what they are called with, and an exact one.

The network of such a model is called as network(x, t, labels) with x (n, T, *frame) and a time t (n, T) for each frame. Everything
else, its schedule and what it predicts, is as for any model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.models.edge import called
from fewer.models.linear_posterior import covariances
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.reach import modules_of
from fewer.models.schedules import Schedule
from fewer.settings import finite

KEPT = 512  # vectors of levels whose matrices are kept


def frame_model(law: GaussianMixture, schedule: Schedule, name: str = "windows") -> Model:
    """The exact model of windows (T, *frame) of a mixture without labels, each frame at its own level."""
    exact = _ExactFrames(law.to("cpu", torch.float64))

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        taus = schedule.tau(t[0].double().expand(law.shape[0]) if t.ndim == 1 else t[0].double())
        scale = schedule.scale(taus).view(-1, *[1] * (x.ndim - 2))
        return exact.data(x.double() / scale, taus).to(x)

    return Model.from_denoiser(
        network, schedule, tuple(law.shape), "data", name=name, hash=f"frames of {name}", exact=law
    )


def velocities(model: Model, x: Tensor, taus: Tensor, labels: Tensor | None = None) -> Tensor:
    """U = eps - D (n, T, *frame) of frames x (n, T, *frame) at levels taus (T,), in the flow frame, by one network call.

    Of the clipped data prediction, each frame by itself, where the model clips. Frames below the cleanest level that the
    network knows are told that level; u of frames at level 0 means nothing. Raises InputError for other shapes.
    """
    if tuple(x.shape[1:]) != tuple(model.shape) or tuple(taus.shape) != tuple(x.shape[1:2]):
        raise InputError(
            f"frames are {tuple(x.shape)} and their levels {tuple(taus.shape)}; windows of {model.name} are {tuple(model.shape)}"
        )
    taus = taus.double().clamp_min(model.schedule.tau_min)
    shape = (-1, *[1] * (x.ndim - 2))
    c_in, p, q = (number.view(shape).to(x) for number in model.affine(taus))
    times = model.schedule.time(taus).float().expand(len(x), -1)
    f = called(
        model.network, model.name, modules_of(model.network), (c_in * x).to(model.dtype), times.contiguous(), labels
    )
    if f.shape != x.shape:
        raise InputError(
            f"the network of {model.name} returned shape {tuple(f.shape)} for an input of {tuple(x.shape)}"
        )
    u = p * x + q * f.float()
    if model.clip is None:
        return u
    return torch.stack([model.clipped(x[:, k], tau, u[:, k]) for k, tau in enumerate(taus.tolist())], 1)


def rolling_levels(model: Model, past: int, t: float, beginning: bool = False) -> Tensor:
    """Levels (T,) of a window with `past` clean frames and W noisy ones at global time t in [0, 1], of networks to be trained.

    Frame k of the noisy ones has local time (k + t) / W; at the beginning of a series clip(k / W + t, 0, 1). Local time 0 is the
    cleanest level, 1 the noisiest, regular in the network's time. Source: Ruhe et al. 2024, Rolling Diffusion Models,
    arXiv:2402.09470.
    """
    finite("t", t, 0, 1)
    whole("past", past)
    noisy = model.shape[0] - past
    if noisy < 1:
        raise InputError(
            f"past is {past}; windows of {model.name} have {model.shape[0]} frames, of which some must be noisy"
        )
    k = torch.arange(noisy, dtype=torch.float64)
    local = (k / noisy + t).clamp_max(1) if beginning else (k + t) / noisy
    schedule = model.schedule
    clean, noise = schedule.time(schedule.tau_min), schedule.time(model.start)
    return torch.cat([torch.full((past,), schedule.tau_min).double(), schedule.tau(clean + local * (noise - clean))])


def rolling_loss(model: Model, windows: Tensor, past: int, t: float, noise: Tensor, beginning: bool = False) -> Tensor:
    """|eps(x) - e|^2 of each window (n,), mean over its noisy frames: what a network with a time for each frame is trained on.

    windows, noise  (n, T, *frame), the latter unit noise e; draw t evenly, and `beginning` now and then
    """
    if windows.shape != noise.shape:
        raise InputError(
            f"windows are {tuple(windows.shape)} and their noise is {tuple(noise.shape)}; expected the same"
        )
    taus = rolling_levels(model, past, t, beginning)
    tau = taus.view(-1, *[1] * (windows.ndim - 2)).to(windows)
    kept = noise.clone()
    kept[:, :past] = 0  # clean frames
    x = (1 - tau) * windows + tau * kept
    eps = x + (1 - tau) * velocities(model, x, taus)
    return (eps - noise)[:, past:].flatten(1).square().mean(1)


@dataclass(frozen=True, eq=False)
class _ExactFrames:
    """E[D | x] of x_k = (1 - tau_k) D_k + tau_k e_k: a linear measurement of the window, in closed form."""

    law: GaussianMixture
    kept: dict[tuple[float, ...], tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=dict
    )  # by levels, which come again

    def data(self, x: Tensor, taus: Tensor) -> Tensor:
        """Of x (n, T, *frame) in float64."""
        law, per = self.law, math.prod(self.law.shape[1:])
        a = (1 - taus).repeat_interleave(per)
        levels = tuple(taus.tolist())
        if levels not in self.kept and len(self.kept) < KEPT:
            self.kept[levels] = self._matrices(levels)
        gains, roots, log_determinants = self.kept.get(levels) or self._matrices(levels)
        away = x.flatten(1)[None] - (a * law.means)[:, None]  # (K, n, d)
        white = torch.linalg.solve_triangular(roots, away.transpose(1, 2), upper=False)
        joint = law.weights.log()[:, None] - white.square().sum(1) / 2 - log_determinants[:, None]
        each = law.means[:, None] + away @ gains.transpose(1, 2)
        return (torch.softmax(joint, 0)[..., None] * each).sum(0).view_as(x)

    def _matrices(self, taus: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """C A S^-1 (K, d, d), the lower roots of S = A C A + R, and half their log determinants (K,)."""
        per = math.prod(self.law.shape[1:])
        tau = torch.tensor(taus, dtype=torch.float64).repeat_interleave(per)
        c, a = covariances(self.law), 1 - tau
        seen = a[:, None] * c * a + torch.diag(tau**2)
        roots = torch.linalg.cholesky(seen)
        gains = torch.cholesky_solve(a[:, None] * c, roots).transpose(1, 2)
        return gains, roots, roots.diagonal(dim1=1, dim2=2).log().sum(1)
