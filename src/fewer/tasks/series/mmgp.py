"""MMGP: fields on meshes of many shapes, morphed onto one, reduced, and learned by Gaussian processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.registry import part
from fewer.tasks.series.gaussian_process import GaussianProcesses, Moments
from fewer.tasks.series.meshes import Mesh
from fewer.tasks.series.reduced import Components


@part(
    "mmgp",
    title="Mesh morphing Gaussian process: fields on a common mesh, principal components, a Gaussian process for each",
    source="Casenave et al. 2023, MMGP: a Mesh Morphing Gaussian Process-based machine learning method for regression of physical "
    "problems under non-parameterized geometrical variability, arXiv:2305.12871",
    papers=(245,),
    role="procedure",
)
@dataclass(frozen=True, eq=False)
class MMGP:
    """A field on a shape, given the shape's mesh and numbers of the case.

    Every mesh is morphed onto the unit disk, and its nodes' coordinates and fields are taken to one common mesh there. Principal
    components of the coordinates stand for the shape; with the numbers beside they are the inputs of the Gaussian processes of the
    fields' components. A prediction goes the same way back, to the nodes of the new mesh.

    common     the common mesh
    shapes     components of the coordinates on it
    middle, width  mean and deviation (s,) of the numbers
    outputs    components of the fields on it
    processes  of these, given shapes and numbers
    """

    common: Mesh
    shapes: Components
    middle: Tensor
    width: Tensor
    outputs: Components
    processes: GaussianProcesses

    @classmethod
    def fit(
        cls, meshes: Sequence[Mesh], fields: Sequence[Tensor], numbers: Tensor | None = None, *, share: float = 0.999,
        most: int = 8,
    ) -> MMGP:  # fmt: skip
        """Of shapes with fields (V_i, q) on their nodes and numbers (N, s).

        share, most  of the variance that components keep, and how many they are at most

        The first mesh, morphed, is the common one. Raises InputError for fewer than 4 shapes, sizes that do not agree, and values
        that are not finite.
        """
        if len(meshes) < 4 or len(meshes) != len(fields):
            raise InputError(f"there are {len(meshes)} meshes and {len(fields)} fields; expected as many, at least 4")
        if any(tuple(f.shape) != (len(m.nodes), fields[0].shape[-1]) for m, f in zip(meshes, fields, strict=True)):
            raise InputError("each field must be (V, q) on the V nodes of its mesh, q the same for all")
        if not all(bool(f.isfinite().all()) for f in fields):
            raise InputError("fields must be finite")
        common = meshes[0]
        given = _numbers(numbers, len(meshes), None)
        middle, width = given.mean(0), given.std(0).clamp_min(1e-12)
        on_common = torch.stack(
            [(m.weights(common.on_disk) @ f.double()).flatten() for m, f in zip(meshes, fields, strict=True)]
        )
        outputs = Components.of(on_common, share, most)
        coordinates = _coordinates(common, meshes)
        shapes = Components.of(coordinates, share, most)
        inputs = torch.cat([shapes.reduce(coordinates), (given - middle) / width], 1)
        return cls(common, shapes, middle, width, outputs, GaussianProcesses.fit(inputs, outputs.reduce(on_common)))

    def predict(self, meshes: Sequence[Mesh], numbers: Tensor | None = None) -> list[Moments]:
        """Mean and variance (V_i, q) of the fields on the nodes of each of these meshes, of cases with numbers (M, s).

        Raises InputError for other numbers than the fit had.
        """
        reduced = self.shapes.reduce(_coordinates(self.common, meshes))
        inputs = torch.cat([reduced, (_numbers(numbers, len(meshes), len(self.middle)) - self.middle) / self.width], 1)
        means, variances = self.processes.predict(inputs)
        own, nodes = self.outputs, len(self.common.nodes)
        basis = (own.basis * own.scale).view(nodes, -1, len(own.scale))
        found = []
        for mesh, mean, variance in zip(meshes, means, variances, strict=True):
            back = self.common.weights(mesh.on_disk)  # from the common mesh to the nodes of this one
            there = torch.einsum("pv,vqr->pqr", back, basis)
            spread = there.square() @ variance + back.square() @ own.left_out.view(nodes, -1)
            found.append(Moments(back @ own.mean.view(nodes, -1) + there @ mean, spread))
        return found


def _coordinates(common: Mesh, meshes: Sequence[Mesh]) -> Tensor:
    """Of each shape (N, 2 V), where the common mesh's nodes lie on the disk."""
    return torch.stack([(mesh.weights(common.on_disk) @ mesh.nodes).flatten() for mesh in meshes])


def _numbers(numbers: Tensor | None, count: int, size: int | None) -> Tensor:
    """Numbers (count, s) in float64, s = 0 where there are none; s is `size`, or any where that is None."""
    numbers = torch.zeros(count, 0, dtype=torch.float64) if numbers is None else numbers
    fits = numbers.ndim == 2 and len(numbers) == count and size in (None, numbers.shape[-1])
    if not fits or not bool(numbers.isfinite().all()):
        expected = "s" if size is None else size
        raise InputError(
            f"numbers are {tuple(numbers.shape)}; expected ({count}, {expected}), a finite row for each mesh"
        )
    return numbers.double()
