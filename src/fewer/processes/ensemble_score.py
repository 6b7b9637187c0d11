"""Draws of a density that is known by its values alone: reverse diffusion whose drift an ensemble of particles estimates.

The density p is noised to X = x_0 + s e, with s falling from `widest` to `narrowest`. The reverse process needs no more than

    D(X) = E[x_0 | X] = sum_k w_k y_k / sum_k w_k        w_k = N(X; y_k, s^2 I) p(y_k) / q(y_k)

which is its drift's mean, of points y_k drawn from any q: values of p, no derivative. One particle alone would have to find the
points that matter to it. Here the particles X_1 .. X_J of an ensemble find them together:

- its statistics shape where they look. Every other step particle j proposes from the Gaussian of the mean and the covariance of
  all points by its own weights w_k, which know of modes and of their shapes. In the steps between it explores, by what its x_0
  would be if p were N(0, I): N(X_j / (1 + s^2), s^2 / (1 + s^2) I)
- all points of all particles and steps serve every particle, q being the mixture that they were drawn from (the balance
  heuristic, Veach & Guibas 1995; over steps Cornuet et al. 2012), so that modes are weighed by all evaluations together

and s' < s is reached by X' = D + (s' / s)^2 (X - D) + s' sqrt(1 - (s' / s)^2) z, exact where p is a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewer.errors import InputError, foreign, whole
from fewer.noise import MOST, Draw, Stream, unit_noise
from fewer.registry import part
from fewer.settings import positive

LogDensity = Callable[[Tensor], Tensor]
AT_ONCE = 1 << 22  # numbers of one step of arithmetic
INFLATED = 1.5  # covariance of proposals over the Gaussian's: tails of q must not be lighter than those of p


class Drawn(NamedTuple):
    """Samples (n, d) float64 of a density, and how they were found.

    evaluations   of the density, in all; whole ensembles are made, also where fewer samples are asked for
    log_evidence  log of the integral of the density that was given, the mean over ensembles of its estimate by their points
    effective     of an ensemble's points, how many draws of p they are worth, the least of all ensembles: below the number of
                  particles the samples are not to be trusted
    """

    samples: Tensor
    evaluations: int
    log_evidence: float
    effective: float


@part(
    "ensemble-score",
    title="Ensemble score sampling: a density by its values alone, its score estimated by an ensemble of particles",
    source="Bischoff & Riel 2024, Enhancing Score-Based Sampling Methods with Ensembles, arXiv:2401.17539; proposals and their "
    "weights are this package's",
    papers=(134,),
    role="procedure",
)
@dataclass(frozen=True)
class EnsembleScore:
    """As in the head of this file, in coordinates in which p is about as wide as N(0, I).

    particles  of an ensemble, which its samples are, J >= 1
    proposals  points that a particle proposes in a step
    steps      levels s, falling by equal factors
    widest, narrowest  the first and the last s, in units of p's width

    A sample takes `proposals * steps` evaluations of the density. Raises InputError for numbers out of range.
    """

    particles: int = 64
    proposals: int = 8
    steps: int = 25
    widest: float = 10.0
    narrowest: float = 0.02

    def __post_init__(self) -> None:
        for name, least in {"particles": 1, "proposals": 1, "steps": 2}.items():
            whole(name, getattr(self, name), least)
        if self.steps > MOST:
            raise InputError(f"steps is {self.steps}; expected at most {MOST}")
        for name in ("widest", "narrowest"):
            positive(name, getattr(self, name))
        if not self.narrowest < self.widest:
            raise InputError(f"narrowest is {self.narrowest!r}; expected less than widest, {self.widest!r}")

    @property
    def evaluations(self) -> int:
        """Of the density, a sample."""
        return self.proposals * self.steps

    def sample(
        self, log_density: LogDensity, dim: int, n: int = 64, *, centre: Any = 0.0, scale: Any = 1.0, seed: int = 0,
        first_sample: int = 0, progress: Callable[[int, int], Any] | None = None,
    ) -> Drawn:  # fmt: skip
        """n draws of the density of d = `dim` numbers.

        log_density  log p (m,) at points (m, d) float64, up to a constant; -inf where p is 0. Of many points in one call
        centre, scale  of where p's mass lies: numbers or (d,). A scale too large costs evaluations, one too small modes
        seed         sample i of a seed is particle i % J of ensemble i // J, whatever n and first_sample are
        progress     progress(done, all) ensembles after each

        Raises InputError for densities that are nan, infinite or of another shape, where no point of positive density was found,
        and for levels too narrow for float64; ForeignError for what log_density raises.
        """
        for name, value, least in (("dim", dim, 1), ("n", n, 1), ("first_sample", first_sample, 0)):
            whole(name, value, least)
        middle, width = _numbers("centre", centre, dim), _numbers("scale", scale, dim)
        if not bool((width > 0).all()):
            raise InputError("scale of a density must be above 0")

        def density(x: Tensor) -> Tensor:
            return _values(log_density, middle + width * x) + float(width.log().sum())

        first, last = first_sample // self.particles, (first_sample + n - 1) // self.particles
        made = []
        for number in range(first, last + 1):
            made.append(_Ensemble(self, density, dim, seed, number).run())
            if progress is not None:
                progress(len(made), last + 1 - first)
        skipped = first_sample - first * self.particles
        samples = middle + width * torch.cat([each.samples for each in made])[skipped : skipped + n]
        evidence = torch.tensor([each.log_evidence for each in made], dtype=torch.float64)
        return Drawn(
            samples,
            sum(each.evaluations for each in made),
            float(torch.logsumexp(evidence, 0)) - math.log(len(made)),
            min(each.effective for each in made),
        )


class _Ensemble:
    """One ensemble on its way down, with all points that were evaluated for it."""

    def __init__(self, method: EnsembleScore, density: LogDensity, dim: int, seed: int, number: int) -> None:
        self.method, self.density, self.dim, self.seed = method, density, dim, seed
        self.numbers = Stream.SAMPLES.numbers(method.particles, number * method.particles)
        self.points = torch.empty(0, dim, dtype=torch.float64)
        self.log_p, self.log_q = torch.empty(0).double(), torch.empty(0).double()  # log_q of the sum over steps
        self.proposals: list[tuple[Tensor, Tensor]] = []  # means (J, d) and roots (J, d, d) of each step

    def run(self) -> Drawn:
        """From the widest level to the data predictions at the narrowest."""
        own = self.method
        levels = torch.logspace(math.log10(own.widest), math.log10(own.narrowest), own.steps, dtype=torch.float64)
        x = math.sqrt(1 + own.widest**2) * self._noise(Draw.START(0), (self.dim,))
        for k, s in enumerate(levels.tolist()):
            self._propose(x, s, k)
            data = self._predicted(x, s)
            if k + 1 < own.steps:
                less = float(levels[k + 1]) / s
                z = self._noise(Draw.ROW(k), (self.dim,))
                x = data + less**2 * (x - data) + less * s * math.sqrt(1 - less**2) * z
        weights = self.log_p - self.log_q
        total = torch.logsumexp(weights, 0)
        effective = float(torch.exp(2 * total - torch.logsumexp(2 * weights, 0)))
        return Drawn(data, len(self.points), float(total) - math.log(own.proposals), effective)

    def _noise(self, draw: Any, shape: tuple[int, ...]) -> Tensor:
        """Of each particle (J, *shape)."""
        return unit_noise(self.seed, self.numbers, shape, draw).double()

    def _propose(self, x: Tensor, s: float, step: int) -> None:
        """New points of all particles, evaluated, with the mixture's density brought up to date."""
        means, roots = self._gaussians(x, s, step % 2 == 0)
        z = self._noise(Draw.MOVE(step), (self.method.proposals, self.dim))
        new = (means[:, None] + z @ roots.mT).flatten(0, 1)
        everywhere = torch.cat([self.points, new])
        mine = _log_mixture(everywhere, means, roots)
        earlier = [_log_mixture(new, *each) for each in self.proposals]
        before = torch.cat([self.log_q, torch.logsumexp(torch.stack(earlier), 0)]) if earlier else None
        self.log_q = mine if before is None else torch.logaddexp(before, mine)
        self.proposals.append((means, roots))
        self.points = everywhere
        self.log_p = torch.cat([self.log_p, self.density(new)])
        if not bool((self.log_p > -math.inf).any()):
            raise InputError(f"none of {len(self.points)} points has a density above 0: give its centre and scale")

    def _gaussians(self, x: Tensor, s: float, explores: bool) -> tuple[Tensor, Tensor]:
        """Means (J, d) and roots (J, d, d) of the particles' proposals at states x (J, d).

        Where they do not explore, the Gaussians of those that do count as d + 1 draws among a particle's points.
        """
        share = s**2 / (1 + s**2)
        means, variances = x / (1 + s**2), share * torch.eye(self.dim, dtype=torch.float64).expand(len(x), -1, -1)
        if not explores:
            weights = torch.softmax(self._log_weights(x, s), 1)
            effective = 1 / weights.square().sum(1)[:, None]
            known = effective / (effective + self.dim + 1)
            found = weights @ self.points
            squares = (self.points[:, :, None] * self.points[:, None]).flatten(1)
            spread = (weights @ squares).unflatten(1, (self.dim, self.dim)) - found[:, :, None] * found[:, None]
            means = known * found + (1 - known) * means
            variances = known[..., None] * spread + (1 - known[..., None]) * variances
        roots, failed = torch.linalg.cholesky_ex(INFLATED * (variances + variances.mT) / 2)
        if bool(failed.any()):
            raise InputError(
                f"proposals at level {s:.3g} are narrower than float64 tells of points up to {float(self.points.abs().max()):.3g}: "
                "give the density's centre and scale, or a greater narrowest"
            )
        return means, roots

    def _log_weights(self, x: Tensor, s: float) -> Tensor:
        """Log w_k (J, N) of all points at the particles, up to a constant."""
        return self.log_p - self.log_q - torch.cdist(x, self.points).square() / (2 * s**2)

    def _predicted(self, x: Tensor, s: float) -> Tensor:
        """D (J, d) at the particles."""
        return torch.softmax(self._log_weights(x, s), 1) @ self.points


