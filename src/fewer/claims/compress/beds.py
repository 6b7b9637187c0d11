"""Bundled networks that are made lighter, and how far their outputs are from the full ones' on states that no part has seen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn

from fewer import load
from fewer.compression import Allocator, Recovery, Score
from fewer.compression.calibration import calibration_of
from fewer.compression.compress import rated
from fewer.compression.costs import Unit, counted_costs
from fewer.compression.cut import cut
from fewer.compression.masks import MaskLearner
from fewer.compression.subject import Subject
from fewer.compression.units import WIDTHS, Kind, find_units
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import ratio, squared_errors

NETWORK, SHARE, BATCH = "dit-digits", 0.6, 64  # SHARE: of the multiply-adds, that stays
HELD_OUT, FIRST = 8, 1 << 24  # batches of states that networks are compared on, and the number of the first


@cache
def subject(seed: int, name: str = NETWORK, kinds: tuple[Kind, ...] = WIDTHS, samples: int = 256) -> Subject:
    """A bundled network with its units, and states of its own samples."""
    model = load(name)
    return Subject(model, tuple(find_units(model, kinds)), calibration_of(model, None, seed, samples), BATCH)


class Reversed:
    """A score with the best and the worst units of each group exchanged: the sabotage of scores."""

    def __init__(self, score: Score) -> None:
        self.score = score

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Greatest where the score's is least."""
        return turned(self.score.rate(subject))


def turned(importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The best unit of each group as important as its worst was, and so on."""
    return {name: own.max() - own + own.min() for name, own in importance.items()}


def light(
    of: Subject, score: Score | MaskLearner, allocator: Allocator, share: float = SHARE, unit: Unit = "multiply-adds"
) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """The network within a share of its multiply-adds, or of its units' weights, not repaired, and the units that it keeps."""
    macs = unit == "multiply-adds"
    whole = float(call_macs(of.model) if macs else sum(g.size * g.weights for g in of.groups))
    costs = counted_costs(of.groups, unit, whole, share * whole)
    network, found = rated(of, score, costs)
    numbers = allocator.allocate(of, found.importance, costs)
    kept = {g.name: g.kept(found.importance[g.name], numbers[g.name]) for g in of.groups}
    return cut(network, of.groups, kept), kept


def repaired(of: Subject, network: nn.Module, kept: Mapping[str, Tensor], recovery: Recovery) -> nn.Module:
    """A copy of a light network after a recovery."""
    other = cut(network, (), {})
    recovery.recover(of, other, kept)
    return other


def errors(of: Subject, network: nn.Module) -> Tensor:
    """Mean squared difference of the outputs from the full network's on each held-out state (n,)."""
    with torch.no_grad():
        parts = [
            squared_errors(of.call(network, batch), batch.target)
            for batch in of.calibration.batches(of.batch, HELD_OUT, FIRST)
        ]
    return torch.cat(parts)


def against(of: Subject, one: nn.Module, other: nn.Module) -> Interval:
    """Root mean square difference from the full network's outputs of one light network over that of another."""
    return ratio(errors(of, one), errors(of, other))
