"""Noise schedules: which noise level belongs to which network time.

A process mixes data D and unit noise eps as x = alpha D + sigma eps. The level (see fewer.levels) is

    s = sigma / alpha        tau = s / (1 + s) in [0, 1]

and the state is kept in the flow frame, x / (alpha + sigma) = (1 - tau) D + tau eps. A schedule gives, in float64, for
floats and (differentiably) for tensors: the level of a network time, the network time of a level, and alpha + sigma at a
level, by which the state is scaled for the network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import Number, log_s, s_of_tau, tau_of_log_s, tau_of_s, unit_variance_scale

# times that are sigma, and those that are log(sigma) / 4, by what they are multiplied
SIGMAS = {"sigma": 1.0, "sigma-1000": 1000.0}
QUARTER_LOGS = {"quarter-log": 1.0, "quarter-log-1000": 1000.0}


class Schedule(Protocol):
    """Noise schedule of a network, as the engine uses it."""

    @property
    def tau_max(self) -> float:
        """The noisiest level that the network was trained for."""

    @property
    def tau_min(self) -> float:
        """The cleanest level that the network was trained for, above 0."""

    def tau(self, t: Number) -> Tensor:
        """The level that belongs to the network time `t`."""

    def time(self, tau: Number) -> Tensor:
        """Time input of the network (timestep, sigma or c_noise) at level `tau`."""

    def scale(self, tau: Number) -> Tensor:
        """Alpha + sigma at level `tau`."""

    def describe(self) -> str:
        """One short line for people."""


@dataclass(frozen=True)
class Discrete:
    """A variance-preserving process (alpha^2 + sigma^2 = 1) trained at the integer times 0 .. N - 1.

    `alpha_bar` holds alpha^2 at those times, falling. Between them log s is linear in t; where the last alpha is
    zero (zero terminal SNR), tau is linear in t over the last interval, so that the level stays finite and regular.
    """

    alpha_bar: tuple[float, ...]
    name: str = "table"

    def __post_init__(self) -> None:
        table = self.alpha_bar
        falling = all(a > b for a, b in itertools.pairwise(table))
        if len(table) < 2 or not falling or not 0 <= table[-1] <= table[0] < 1:
            raise InputError("alpha_bar must hold at least two numbers in [0, 1) that fall strictly")

    @cached_property
    def _levels(self) -> Tensor:
        alpha_bar = torch.tensor(self.alpha_bar, dtype=torch.float64)
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        return sigma / (alpha + sigma)

    @cached_property
    def _log_s(self) -> Tensor:
        return log_s(self._levels)

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Levels and log s of all times, where the times or levels are that are asked for."""
        return self._levels.to(device), self._log_s.to(device)

    @property
    def tau_max(self) -> float:
        """The level of time N - 1."""
        return float(self._levels[-1])

    @property
    def tau_min(self) -> float:
        """The level of time 0."""
        return float(self._levels[0])

    @property
    def steps(self) -> int:
        """N, the number of training times."""
        return len(self.alpha_bar)

    def tau(self, t: Number) -> Tensor:
        """The level at time t in [0, N - 1]; times outside are held at the ends."""
        t = torch.as_tensor(t, dtype=torch.float64).clamp(0, self.steps - 1)
        levels, log_levels = self._tables(t.device)
        below = t.detach().floor().long().clamp(max=self.steps - 2)
        part = t - below
        if self.alpha_bar[-1] > 0:
            return tau_of_log_s(torch.lerp(log_levels[below], log_levels[below + 1], part))
        last = below == self.steps - 2
        inner = below.clamp(max=self.steps - 3)
        smooth = tau_of_log_s(torch.lerp(log_levels[inner], log_levels[inner + 1], torch.where(last, 0.0, part)))
        straight = torch.lerp(levels[below], levels[below + 1], part)
        return torch.where(last, straight, smooth)

    def time(self, tau: Number) -> Tensor:
        """The float time of a level, held at 0 and N - 1 outside the trained range."""
        tau = torch.as_tensor(tau, dtype=torch.float64)
        levels, log_levels = self._tables(tau.device)
        above = torch.searchsorted(levels, tau.detach().contiguous()).clamp(1, self.steps - 1)
        below = above - 1
        tau = tau.clamp(self.tau_min, self.tau_max)
        straight = (tau - levels[below]) / (levels[above] - levels[below])
        if self.alpha_bar[-1] > 0:
            return below + (log_s(tau) - log_levels[below]) / (log_levels[above] - log_levels[below])
        last = above == self.steps - 1
        inner = above.clamp(max=self.steps - 2)
        safe = torch.where(last, 0.5, tau)
        smooth = (log_s(safe) - log_levels[inner - 1]) / (log_levels[inner] - log_levels[inner - 1])
        return below + torch.where(last, straight, smooth)

    def scale(self, tau: Number) -> Tensor:
        """Alpha + sigma = 1 / sqrt(tau^2 + (1 - tau)^2)."""
        return unit_variance_scale(tau)

    def describe(self) -> str:
        """One short line for people."""
        low, top = s_of_tau(self.tau_min), s_of_tau(self.tau_max)
        return f"{self.name}, {self.steps} times, s from {low:.4g} to {top:.4g}"


@dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1 and sigma from `sigma_min` to `sigma_max` (score-SDE VE, EDM).

    `time_input` is what the network takes as its time: sigma, or 1000 times that ("sigma-1000": Cosmos), or c_noise =
    log(sigma) / 4 ("quarter-log") of EDM networks, or 1000 times that ("quarter-log-1000") of consistency models.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    time_input: Literal["sigma", "sigma-1000", "quarter-log", "quarter-log-1000"] = "sigma"

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise InputError(f"need 0 < sigma_min < sigma_max < inf, got {self.sigma_min} and {self.sigma_max}")
        if self.time_input not in (*SIGMAS, *QUARTER_LOGS):
            raise InputError(
                f"time_input is {self.time_input!r}; expected one of {', '.join((*SIGMAS, *QUARTER_LOGS))}"
            )

    @property
    def tau_max(self) -> float:
        """The level of sigma_max."""
        return tau_of_s(self.sigma_max)

    @property
    def tau_min(self) -> float:
        """The level of sigma_min."""
        return tau_of_s(self.sigma_min)

    def tau(self, t: Number) -> Tensor:
        """The level of a time input."""
        t = torch.as_tensor(t, dtype=torch.float64)
        if self.time_input in SIGMAS:
            return tau_of_s(t / SIGMAS[self.time_input])
        return tau_of_log_s(4 * t / QUARTER_LOGS[self.time_input])

    def time(self, tau: Number) -> Tensor:
        """Sigma, 1000 sigma, log(sigma) / 4 or 250 log(sigma) of a level."""
        tau = torch.as_tensor(tau, dtype=torch.float64)
        if self.time_input in SIGMAS:
            return SIGMAS[self.time_input] * s_of_tau(tau)
        return QUARTER_LOGS[self.time_input] * log_s(tau) / 4

    def scale(self, tau: Number) -> Tensor:
        """Alpha + sigma = 1 / (1 - tau)."""
        return 1 / (1 - torch.as_tensor(tau, dtype=torch.float64))

    def describe(self) -> str:
        """One short line for people."""
        suffixes = {
            "sigma": "",
            "sigma-1000": ", with 1000 sigma as time",
            "quarter-log": ", with log(sigma) / 4 as time",
        }
        time = suffixes.get(self.time_input, ", with 250 log(sigma) as time")
        return f"variance exploding, sigma from {self.sigma_min:g} to {self.sigma_max:g}{time}"


