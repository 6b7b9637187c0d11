"""What a light network costs and how far its samples are from the full one's, under the same plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fewer.blocks.find import network_of
from fewer.engine import sample
from fewer.evaluate.by_figure import ByFrechet, Difference
from fewer.evaluate.cost.clock import clock_ratio
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.samplers import standard

REPEATS, WARMUP = 12, 3  # of the clock
CALLS = 10  # of the plan that both networks sample with
MARGIN = 0.15  # share by which the Frechet distance may be larger and still count as not worse


@dataclass(frozen=True)
class FewerCalls:
    """The full network in as many calls as cost the light one's multiply-adds, to the nearest, and the light one against that.

    frechet     its distance, to what the others are compared with
    difference  of the light network's distance less that: it tells where the full network's own distance is near 0, of which a
                share is no scale
    """

    calls: int
    frechet: Interval
    difference: Difference

    def to_dict(self) -> dict[str, Any]:
        """For evidence.json."""
        return {
            "calls": self.calls, "full": self.frechet.to_dict(), "difference": self.difference.value.to_dict(),
            "decision": self.difference.decision,
        }  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The light network against the full one.

    macs, weights, bytes  (full, light): multiply-adds of a call of one sample, weights that are not 0, and bytes that all take
    time        of a call of `batch` samples by the light network over that of the full one, paired round by round
    plan        that both sampled with, from the same noises
    paired      root mean square difference of the samples, in data units
    frechet     distances to `against` on `features`, of the full network and of the light one, and their difference
    equal_cost  the full network in fewer calls; None where that is the plan's own number of calls to the nearest, or none at all
    """

    macs: tuple[int, int]
    weights: tuple[int, int]
    bytes: tuple[int, int]
    time: Interval
    batch: int
    plan: str
    paired: Interval
    frechet: tuple[Interval, Interval]
    difference: Difference
    features: str
    against: str
    noises: int
    equal_cost: FewerCalls | None = None

    @property
    def lines(self) -> list[str]:
        """The same in words."""
        ratio = self.difference.ratio
        of = "" if ratio is None else f", a ratio of {ratio}"
        lines = [
            f"multiply-adds a call: {self.macs[1]:,} of {self.macs[0]:,} ({self.macs[1] / self.macs[0]:.1%})",
            f"weights that are not 0: {self.weights[1]:,} of {self.weights[0]:,} ({self.weights[1] / self.weights[0]:.1%}); "
            f"{self.bytes[1]:,} of {self.bytes[0]:,} bytes",
            f"time of a call of {self.batch} samples: {self.time} of the full network's",
            f"samples of {self.plan} from {self.noises} equal noises: root mean square difference {self.paired}",
            f"Frechet distance to {self.against} on {self.features}: {self.frechet[1]}, of the full network {self.frechet[0]}{of}; "
            f"difference {self.difference.value}: {self.difference.decision} at a margin of {MARGIN:.0%}",
        ]
        if (few := self.equal_cost) is not None:
            lines.append(
                f"the full network in {few.calls} calls, about as many multiply-adds: {few.frechet}; the light one is "
                f"{few.difference.decision}, by {few.difference.value}"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """For evidence.json."""
        ratio = self.difference.ratio
        return {
            "macs": _both(self.macs), "weights": _both(self.weights), "bytes": _both(self.bytes),
            "time": {"batch": self.batch, "ratio": self.time.to_dict()},
            "quality": {
                "plan": self.plan, "noises": self.noises, "paired_rmse": self.paired.to_dict(),
                "fd": {
                    "features": self.features, "against": self.against, "full": self.frechet[0].to_dict(),
                    "light": self.frechet[1].to_dict(), "difference": self.difference.value.to_dict(),
                    "ratio": None if ratio is None else ratio.to_dict(), "margin": MARGIN, "decision": self.difference.decision,
                    "equal_cost": None if self.equal_cost is None else self.equal_cost.to_dict(),
                },
            },
        }  # fmt: skip


def evidence_of(full: Model, light: Model, scoring: Scoring, n: int, batch: int, seed: int) -> Evidence:
    """Of a light model, by DPM-Solver++(2M) of 10 calls from n held-out noises of a seed, and of the full one by fewer.

    The Frechet distance is to the scoring's data, or else to other samples of the full network by the same plan.
    """
    plan = standard("dpmpp-2m", full, CALLS, "logsnr")
    noise = unit_noise(seed, Stream.HELD_OUT.numbers(n), full.shape, device=full.device)
    labels = full.labels(n)
    own = sample(full, plan, noise=noise, labels=labels, batch=batch, seed=seed)
    its = sample(light, plan, noise=noise, labels=labels, batch=batch, seed=seed)
    against = "the data"
    if scoring.data is None:
        others = unit_noise(seed, Stream.HELD_OUT.numbers(n, n), full.shape, device=full.device)
        scoring = Scoring(sample(full, plan, noise=others, labels=labels, batch=batch, seed=seed), scoring.features)
        against = "other samples of the full network"
    judge, by = Evaluator(full, noise, labels, batch=batch, scoring=scoring, seed=seed), ByFrechet(scoring)
    macs = (call_macs(full), call_macs(light))
    calls = round(CALLS * macs[1] / macs[0]) if macs[0] else CALLS
    equal_cost = None
    if 0 < calls < CALLS:
        few = sample(
            full, standard("dpmpp-2m", full, calls, "logsnr"), noise=noise, labels=labels, batch=batch, seed=seed
        )
        equal_cost = FewerCalls(calls, by.figure(judge, few), by.compared(judge, its, few, MARGIN))
    return Evidence(
        macs, _counted(full, light, True), _counted(full, light, False),
        timed(full, light, batch), batch, plan.name, paired.rmse(squared_errors(its, own)),
        (by.figure(judge, own), by.figure(judge, its)), by.compared(judge, its, own, MARGIN),
        scoring.features_of(n).name, against, n, equal_cost,
    )  # fmt: skip


def timed(full: Model, light: Model, batch: int, repeats: int = REPEATS) -> Interval:
    """Time of a call of the light network over that of the full one, the median of paired rounds with its interval."""
    x, labels = unit_noise(0, range(batch), full.shape, device=full.device), full.labels(batch)
    t = float(full.schedule.time(full.start))
    with torch.inference_mode():
        return clock_ratio(lambda: light(x, t, labels), lambda: full(x, t, labels), repeats, WARMUP)


def calls_of_evidence(n: int, batch: int, macs: float | None, own: bool) -> int:
    """Evaluations that `evidence_of` makes of both networks, at most, where a share `macs` of the multiply-adds is left.

    macs  None where all are left
    own   whether it compares with other samples of the full network, for want of data
    """
    few = 0 if macs is None else min(round(CALLS * macs), CALLS - 1)
    samples = n * (2 * CALLS + own * CALLS + few)
    return samples + 2 * batch * (REPEATS + WARMUP)


def _counted(full: Model, light: Model, each: bool) -> tuple[int, int]:
    """Weights of both networks that are not 0, or the bytes of all."""
    first, second = (
        sum(int(p.count_nonzero()) if each else p.numel() * p.element_size() for p in network_of(model).parameters())
        for model in (full, light)
    )
    return first, second


def _both(pair: tuple[int, int]) -> dict[str, int]:
    return {"full": pair[0], "light": pair[1]}
