"""Rounding to nearest: the baseline of every other rounding."""

from __future__ import annotations

from dataclasses import dataclass

from fewer.compression.quantise import Task
from fewer.models.quantised.grid import Codes
from fewer.models.quantised.network import Quantised
from fewer.registry import part


@part(
    "nearest",
    title="Every weight to the nearest value of its grid",
    source="Nagel et al. 2021, A White Paper on Neural Network Quantization, arXiv:2106.08295",
    ranked=False,
)
@dataclass(frozen=True)
class Nearest:
    """q = round(w / scale + zero) on grids that reach from the least to the greatest weight that shares a scale."""

    def rounded(self, task: Task) -> Quantised:
        """Needs no states."""
        parameters = dict(task.network.named_parameters())
        return Quantised({name: Codes.nearest(parameters[name], how) for name, how in task.formats.items()})
