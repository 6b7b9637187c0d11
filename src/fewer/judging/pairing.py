"""How pairs lie in the space of all images: which candidate's image is another than its reference's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.judging.space import ROWS, softened

CLOSE = 0.35  # images closer than this are the same to the eye; 1 is the mean distance between images of the reference
NEARER = 0.5  # of the distance to its own: at most as far is the image that a candidate's one is instead
LOWEST = 0.05  # share of the other images that are nearer than this image's own counterpart, if it is another image
REPEATED = 0.1  # of the distance between their references: at most as far are two images that repeat each other
FEWEST = 8  # images of one prompt, by which unrelated ones of the same prompt are recognised


@dataclass(frozen=True)
class Pairing:
    """Of n pairs (A_i, B_i).

    own        (n,) |A_i - B_i|
    unrelated  (n,) distance from A_i at which another image lies: the lowest 5 % of those of the same prompt, at least CLOSE
    instead    (n,) number of the A_j that B_i is instead of A_i; -1 where none is that near
    repeats    (n,) number of the B_j that B_i repeats though A_i and A_j differ; -1 where there is none
    between    (n,) mean of h(i, j) over j (see `h_of`), `squares` the mean of its squares over all pairs i, j
    """

    own: Tensor
    unrelated: Tensor
    instead: Tensor
    repeats: Tensor
    between: Tensor
    squares: float

    @property
    def other(self) -> Tensor:
        """(n,) whether B_i is another image than A_i, or as far from it as one."""
        return (self.own >= self.unrelated) | (self.instead >= 0)


def pairing(a: Tensor, b: Tensor, groups: Tensor) -> Pairing:
    """Of rows a and b (n, d) of the same names, n >= 8; `groups` (n,) numbers their prompts."""
    own = (a - b).norm(dim=1)
    parts = [_block(a, b, own, groups, start) for start in range(0, len(a), ROWS)]
    unrelated, instead, repeats, between, squares = zip(*parts, strict=True)
    n = len(a)
    return Pairing(
        own, torch.cat(unrelated), torch.cat(instead), torch.cat(repeats), torch.cat(between),
        sum(squares) / (n * (n - 1)),
    )  # fmt: skip


def _block(
    a: Tensor, b: Tensor, own: Tensor, groups: Tensor, start: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """What `Pairing` holds of some rows."""
    some = slice(start, start + ROWS)
    aa, bb, ab, ba = (torch.cdist(x[some], y) for x, y in ((a, a), (b, b), (a, b), (b, a)))
    for apart in (aa, bb, ab, ba):
        apart.diagonal(offset=start).zero_()
    h = softened(ab) + softened(ba) - softened(aa) - softened(bb)
    unrelated = _unrelated(aa, groups, start)
    ba.diagonal(offset=start).fill_(math.inf)
    to_other, instead = ba.min(1)
    is_other = (to_other <= NEARER * own[some]) & (own[some] >= CLOSE)
    again = (bb <= REPEATED * aa) & (aa >= CLOSE) & (own[some, None] >= own)
    repeats = torch.where(again.any(1), again.int().argmax(1), -1)
    return unrelated, torch.where(is_other, instead, -1), repeats, h.sum(1) / (len(a) - 1), float(h.square().sum())


def _unrelated(aa: Tensor, groups: Tensor, start: int) -> Tensor:
    """The lowest 5 % of distances to other images of the same prompt, where there are enough, or else to all."""
    same = groups[start : start + len(aa), None] == groups
    same.diagonal(offset=start).fill_(False)
    same[same.sum(1) < FEWEST] = True
    same.diagonal(offset=start).fill_(False)
    ordered = aa.masked_fill(~same, math.inf).sort(1).values
    rank = (LOWEST * (same.sum(1) - 1)).floor().long()
    return ordered.gather(1, rank[:, None]).squeeze(1).clamp(min=CLOSE)
