"""Numbers of single weights by the shapes of layers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.costs import Costs
from fewer.compression.subject import Subject
from fewer.compression.units import Group, require_single_weights
from fewer.compression.work import WithoutCalls
from fewer.errors import InputError
from fewer.registry import part


@part(
    "erdos-renyi",
    title="Densities of layers as of random graphs: small layers stay denser",
    source="Mocanu et al. 2018, arXiv:1707.04780, and with kernels Evci et al. 2020, arXiv:1911.11134; of random masks "
    "Gadhikar et al. 2023, Why Random Pruning Is All We Need to Start Sparse, arXiv:2210.02412",
)
@dataclass(frozen=True)
class ErdosRenyi(WithoutCalls):
    """Density p_l = min(1, c (n_in + n_out + k_h + k_w) / (n_in n_out k_h k_w)) of layer l, with the largest c that fits.

    With random scores these are the random masks of Gadhikar et al. 2023, whose layers keep about as many weights as they have
    neurons.

    densities  "er", or "balanced": the same number of weights in every layer, p_l = min(1, c / numel)
    """

    densities: str = "er"

    def __post_init__(self) -> None:
        if self.densities not in ("er", "balanced"):
            raise InputError(f"densities is {self.densities!r:.80}; expected er or balanced")

    def check_units(self, groups: Sequence[Group]) -> None:
        """Raise InputError for units that are no single weights."""
        require_single_weights(groups, "erdos-renyi")

    def allocate(self, subject: Subject, importance: Mapping[str, Tensor], costs: Costs) -> dict[str, int]:
        """Raises InputError for units that are no single weights, and where not even the fewest fit."""
        self.check_units(subject.groups)
        costs.check(subject.model.name)
        shapes = {g.name: subject.network.get_parameter(f"{g.module}.weight").shape for g in subject.groups}
        raw = {name: self._density(shape) for name, shape in shapes.items()}
        low, high = 0.0, 1 / min(raw.values())
        for _ in range(60):  # c by bisection: what stays grows with it
            middle = (low + high) / 2
            fits = costs.of(subject.groups, _numbers(subject.groups, raw, middle)) <= costs.limit
            low, high = (middle, high) if fits else (low, middle)
        return _numbers(subject.groups, raw, low)

    def _density(self, shape: torch.Size) -> float:
        return (1.0 if self.densities == "balanced" else float(sum(shape))) / shape.numel()


def _numbers(groups: tuple[Group, ...], raw: Mapping[str, float], c: float) -> dict[str, int]:
    """Weights to keep of each layer, in whole steps, one at least."""
    return {g.name: g.at_most(min(1.0, c * raw[g.name])) for g in groups}
