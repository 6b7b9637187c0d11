"""What units cost in milliseconds, measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewer.compression import Allocator
from fewer.compression.costs import Costs
from fewer.compression.cut import cut
from fewer.compression.subject import Subject
from fewer.errors import InputError
from fewer.evaluate.cost.clock import median, rounds
from fewer.evaluate.cost.price import clocked_modules
from fewer.evaluate.statistics.interval import Interval
from fewer.noise import unit_noise

REPEATS, WARMUP = 9, 2
TRIES = 4  # that a network which is slower than its parts made it is cut again


def clocked_costs(subject: Subject, limit: float) -> Costs:
    """Milliseconds of a call of one sample, in batches of the subject's size; `limit` is the most that may stay.

    Three networks are called in turn: whole, with half of the steps of every group removed, and with all that can go. Each group's
    module is timed in each; between the three its time is linear in the units.
    """
    some = {g.name: torch.arange(g.size - g.steps // 2 * g.step) for g in subject.groups}
    least = {g.name: torch.arange(g.fewest) for g in subject.groups}
    networks = [subject.network, *(cut(subject.network, subject.groups, kept) for kept in (some, least))]
    watched = {g.name: g.members[0] if g.members else g.module for g in subject.groups}
    times = [_of_modules(subject, network, watched) for network in networks]
    saved: dict[str, NDArray[np.float64]] = {}
    for g in subject.groups:
        steps = np.arange(g.steps + 1, dtype=np.float64)
        if g.members:
            saved[g.name] = steps * times[0][g.name]
        else:
            less = {
                g.steps // 2: times[0][g.name] - times[1][g.name],
                g.steps: times[0][g.name] - times[2][g.name],
                0: 0.0,
            }
            saved[g.name] = np.maximum.accumulate(np.interp(steps, sorted(less), [less[n] for n in sorted(less)]))
    return Costs("milliseconds", call_time(subject, subject.network).value, limit, saved)


def clocked(batch: int) -> int:
    """Evaluations for the milliseconds of units, and of the networks that are cut to them, at most."""
    return (4 + TRIES) * (REPEATS + WARMUP) * batch


def _of_modules(subject: Subject, network: nn.Module, names: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds that modules take of a call of one sample, the median of several calls."""
    modules = {name: network.get_submodule(module) for name, module in names.items()}
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    run = _run(subject, network)
    with clocked_modules(modules, seconds, subject.model.device):
        for _ in range(WARMUP + REPEATS):
            run()
    return {name: 1e3 * median(each[WARMUP:]).value / subject.batch for name, each in seconds.items()}


def call_time(subject: Subject, network: nn.Module) -> Interval:
    """Milliseconds of a call of one sample, in batches of the subject's size."""
    found = rounds({"": _run(subject, network)}, REPEATS, WARMUP)[""]
    return median([1e3 * each / subject.batch for each in found])


def allotted_within(
    subject: Subject, allocator: Allocator, importance: Mapping[str, Tensor], costs: Costs
) -> dict[str, int]:
    """Numbers of units with which the whole network is measured to be within `costs.limit` milliseconds.

    A network is rarely as fast as the sum of its parts says; what is slower is cut again, to a limit that is lower by as much.
    Raises InputError where that does not help.
    """
    aim = costs
    for _ in range(TRIES):
        numbers = allocator.allocate(subject, importance, aim)
        kept = {g.name: g.kept(importance[g.name], numbers[g.name]) for g in subject.groups}
        took = call_time(subject, cut(subject.network, subject.groups, kept)).value
        if took <= costs.limit:
            return numbers
        aim = Costs(aim.unit, aim.whole, aim.limit * 0.98 * costs.limit / took, aim.saved)
    raise InputError(
        f"{subject.model.name} takes {took:.3g} ms a sample however its units are chosen within {costs.limit:g} ms: "
        "give more milliseconds"
    )


def _run(subject: Subject, network: nn.Module) -> partial[Tensor]:
    model = subject.with_network(network)
    x = unit_noise(0, range(subject.batch), model.shape, device=model.device)
    t, labels = float(model.schedule.time(model.start)), model.labels(subject.batch)
    return partial(_called, model, x, t, labels)


def _called(*given: object) -> Tensor:
    model, *arguments = given
    with torch.inference_mode():
        output: Tensor = model(*arguments)  # type: ignore[operator]
    return output
