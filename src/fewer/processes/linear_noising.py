"""Linear noising with a metric and a rotation: F, J and the bound's terms, as in the head of `fewer.processes.flexible`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError


def checked(x: Any, dim: int | None = None) -> Tensor:
    """Data (n, d) in float64, apart from any graph, checked."""
    try:
        given = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"data are {type(x).__name__}; expected a tensor of numbers") from error
    own = given.detach().to("cpu", torch.float64, copy=True)
    if own.ndim != 2 or own.shape[1] != (dim or own.shape[1]):
        raise InputError(f"data are of shape {tuple(own.shape)}; expected (n, {dim or 'd'})")
    if not bool(own.isfinite().all()):
        raise InputError("data hold values that are not finite")
    return own


def flows_at(m: Tensor, w: Tensor, clocks: Tensor) -> Tensor:
    """F (N, d, d) at clocks (N,)."""
    flows: Tensor = torch.linalg.matrix_exp(-clocks[:, None, None] / 2 * (m + w))
    return flows


def signal_to_noise(flows: Tensor, covariances: Tensor) -> Tensor:
    """J = F^T S^-1 F (N, d, d)."""
    found = flows.mT @ torch.linalg.solve(covariances, flows)
    return (found + found.mT) / 2


def gains(information: Tensor) -> Tensor:
    """Of the error at each level (N, d, d), from J: what the next level tells more than it, and all that the last one tells."""
    return torch.cat([information[1:] - information[:-1], information[-1:]])


def half_norm(error: Tensor, metric: Tensor) -> Tensor:
    """e^T metric e / 2, (n,)."""
    return (error[:, None] @ metric @ error[..., None])[:, 0, 0] / 2


def at_the_start(x0: Tensor, flow: Tensor) -> Tensor:
    """KL(N(F x_0, I - F F^T) || N(0, I)), (n,)."""
    own = torch.eye(len(flow), dtype=flow.dtype) - flow @ flow.mT
    return ((x0 @ flow.mT).square().sum(1) + own.trace() - len(flow) - torch.linalg.slogdet(own).logabsdet) / 2


def at_the_end(information: Tensor) -> Tensor:
    """-log of the density of N(D, J^-1) at D."""
    return len(information) / 2 * math.log(2 * math.pi) - torch.linalg.slogdet(information).logabsdet / 2


def root_of(covariance: Tensor) -> Tensor:
    """A root L, L L^T = covariance, of a matrix that may be singular to rounding."""
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    return vectors * values.clamp_min(0).sqrt()
