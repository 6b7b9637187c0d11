"""Conjugate gradients for a batch of systems that share one matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewer.batch import inner


def conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], b: Tensor, iterations: int, tolerance: float = 0.0
) -> Tensor:
    """V (n, *shape) with matrix(v) = b, each sample's own system, by so many steps from 0 (Hestenes & Stiefel 1952).

    matrix     symmetric and positive semi-definite, of tensors (n, *shape)
    tolerance  of |matrix(v) - b| / |b|, below which a sample's v stays
    """
    v, residual, direction = torch.zeros_like(b), b, b
    size = inner(b, b)
    enough = tolerance**2 * size
    for _ in range(iterations):
        moving = size > enough
        if not bool(moving.any()):
            break
        ahead = matrix(direction)
        curvature = inner(direction, ahead)
        length = torch.where(moving & (curvature > 0), size / curvature, 0.0).to(b)
        v, residual = v + length * direction, residual - length * ahead
        before, size = size, inner(residual, residual)
        direction = residual + torch.where(moving, size / before, 0.0).to(b) * direction
    return v
