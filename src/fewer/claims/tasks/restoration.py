"""Claims of the processes that are others in disguise: mean reversion to a degraded image, and scaled inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, adaptive, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.levels import s_of_tau
from fewer.models.input_scaling import Scaled
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.tasks.ir_sde import mean_reverting, restore, reverting

TIMES, FINAL = 100, 0.005  # training times and last alpha, as IR-SDE has them
DIM, MODES, IMAGES = 8, 4, 1024
SPREAD, DEGRADED_BY, LAMBDA = 0.3, 0.5, 0.3


@dataclass(frozen=True)
class Restoration:
    """Noisy images mu (n, d) of a mixture, D ~ sum_k w_k N(m_k, v), mu = D + nu z, and the exact mean-reverting model.

    Given mu, D is a mixture of the same modes, with means c_k and variance p; given x = a D + (1 - a) mu + sigma eps too,
    again one.
    """

    means: Tensor
    mu: Tensor
    rates: Tensor

    @classmethod
    def random(cls, seed: int, n: int = 8) -> Restoration:
        """Modes at unit-normal means; rates rising as IR-SDE's cosine schedule does."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, dtype=torch.float64, generator=generator)

        means = normal(MODES, DIM)
        clean = means[torch.randint(MODES, (n,), generator=generator)] + SPREAD * normal(n, DIM)
        part = (torch.arange(TIMES, dtype=torch.float64) + 1) / TIMES
        shape = torch.sin(math.pi / 2 * part) ** 2
        return cls(means, clean + DEGRADED_BY * normal(n, DIM), -math.log(FINAL) * shape / shape.sum())

    @property
    def schedule(self) -> Scaled:
        """Of the residual."""
        return reverting(self.rates, LAMBDA)

    def alpha(self, t: float) -> float:
        """Of x at a network time, from s = lambda sqrt(1 - alpha^2) / alpha."""
        tau = float(self.schedule.tau(t))
        return LAMBDA / math.hypot(s_of_tau(tau), LAMBDA)

    def sigma(self, t: float) -> float:
        """Lambda sqrt(1 - alpha^2)."""
        return LAMBDA * math.sqrt(1 - self.alpha(t) ** 2)

    def predictions(self, x: Tensor, t: float, mu: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """E[eps | x, mu] and E[D | x, mu] for x (n, d)."""
        mu = self.mu if mu is None else mu
        a, sigma = self.alpha(t), self.sigma(t)
        v, nu = SPREAD**2, DEGRADED_BY**2
        c = self.means + v / (v + nu) * (mu[:, None] - self.means)
        p = v * nu / (v + nu)
        seen = (x - (1 - a) * mu)[:, None]
        energy = (mu[:, None] - self.means).square().sum(-1) / (v + nu)
        energy = energy + (seen - a * c).square().sum(-1) / (a**2 * p + sigma**2)
        given = c + a * p / (a**2 * p + sigma**2) * (seen - a * c)
        data = (torch.softmax(-energy / 2, 1)[..., None] * given).sum(1)
        return (x - mu - a * (data - mu)) / sigma, data

    def model(self, predicts: str) -> Model:
        """The network of the mean-reverting process as a model of residuals."""

        def network(x: Tensor, mu: Tensor, t: Tensor) -> Tensor:
            noise, data = self.predictions(x.double(), float(t[0]), mu.double())
            if predicts == "score":
                return -noise / self.sigma(float(t[0]))
            return noise if predicts == "noise" else data

        return mean_reverting(network, self.schedule, self.mu, predicts, dtype=torch.float64)

    def euler(self, noise: Tensor, calls: int) -> Tensor:
        """Euler's method on dx = [f (mu - x) + lambda^2 f eps / sigma] dt in regular times, then the data prediction."""
        times = torch.linspace(TIMES - 1, 0, calls, dtype=torch.float64).tolist()
        c = float(self.schedule.scale(self.schedule.tau_max))
        x = self.mu + c * self.schedule.tau_max * noise.double()
        for here, there in pairwise(times):
            noise_in_x, _ = self.predictions(x, here)
            f = float(self.rates[round(here)])
            drift = f * (self.mu - x) + LAMBDA**2 * f / self.sigma(here) * noise_in_x
            x = x - (here - there) * drift
        return self.predictions(x, 0.0)[1]


@claim(
    "mean-reverting/against-euler",
    statement="On mean-reverting diffusion, dpmpp-2m on the residual at 10 calls (MR Sampler's second order) is nearer to "
    "the flow's end than Euler's method on the process's own ODE with ten times the calls, both in regular times (ratio of "
    "paired RMSE).",
    baseline="Euler, 100 calls, same noise; exact restoration of noisy samples of a mixture",
    below=1.0,
)
def against_euler(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the network sees another sample's degraded image."""
    case = Restoration.random(seed, IMAGES)
    model = case.model("noise")
    noise = unit_noise(seed, range(IMAGES), model.shape)
    labels = torch.arange(IMAGES)
    tau = model.schedule.tau_max
    fine = adaptive(model, tau * noise.double(), labels, start=tau, batch=IMAGES).x + case.mu
    played = replace(case, mu=case.mu.roll(1, 0)).model("noise") if sabotage else model
    plans = {calls: standard("dpmpp-2m", model, calls, "uniform") for calls in (5, 10, 20)}
    made = {calls: restore(played, plan, case.mu, noise=noise, batch=IMAGES) for calls, plan in plans.items()}
    errors = {calls: squared_errors(x, fine) for calls, x in made.items()}
    euler = {calls: squared_errors(case.euler(noise, calls), fine) for calls in (10, 100)}
    beside = {f"at {n} calls": paired.rmse(e) for n, e in errors.items()}
    beside |= {f"euler, {n} calls": paired.rmse(e) for n, e in euler.items()}
    beside["ratio at 10 calls each"] = paired.ratio(errors[10], euler[10])
    return Measured(paired.ratio(errors[10], euler[100]), beside)


@claim(
    "input-scaling/shifts-log-snr",
    statement="Scaling the input by b is a shift of log-SNR by 2 log b: the flow of b D under a schedule and the flow of D "
    "under the shifted one end in the same data (largest difference in data units, b from 0.2 to 5).",
    baseline="the exact model of the scaled data under the schedule as it is",
    below=1e-6,
)
def shifts(seed: int, sabotage: bool) -> Measured:
    """Sabotage: a shift by log b."""
    schedule = discrete(betas("scaled_linear"))
    found = []
    for number, b in enumerate((0.2, 0.5, 1.5, 2.0, 5.0)):
        data = GaussianMixture.random(3, 3, seed=5 * seed + number)
        scaled_data = replace(
            data, means=b * data.means, variances=b**2 * data.variances, residual=b**2 * data.residual
        )
        scaled = Scaled(schedule, math.sqrt(b) if sabotage else b)
        high = schedule.tau_max
        z = unit_noise(seed, range(8), (3,)).double()
        inner = Model.from_mixture(scaled_data, schedule, dtype=torch.float64)
        outer = Model.from_mixture(data, scaled, dtype=torch.float64)
        one = adaptive(inner, high * z, start=high, end=0.0, rtol=1e-10, atol=1e-10).x / b
        top = float(scaled.tau(schedule.time(high)))
        other = adaptive(outer, top * z, start=top, end=0.0, rtol=1e-10, atol=1e-10).x
        found.append(float((one - other).abs().max()))
    return Measured(geometric_mean(found), {"largest": max(found)})
