"""The space in which images are compared: small pictures, and the features that were asked for, side by side.

Beside data, the images' detail is in it, too; without data it is a criterion of its own.

Each of these blocks is divided by the mean distance between images of the reference in it (or by what an eye would hardly
see, where that is more), so that 1 is about as far apart as two images of the reference are, and no block has a unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewer.judging.gather import ON_SMALL, RANGE, Gathered, small_features
from fewer.judging.measures import SIDE

LEAST_SMALL = 0.05  # distance (RMSE) of small pictures
LEAST_DETAIL = 1.0  # of log detail
SOME = 1000  # images that a mean distance is taken of
SOFT = 0.5  # distance below which differences between sets count by their squares
ROWS = 512  # of a distance matrix in memory at once

Block = tuple[list[Tensor], float]  # rows (n, d) of each set, and the least distance that counts as one


def space(sets: list[Gathered], features: str | None, detail: bool, seed: int) -> list[Tensor]:
    """Rows (n, d) float64 of each set's images, with their detail or without; the first set is the reference."""
    small = [torch.from_numpy(np.stack(each.small)).double() for each in sets]
    blocks: list[Block] = [(small, LEAST_SMALL)]
    if detail:
        of_each = [torch.tensor(each.detail, dtype=torch.float64)[:, None] for each in sets]
        blocks.append((of_each, LEAST_DETAIL))
    if features is not None:
        blocks.append((_features(sets, small, features, seed), 0.0))
    scaled = [_scaled(rows, least) for rows, least in blocks]
    return [torch.cat(columns, 1) for columns in zip(*scaled, strict=True)]


def _features(sets: list[Gathered], small: list[Tensor], name: str, seed: int) -> list[Tensor]:
    if not ON_SMALL.fullmatch(name):
        return [torch.stack(each.features).double() for each in sets]
    low, high = RANGE
    pictures = [
        (x * math.sqrt(x.shape[1]) * (high - low) + low).reshape(len(x), SIDE, SIDE, 3).permute(0, 3, 1, 2).float()
        for x in small
    ]
    of = small_features(name, pictures[0], seed)
    return [of(x) for x in pictures]


def _scaled(rows: list[Tensor], least: float) -> list[Tensor]:
    origin = rows[0].mean(0)
    some = rows[0][:: max(1, len(rows[0]) // SOME)] - origin
    typical = float(torch.pdist(some).mean()) if len(some) > 1 else 0.0
    return [(x - origin) / (max(typical, least) or 1.0) for x in rows]


def softened(apart: Tensor) -> Tensor:
    """sqrt(d^2 + SOFT^2) - SOFT of distances d: of far images about their distance, of near ones its square.

    A kernel of an energy distance like d itself (its negative is conditionally positive definite), but smooth at 0: noise that no
    eye sees on a set of equal images changes their distribution hardly, where by d it would change it altogether.
    Source: Micchelli 1986, Interpolation of scattered data (of multiquadrics).
    """
    return (apart.square() + SOFT**2).sqrt() - SOFT


@dataclass(frozen=True)
class Within:
    """Distances within one set of n images.

    rows      (n,) mean distance of each to the others
    nearest   (n,) distance of each to its nearest other
    """

    rows: Tensor
    nearest: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Within:
        """Of rows (n, d), n >= 2."""
        rows, nearest = [], []
        for start in range(0, len(x), ROWS):
            apart = torch.cdist(x[start : start + ROWS], x)
            own = apart.diagonal(offset=start)
            own.zero_()
            rows.append(apart.sum(1) / (len(x) - 1))
            own.fill_(math.inf)
            nearest.append(apart.amin(1))
        return cls(torch.cat(rows), torch.cat(nearest))


def distinct(x: Tensor, closest: float) -> int:
    """How many of rows (n, d) are farther than `closest` from all before them."""
    count = 0
    for start in range(0, len(x), ROWS):
        apart = torch.cdist(x[start : start + ROWS], x)
        later = torch.arange(len(x)) >= torch.arange(start, start + len(apart))[:, None]
        count += int((apart.masked_fill(later, math.inf).amin(1) > closest).sum())
    return count


def mean_to(x: Tensor, y: Tensor) -> Tensor:
    """Mean distance (n,) of rows x (n, d) to rows y (m, d)."""
    return torch.cat([torch.cdist(some, y).mean(1) for some in x.split(ROWS)])
