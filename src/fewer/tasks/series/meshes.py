"""Triangle meshes of plane shapes without holes: morphed onto the unit disk, and fields taken from one mesh to another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve
from torch import Tensor

from fewer.errors import InputError


@dataclass(frozen=True, eq=False)
class Mesh:
    """Nodes (V, 2) and triangles (F, 3) of node numbers, which cover a shape whose boundary is one closed line.

    Raises InputError for other sizes, numbers of no node, and boundaries that are not one closed line.
    """

    nodes: Tensor
    triangles: Tensor

    def __post_init__(self) -> None:
        if self.nodes.ndim != 2 or self.nodes.shape[1] != 2 or self.triangles.ndim != 2 or self.triangles.shape[1] != 3:
            raise InputError(
                f"nodes are {tuple(self.nodes.shape)} and triangles {tuple(self.triangles.shape)}; expected (V, 2) and (F, 3)"
            )
        numbers = self.triangles
        if not bool(self.nodes.isfinite().all()) or not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self.nodes):
            raise InputError("nodes of a mesh must be finite, and its triangles name nodes by their numbers from 0")
        object.__setattr__(self, "nodes", self.nodes.double())

    @cached_property
    def boundary(self) -> list[int]:
        """Nodes of the boundary in turn, counter-clockwise, from the one that is farthest to the right of the shape's middle."""
        corners = self.nodes[self.triangles]
        a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        turned = torch.where(
            (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 0)[:, None], self.triangles, self.triangles.flip(1)
        )
        edges = {(int(t[k]), int(t[(k + 1) % 3])) for t in turned.tolist() for k in range(3)}
        after = {here: there for here, there in edges if (there, here) not in edges}
        away = self.nodes - self.nodes.mean(0)
        first = max(after, key=lambda node: float(away[node, 0]) - abs(float(away[node, 1])))
        line = [first]
        while len(line) <= len(after) and (there := after.get(line[-1])) is not None and there != first:
            line.append(there)
        if len(line) != len(after):
            raise InputError("the boundary of a mesh must be one closed line: this shape has holes, or parts")
        return line

    @cached_property
    def on_disk(self) -> Tensor:
        """The nodes (V, 2) on the unit disk: boundary nodes on its circle by arc length, others at the mean of their neighbours.

        No triangle turns over. Source: Tutte 1963, How to Draw a Graph, doi:10.1112/plms/s3-13.1.743.
        """
        line = self.boundary
        ends = self.nodes[line]
        steps = (ends.roll(-1, 0) - ends).norm(dim=1)
        angle = 2 * math.pi * (steps.cumsum(0) - steps) / steps.sum()
        placed = torch.zeros_like(self.nodes)
        placed[line] = torch.stack([angle.cos(), angle.sin()], 1)
        pairs = torch.cat([self.triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
        pairs = torch.cat([pairs, pairs.flip(1)]).unique(dim=0).numpy()
        count = len(self.nodes)
        near = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
        laplacian = (diags_array(near.sum(1)) - near).tocsr()
        inside = np.setdiff1d(np.arange(count), line)
        if len(inside):
            right = -laplacian[inside][:, line] @ placed[line].numpy()
            placed[inside] = torch.from_numpy(
                spsolve(laplacian[inside][:, inside].tocsc(), right).reshape(len(inside), 2)
            )
        return placed

    def weights(self, points: Tensor) -> Tensor:
        """W (P, V) with W f the piecewise linear field f (V, q), known on the morphed mesh, at points (P, 2) of the disk.

        Points between the disk's circle and the mesh's own boundary take the nearest triangle's values.
        """
        corners = self.on_disk[self.triangles]
        origin, a, b = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        away = points.double()[:, None] - origin
        second = (away[..., 0] * b[:, 1] - away[..., 1] * b[:, 0]) / area
        third = (a[:, 0] * away[..., 1] - a[:, 1] * away[..., 0]) / area
        all_three = torch.stack([1 - second - third, second, third], -1)  # (P, F, 3)
        found = all_three.min(-1).values.argmax(1)
        rows = torch.arange(len(points))
        own = all_three[rows, found].clamp_min(0)
        w = points.new_zeros(len(points), len(self.nodes), dtype=torch.float64)
        w.scatter_add_(1, self.triangles[found], own / own.sum(1, keepdim=True))
        return w