def _log_mixture(x: Tensor, means: Tensor, roots: Tensor) -> Tensor:
    """Log sum_j N(x; mu_j, L_j L_j^T), (m,) of x (m, d)."""
    inverse = torch.linalg.inv(roots)
    centres = (inverse @ means[..., None]).mT  # (J, 1, d)
    squares = [(some @ inverse.mT - centres).square().sum(2) for some in x.split(max(1, AT_ONCE // means.numel()))]
    logs = -torch.cat(squares, 1) / 2 - roots.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]
    return torch.logsumexp(logs, 0) - x.shape[1] / 2 * math.log(2 * math.pi)


def _numbers(name: str, value: Any, dim: int) -> Tensor:
    try:
        found = torch.as_tensor(value, dtype=torch.float64).expand(dim)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is {value!r:.80}; expected a number, or {dim} of them") from error
    if not bool(found.isfinite().all()):
        raise InputError(f"{name} of a density must be finite")
    return found


def _values(log_density: LogDensity, x: Tensor) -> Tensor:
    """The user's density at points (m, d), checked."""
    with foreign("the density"), torch.no_grad():
        found = log_density(x)
    if not isinstance(found, Tensor) or tuple(found.shape) != (len(x),):
        shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"the density returned {shown} for {len(x)} points; expected a tensor ({len(x)},)")
    found = found.detach().to("cpu", torch.float64)
    if bool(found.isnan().any()) or bool((found == math.inf).any()):
        raise InputError("the density's logarithm is nan or inf at a point; expected numbers, -inf where it is 0")
    return found