@dataclass(frozen=True)
class Flow:
    """Straight paths, alpha = 1 - tau and sigma = tau, at network times N tau (N = 1000 in diffusers).

    steps   N; the cleanest trained level is taken as 1 / N, or 1 / 1000 of networks whose times are the levels (N = 1)
    rising  for networks that are given N (1 - tau): 0 for noise
    """

    steps: int = 1000
    rising: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"a flow schedule needs at least 1 time, got {self.steps}")

    @property
    def tau_max(self) -> float:
        """Pure noise."""
        return 1.0

    @property
    def tau_min(self) -> float:
        """1 / N."""
        return 1 / self.steps if self.steps > 1 else 1e-3

    def tau(self, t: Number) -> Tensor:
        """T / N, or 1 - t / N."""
        level = torch.as_tensor(t, dtype=torch.float64) / self.steps
        return 1 - level if self.rising else level

    def time(self, tau: Number) -> Tensor:
        """N tau, or N (1 - tau)."""
        tau = torch.as_tensor(tau, dtype=torch.float64)
        return self.steps * (1 - tau if self.rising else tau)

    def scale(self, tau: Number) -> Tensor:
        """Alpha + sigma = 1."""
        return torch.ones_like(torch.as_tensor(tau, dtype=torch.float64))

    def describe(self) -> str:
        """One short line for people."""
        return f"flow (straight paths), {self.steps} times{', rising' if self.rising else ''}"


def _cosine(t: float) -> float:
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _exponential(t: float) -> float:
    return math.exp(-12 * t)


def _laplace(t: float) -> float:
    # the square root follows the tables that networks were trained with, not the paper
    snr = math.exp(-0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * abs(0.5 - t) + 1e-6))
    return math.sqrt(snr / (1 + snr))


def _betas_of(alpha_bar: Callable[[float], float], n: int) -> Tensor:
    """beta_i = 1 - alpha_bar((i + 1) / N) / alpha_bar(i / N), at most 0.999 (Nichol & Dhariwal 2021)."""
    return torch.tensor(
        [min(1 - alpha_bar((i + 1) / n) / alpha_bar(i / n), 0.999) for i in range(n)], dtype=torch.float64
    )


def betas(name: str, n: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """The named table of n betas, as diffusers spells the names.

    linear (Ho et al. 2020), scaled_linear (Rombach et al. 2022), squaredcos_cap_v2 (Nichol & Dhariwal 2021), sigmoid,
    exp, laplace (Hang & Gu 2024). Raises InputError for another name.
    """

    def line(low: float, high: float) -> Tensor:
        return torch.linspace(low, high, n, dtype=torch.float64)

    named: dict[str, Callable[[], Tensor]] = {
        "linear": lambda: line(beta_start, beta_end),
        "scaled_linear": lambda: line(beta_start**0.5, beta_end**0.5) ** 2,
        "sigmoid": lambda: torch.sigmoid(line(-6, 6)) * (beta_end - beta_start) + beta_start,
        "squaredcos_cap_v2": lambda: _betas_of(_cosine, n),
        "exp": lambda: _betas_of(_exponential, n),
        "laplace": lambda: _betas_of(_laplace, n),
    }
    if name not in named:
        raise InputError(f"beta_schedule is {name!r}; expected one of {', '.join(named)}")
    return named[name]()


def discrete(betas: Tensor | Sequence[float], *, zero_terminal_snr: bool = False, name: str = "table") -> Discrete:
    """The schedule of a table of betas: alpha_bar_t = prod_{i <= t} (1 - beta_i).

    With `zero_terminal_snr` the alphas are shifted and scaled so that the last is 0 and the first is kept
    (Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed").
    """
    table = torch.as_tensor(betas, dtype=torch.float64)
    if table.ndim != 1 or len(table) < 2 or not bool(((table > 0) & (table < 1 + 1e-12)).all()):
        raise InputError("betas must be at least two numbers in (0, 1)")
    alpha_bar = torch.cumprod(1 - table, 0)
    if zero_terminal_snr:
        alpha = alpha_bar.sqrt()
        alpha_bar = ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2
    return Discrete(tuple(alpha_bar.tolist()), name)
