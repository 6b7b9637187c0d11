"""What is to be expected of a device: network evaluations a second, and memory, from short plays of a model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fewer.engine import MICRO_BATCH, sample
from fewer.evaluate.cost.clock import peak_memory
from fewer.guidance.cfg import passes_at
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.samplers import standard

Clock = Callable[[], float]

TIMED = 0.1  # seconds of a timed play that are enough
FEW = 4  # samples of the play whose memory is measured


@dataclass(frozen=True)
class Forecast:
    """What a command is expected to take, before it is begun.

    evaluations  of single samples, by the stage that makes them
    pace         evaluations a second on this device, as timed now; None where nothing could be timed
    memory       bytes at the peak, about; None where it is not known
    most         seconds that were asked for at most
    limit        evaluations that were asked for at most
    notes        sentences beside
    """

    evaluations: Mapping[str, int]
    pace: float | None = None
    memory: int | None = None
    most: float | None = None
    limit: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All evaluations, at most as many as were asked for, or as a bounded time has room for."""
        whole = min(sum(self.evaluations.values()), self.limit or sys.maxsize)
        return whole if self.pace is None or self.most is None else min(whole, int(self.pace * self.most))

    @property
    def seconds(self) -> float | None:
        """Seconds that they take at this pace."""
        return None if self.pace is None else self.total / self.pace


def timed_pace(
    model: Model, guidance: float | None, batch: int, clock: Clock = time.monotonic, enough: float = TIMED
) -> float:
    """Network evaluations a second of a short plan on up to `batch` samples at a time, the engine's work included.

    One sample is played first, which also loads what is loaded at first use; then four times as many each time, until they
    take `enough` seconds. The fastest counts.
    """
    plan = short_plan(model, guidance)

    def pace(n: int) -> float:
        noise = unit_noise(0, range(n), model.shape, device=model.device)
        began = clock()
        float(sample(model, plan, noise=noise, batch=n).sum())  # waits for the device
        return plan.nfe * n / max(clock() - began, 1e-9)

    pace(1)
    n, best = 1, pace(1)
    while n < batch and plan.nfe * n / best < enough:
        n = min(4 * n, batch)
        best = max(best, pace(n))
    return best


def short_plan(model: Model, guidance: float | None) -> Plan:
    """A plan of two rows, by which a model is timed."""
    return standard("ddim", model, 2 * passes_at(guidance), "logsnr", guidance=guidance)


def batch_memory(model: Model, guidance: float | None, batch: int = MICRO_BATCH) -> int:
    """Bytes, about: the parameters, and the peak of a call of `batch` samples, extrapolated from that of a few."""
    n = min(FEW, batch)
    noise = unit_noise(0, range(n), model.shape, device=model.device)
    plan = short_plan(model, guidance)
    peak = peak_memory(lambda: sample(model, plan, noise=noise, batch=n), model.device)
    return 4 * (model.parameters or 0) + peak * -(-batch // n)


def foreseen(
    model: Model, evaluations: Mapping[str, int], guidance: float | None = None, batch: int | None = None,
    notes: tuple[str, ...] = (),
) -> Forecast:  # fmt: skip
    """What these evaluations take on the model's device."""
    size = batch or MICRO_BATCH
    return Forecast(evaluations, timed_pace(model, guidance, size), batch_memory(model, guidance, size), notes=notes)


def in_words(seconds: float) -> str:
    """Seconds as a person says them: "40 seconds", "3 minutes", "2.5 hours", "4 days"."""
    for size, unit in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} seconds" if seconds < 9.5 else f"{seconds:.0f} seconds"
