"""Choices of measurements against the best set, which is known where all is Gaussian, and on signals that decay twice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy import stats
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean, mean
from fewer.evaluate.statistics.interval import Interval
from fewer.registry import resolve
from fewer.tasks.measurements.acquired import Acquired
from fewer.tasks.measurements.network import task_error

CHANNELS, KEEP, NOISE, EXAMPLES = 16, 4, 0.3, 600
BEDS, SIGNALS, MANY = 8, 12, 48
TIMES = 24  # of a signal
CHOICES = 2000


@dataclass(frozen=True)
class Linear:
    """Sixteen channels y = A x + e of six unit normal values, neighbours alike, that are to tell two directions of x."""

    seed: int

    @cached_property
    def _maps(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        a, b = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (CHANNELS, 2))
        return a + a.roll(1, 0) + a.roll(2, 0), b / b.norm(dim=1, keepdim=True)

    @cached_property
    def acquired(self) -> Acquired:
        """Examples."""
        (a, b), generator = self._maps, torch.Generator().manual_seed(10_000 + self.seed)
        x = torch.randn(EXAMPLES, 6, generator=generator, dtype=torch.float64)
        y = x @ a.T + NOISE * torch.randn(EXAMPLES, CHANNELS, generator=generator, dtype=torch.float64)
        return Acquired(y[..., None], x @ b.T)

    def lost(self, sets: Sequence[Sequence[int]]) -> Tensor:
        """Variance of the targets given the channels of each set, of 1 without any: exact."""
        a, b = self._maps
        within, across = a @ a.T + NOISE**2 * torch.eye(CHANNELS, dtype=torch.float64), b @ a.T
        places = torch.tensor(sets)
        some = across[:, places].permute(1, 2, 0)
        inner = within[places[:, :, None], places[:, None, :]]
        return 1 - (some * torch.linalg.solve(inner, some)).sum((1, 2)) / len(b)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        every = self.lost(list(itertools.combinations(range(CHANNELS), KEEP)))
        return float(every.min()), float(every.mean())

    def gap(self, chooser: str) -> float:
        """What a chooser lacks to the best of all 1,820 sets: 0 for that one, 1 for what a set at random lacks on average."""
        chosen = resolve("tasks", chooser).choose(self.acquired, KEEP, self.seed)
        best, average = self._ends
        return (float(self.lost([chosen])) - best) / (average - best)


@claim(
    "tadred/best-set",
    statement=f"Of linear measurements with noise, {KEEP} of {CHANNELS} for two numbers, TADRED's lack less to the best set than "
    f"sets at random do: share of theirs, mean over {BEDS} problems of {EXAMPLES} examples; beside, other choosers.",
    baseline="sets at random; the best of all sets is known in closed form",
    below=1.0,
    tier="full",
)
def best_set(seed: int, sabotage: bool) -> Measured:
    """The broken variant learns nothing."""
    beds = [Linear(BEDS * seed + k) for k in range(BEDS)]
    own = [bed.gap("random-measurements" if sabotage else "tadred") for bed in beds]
    others = ("greedy-measurements", "lasso-measurements")
    return Measured(mean(own), {name: mean([bed.gap(name) for bed in beds]) for name in others})


@claim(
    "tadred/signals",
    statement=f"For the three parameters of a signal that decays twice, {KEEP} of {TIMES} times of measurement that TADRED chooses "
    f"tell more than those of forward selection: ratio of held-out errors of one network, trained on each choice anew, over "
    f"{SIGNALS} draws of {EXAMPLES} examples.",
    baseline="forward selection by linear regression, the same examples",
    below=1.0,
    tier="full",
)
def signals(seed: int, sabotage: bool) -> Measured:
    """The broken variant learns nothing."""
    own = _errors("random-measurements" if sabotage else "tadred", seed)
    its = _errors("greedy-measurements", seed)
    return Measured(geometric_mean([mine / theirs for mine, theirs in zip(own, its, strict=True)]))


def _errors(chooser: str, seed: int) -> list[float]:
    """Held-out errors of a chooser's times, draw by draw."""
    found = []
    for number in range(SIGNALS * seed, SIGNALS * (seed + 1)):
        acquired, judged = _decays(EXAMPLES, 2 * number), _decays(1500, 2 * number + 1)
        chosen = resolve("tasks", chooser).choose(acquired, KEEP, number)
        found.append(task_error(acquired.only(chosen), judged.only(chosen), number))
    return found


@claim(
    "greedy-measurements/best-set",
    statement=f"Forward selection lacks less than a fifth of what sets at random lack to the best set: mean over {MANY} linear "
    f"problems, {KEEP} of {CHANNELS} channels.",
    baseline="the best of all sets, in closed form, and sets at random",
    below=0.2,
)
def greedy(seed: int, sabotage: bool) -> Measured:
    """The broken variant chooses at random."""
    name = "random-measurements" if sabotage else "greedy-measurements"
    return Measured(mean([Linear(MANY * seed + k).gap(name) for k in range(MANY)]))


@claim(
    "lasso-measurements/best-set",
    statement=f"What a group LASSO lacks to the best set is less than what sets at random lack: mean over {MANY} linear problems, "
    f"{KEEP} of {CHANNELS} channels; beside, forward selection.",
    baseline="the best of all sets, in closed form, and sets at random",
    below=1.0,
    tier="full",
)
def lasso(seed: int, sabotage: bool) -> Measured:
    """The broken variant chooses at random."""
    beds = [Linear(MANY * seed + k) for k in range(MANY)]
    name = "random-measurements" if sabotage else "lasso-measurements"
    beside = {"greedy-measurements": mean([bed.gap("greedy-measurements") for bed in beds])}
    return Measured(mean([bed.gap(name) for bed in beds]), beside)


@claim(
    "random-measurements/even",
    statement=f"All channels are chosen equally often: p-value of their counts, over {CHOICES} choices of {KEEP} of {CHANNELS}.",
    baseline="the law of counts without replacement: (C - 1) / (C - K) sum (count - mean)^2 / mean is chi-squared of C - 1",
    above=0.001,
)
def even(seed: int, sabotage: bool) -> Measured:
    """The broken variant has the first channel twice as often as others."""
    acquired = Linear(seed).acquired
    chooser = resolve("tasks", "random-measurements")
    counts = torch.zeros(CHANNELS, dtype=torch.float64)
    for k in range(CHOICES):
        counts[list(chooser.choose(acquired, KEEP, CHOICES * seed + k))] += 1
    if sabotage:
        counts[0] *= 2
    mean_count = CHOICES * KEEP / CHANNELS
    statistic = float((counts - mean_count).square().sum()) / mean_count * (CHANNELS - 1) / (CHANNELS - KEEP)
    p = float(stats.chi2.sf(statistic, CHANNELS - 1))
    return Measured(Interval(p, p, p, CHOICES))


def _decays(n: int, seed: int) -> Acquired:
    """Signals f e^(-b fast) + (1 - f) e^(-b slow) + noise at 24 times b, and (f, slow, fast), uniform, as in perfusion imaging."""
    generator = torch.Generator().manual_seed(seed)
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in ((0.05, 0.3, 5.0), (0.5, 3.0, 50.0)))
    told = low + (high - low) * torch.rand(n, 3, generator=generator, dtype=torch.float64)
    share, slow, fast = told.T[..., None]
    b = torch.linspace(0, 1, TIMES, dtype=torch.float64)
    clean = share * torch.exp(-b * fast) + (1 - share) * torch.exp(-b * slow)
    return Acquired(
        (clean + 0.01 * torch.randn(clean.shape, generator=generator, dtype=torch.float64))[..., None], told
    )
