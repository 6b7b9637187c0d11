"""Exact models with an error of known size, whose true distribution is known too: what guidance, noise and searches can mend.

A trained network errs; an exact mixture does not, so that on it nothing can be better than the network alone. Here the pass
with the label and the pass without each follow a mixture of their own, made from the true one by a flaw:

    fitted        a kernel around each of few training images            known: the images; its error falls as they grow
    smoothed      covariances C + v I                                    known: v; the Wasserstein distance is at most sqrt(d v)
    reweighted    wrong weights of the components                        known: their Kullback-Leibler divergence, nats
    Rough         an output that errs by a factor rough in the level     known: the factor at every level

The error of a pass at a level, whatever the flaw, is `FlawedMixture.errors`; of its density, `FlawedMixture.log_ratios`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import Number, log_s
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Schedule


def smoothed(mixture: GaussianMixture, variance: float) -> GaussianMixture:
    """The mixture seen through noise of this variance (data units squared, at least 0): every covariance C becomes C + v I.

    The distribution is that of x + sqrt(v) n, so that its Wasserstein-2 distance to the mixture is at most sqrt(d v).
    """
    return replace(mixture, variances=mixture.variances + variance, residual=mixture.residual + variance)


def reweighted(mixture: GaussianMixture, tilt: float, seed: int = 0) -> GaussianMixture:
    """The mixture with component k's weight multiplied by exp(tilt z_k), z_k unit normal; every class keeps its share.

    `weights_divergence` is the Kullback-Leibler divergence of the weights; that of the distributions is at most as large, and
    equal where components lie far apart.
    """
    z = torch.randn(mixture.components, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    weights = mixture.weights * (tilt * z).exp().to(mixture.weights)
    for mine in _class_masks(mixture):
        weights[mine] *= mixture.weights[mine].sum() / weights[mine].sum()
    return replace(mixture, weights=weights)


def weights_divergence(mixture: GaussianMixture, other: GaussianMixture) -> Tensor:
    """KL (classes,) of each class's weights in `mixture` from those in `other`, nats; (1,) for mixtures without classes.

    Raises InputError for mixtures whose components are not the same ones.
    """
    if mixture.means.shape != other.means.shape or not torch.equal(mixture.means, other.means):
        raise InputError("the divergence of weights is of mixtures that differ in nothing else")
    parts = []
    for mine in _class_masks(mixture):
        p, q = (each.weights[mine] / each.weights[mine].sum() for each in (mixture, other))
        parts.append((p * (p / q).log()).sum())
    return torch.stack(parts)


def fitted(mixture: GaussianMixture, images: int, bandwidth: float, seed: int = 0) -> GaussianMixture:
    """The kernel estimate of the mixture from `images` draws of each class: one round Gaussian of deviation `bandwidth` a draw.

    With a small bandwidth it is a network that knows its training images by heart. Raises InputError for a bandwidth of 0 or
    below, which has no density.
    """
    if not 0 < bandwidth < math.inf:
        raise InputError(f"bandwidth is {bandwidth}; expected a positive deviation")
    classes = range(mixture.classes) if mixture.classes is not None else (None,)
    draws, weights = [], []
    for label, mine in zip(classes, _class_masks(mixture), strict=True):
        asked = None if label is None else torch.full((images,), label)
        draws.append(mixture.sample(images, seed + (label or 0), asked)[0].flatten(1))
        weights.append((mixture.weights[mine].sum() / images).expand(images))
    means = torch.cat(draws)
    k, d = means.shape
    labels = None if mixture.labels is None else torch.arange(len(draws)).repeat_interleave(images)
    return GaussianMixture(
        torch.cat(weights), means, means.new_zeros(k, d, 0), means.new_zeros(k, 0),
        means.new_full((k,), bandwidth**2), mixture.shape, labels,
    )  # fmt: skip


def _class_masks(mixture: GaussianMixture) -> list[Tensor]:
    """Which components (K,) are of each class; all of them for a mixture without classes."""
    if mixture.labels is None:
        return [torch.ones(mixture.components, dtype=torch.bool)]
    return [mixture.labels == label for label in range(int(mixture.labels.max()) + 1)]


@dataclass(frozen=True)
class Rough:
    """A factor on a network's own output F that is rough in the level, in EDM's form of it (Karras et al. 2022):

        D = s_d^2 / (s^2 + s_d^2) x + s s_d / sqrt(s^2 + s_d^2) F,   x = D + s eps unscaled,   F -> (1 + g(log s)) F
        g(log s) = amplitude sqrt(2 / waves) sum_j cos(2 pi log s / period_j + phase_j)

    so that at every level the error is the share g of what the network itself says: as in trained networks it neither vanishes
    beside the noise nor exceeds the data. The mean square of g over log s is amplitude^2. Periods are log-uniform in `periods`,
    the phases uniform, both drawn by `seed`; `deviation` is s_d, that of the data. Levels tau below `least` have no error.
    """

    amplitude: float = 0.0
    waves: int = 8
    periods: tuple[float, float] = (0.5, 4.0)
    deviation: float = 1.0
    seed: int = 0
    least: float = 0.0

    def error(self, tau: Number) -> Tensor:
        """g at levels tau in [0, 1], of their shape in float64; 0 at both ends, where it has no limit."""
        tau = torch.as_tensor(tau, dtype=torch.float64)
        inside = (tau > 0) & (tau < 1)
        draws = torch.rand(2, self.waves, dtype=torch.float64, generator=torch.Generator().manual_seed(self.seed))
        short, long = map(math.log, self.periods)
        period = (short + (long - short) * draws[0]).exp()
        angle = 2 * math.pi * (log_s(torch.where(inside, tau, 0.5))[..., None] / period + draws[1])
        return self.amplitude * math.sqrt(2 / self.waves) * angle.cos().sum(-1) * (inside & (tau >= self.least))

    def of(self, data: Tensor, x: Tensor, tau: Number) -> Tensor:
        """The data prediction D + g (D - c x_unscaled) for D and the state x (n, *shape) of the flow frame at one level."""
        if self.amplitude == 0:
            return data
        a = 1 - torch.as_tensor(tau, dtype=torch.float64)
        kept = a * self.deviation**2 / ((1 - a) ** 2 + (a * self.deviation) ** 2)  # c_skip / a
        return data + self.error(tau).to(data) * (data - kept.to(data) * x)


@dataclass(frozen=True, eq=False)
class Branch:
    """What one pass follows: a mixture, with an error in the level on top of its exact denoiser."""

    mixture: GaussianMixture
    rough: Rough = Rough()

    def denoise(self, x: Tensor, tau: Number, labels: Tensor | None = None) -> Tensor:
        """The data prediction for x (n, *shape) at one level, as `GaussianMixture.denoise` has it."""
        return self.rough.of(self.mixture.denoise(x, tau, labels), x, tau)


@dataclass(frozen=True, eq=False)
class FlawedMixture:
    """A mixture with classes, the truth, and what a network of it says with the label and without.

    truth  the data's distribution
    label  what the pass with the label follows, `empty` what the one without does; their mixtures have the truth's classes

    Raises InputError where one has no classes, or others.
    """

    truth: GaussianMixture
    label: Branch
    empty: Branch

    def __post_init__(self) -> None:
        counts = {each.classes for each in (self.truth, self.label.mixture, self.empty.mixture)}
        if len(counts) != 1 or None in counts:
            raise InputError(
                f"a flawed mixture's parts have {sorted(map(str, counts))} classes; expected one number of them"
            )

    @property
    def classes(self) -> int:
        """Number of classes, which is the empty label too."""
        assert self.truth.classes is not None
        return self.truth.classes

    def to(self, dtype: torch.dtype) -> FlawedMixture:
        """The same with parameters in another floating dtype."""
        label, empty = (replace(each, mixture=each.mixture.to(dtype=dtype)) for each in (self.label, self.empty))
        return FlawedMixture(self.truth.to(dtype=dtype), label, empty)

    def denoise(self, x: Tensor, tau: Number, labels: Tensor) -> Tensor:
        """The data prediction (n, *shape) of states at one level; the label `classes` asks for the empty pass."""
        none, data = labels == self.classes, torch.empty_like(x)
        if bool(none.any()):
            data[none] = self.empty.denoise(x[none], tau)
        if not bool(none.all()):
            data[~none] = self.label.denoise(x[~none], tau, labels[~none])
        return data

    def model(self, schedule: Schedule, name: str = "flawed", dtype: torch.dtype = torch.float32) -> Model:
        """The network that follows it, with `truth.classes` classes and as many for the empty label; it predicts the data."""
        own = self.to(dtype)

        def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            tau = schedule.tau(t.double() if t.ndim == 0 else t[0].double())
            given = x.new_full((len(x),), own.classes, dtype=torch.int64) if labels is None else labels
            return own.denoise(x / schedule.scale(tau).to(x.dtype), tau, given)

        return Model.from_denoiser(
            network,
            schedule,
            tuple(own.truth.shape),
            labels=own.classes,
            empty_label=own.classes,
            name=name,
            dtype=dtype,
        )

    def true_model(self, schedule: Schedule, name: str = "true", dtype: torch.dtype = torch.float32) -> Model:
        """The exact denoiser of the truth, with the same labels."""
        return Model.from_mixture(self.truth, schedule, conditional=True, name=name, dtype=dtype)

    def errors(self, tau: float, n: int, seed: int = 0, empty: bool = False) -> Tensor:
        """Squared errors (n,) of a pass's data prediction, summed over a sample, at states of the truth at a level.

        Their mean is the size of the flaw there. The score's errors are (1 - tau)^2 / tau^4 times as large.
        """
        data, labels = self.truth.sample(n, seed)
        noise = torch.randn(data.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1)).to(data)
        x, given = (1 - tau) * data + tau * noise, None if empty else labels
        branch = self.empty if empty else self.label
        return (branch.denoise(x, tau, given) - self.truth.denoise(x, tau, given)).flatten(1).square().sum(1)

    def log_ratios(self, labels: Sequence[int], seed: int = 0, empty: bool = False) -> Tensor:
        """log p(x | y) - log q(x | y) (n,) of draws x of the truth p with these labels, q a pass's mixture; `empty`: without y.

        Their mean is the Kullback-Leibler divergence, nats, of the truth from what the pass follows at clean levels; a `Rough`
        factor has no part in it.
        """
        asked = torch.as_tensor(labels)
        x, _ = self.truth.sample(len(asked), seed, asked)
        branch, given = (self.empty, None) if empty else (self.label, asked)
        return self.truth.log_prob(x, labels=given) - branch.mixture.log_prob(x, labels=given)
