"""How a pipeline combines the passes of its network: read off its own code, by playing its tape from outputs that are chosen.

Rows of the network's outputs that move the same entries of what goes to `step` are passes of the same samples. Of two passes
the one with the prompt is the one whose weight grows with the scale: scale F(label) + (1 - scale) F(empty).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.integrations.tape import Node

Unit = tuple[Node, int]  # an output of the network, and the number of a row in it


@dataclass(frozen=True)
class Combination:
    """What the pipeline hands to `step`, as a function of its network's outputs.

    passes  the rows of each pass, in the order of the calls: passes[p][k] is that of the k-th sample
    """

    node: Node
    like: Mapping[Node, Tensor]
    passes: tuple[tuple[Unit, ...], ...]

    def of(self, *rows: Sequence[Tensor]) -> Tensor:
        """What goes to `step` where pass p has the outputs rows[p], one for each sample; all passes, where one is given."""
        outputs = rows if len(rows) > 1 else rows * len(self.passes)
        given = {
            unit: row
            for units, values in zip(self.passes, outputs, strict=True)
            for unit, row in zip(units, values, strict=True)
        }
        leaves = {
            leaf: torch.stack([given.get((leaf, k), like[k]) for k in range(len(like))])
            for leaf, like in self.like.items()
        }
        return self.node.played(leaves)

    def label(self) -> int | None:
        """The one of two passes whose weight grows with the scale; None where neither does.

        The weights are those of two random outputs in what is made of the first in one pass and of the second in the other.
        """
        one, other = ([_random(self.like[leaf][k], seed) for leaf, k in self.passes[0]] for seed in (1, 2))
        parts = [self.of(*given).flatten().double() for given in ((one,), (other,), (one, other))]
        basis, mixed = torch.stack(parts[:2]), parts[2]
        try:
            weights = torch.linalg.solve(basis @ basis.T, basis @ mixed).tolist()
        except torch.linalg.LinAlgError:  # nothing of the network's outputs goes on
            return None
        return weights.index(max(weights)) if max(weights) > _SMALL and min(weights) < _SMALL else None


_SMALL = 0.05  # of a weight: rounding in half precision


def read(node: Node, like: Mapping[Node, Tensor]) -> Combination | None:
    """The combination of these outputs of the network, by the tape's last node; None where samples share passes, or differ in them.

    like  the outputs, in the order of the calls, (n, ..) each
    """
    units = [(leaf, k) for leaf, value in like.items() for k in range(len(value))]
    base = {leaf: _random(value, 3) for leaf, value in like.items()}
    moved = [_moved(node, base, unit) for unit in units]
    counts = torch.stack([each.sum() for each in moved])
    hashes = torch.randint(1, 2**31, moved[0].shape, generator=torch.Generator().manual_seed(4)).to(counts.device)
    codes = torch.stack([torch.where(each, hashes, 0).sum() for each in moved])
    sizes = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    if sum(sizes.values()) != int(torch.stack(moved).any(0).sum()):  # some share a part of what they move
        return None
    samples: dict[int, list[Unit]] = {}
    for unit, code in zip(units, codes.tolist(), strict=True):
        if code:  # else nothing of it goes on
            samples.setdefault(code, []).append(unit)
    if len({len(each) for each in samples.values()}) != 1:
        return None
    return Combination(node, like, tuple(zip(*samples.values(), strict=True)))


def _moved(node: Node, base: Mapping[Node, Tensor], unit: Unit) -> Tensor:
    """Which entries a row of an output moves."""
    leaf, k = unit
    other = base[leaf].clone()
    other[k] = torch.nan
    return node.played({**base, leaf: other}).isnan().flatten()


def _random(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)
