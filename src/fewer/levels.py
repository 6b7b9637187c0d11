"""Noise levels and their coordinates.

A process mixes data D and unit noise eps as x = alpha D + sigma eps. A level is the ratio of the two, and has four names:

    s = sigma / alpha        tau = s / (1 + s)        log s        lambda = log(alpha / sigma) = log-SNR / 2 = -log s

with tau in [0, 1], s in [0, inf] and the logarithms in [-inf, inf]; tau = 0 is clean data and tau = 1 pure noise. The
functions take floats, float64 arrays and float64 tensors, and give what they take unless they say otherwise.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Number = float | Tensor
Value = TypeVar("Value", float, NDArray[np.float64], Tensor)


def s_of_tau(tau: Value) -> Value:
    """s = tau / (1 - tau): 0 at tau = 0, inf at tau = 1."""
    if isinstance(tau, Tensor):
        return tau / (1 - tau)
    if isinstance(tau, np.ndarray):
        with np.errstate(divide="ignore"):
            return tau / (1 - tau)
    return tau / (1 - tau) if tau < 1 else math.inf


def tau_of_s(s: Value) -> Value:
    """tau = s / (1 + s): 0 at s = 0, 1 at s = inf."""
    if isinstance(s, Tensor):
        return torch.where(s == math.inf, 1.0, s / (1 + s))
    if isinstance(s, np.ndarray):
        return np.divide(s, 1 + s, out=np.ones_like(s), where=s < math.inf)
    return s / (1 + s) if s < math.inf else 1.0


def tau_of_log_s(log_s: Value) -> Value:
    """tau = 1 / (1 + e^(-log s)): 0 at -inf, 1 at inf."""
    if isinstance(log_s, Tensor):
        return torch.sigmoid(log_s)
    if isinstance(log_s, np.ndarray):
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-log_s))
    return 1 / (1 + math.exp(-log_s)) if log_s > -700 else math.exp(log_s)


def log_s(tau: Number) -> Tensor:
    """log(tau) - log(1 - tau) as a float64 tensor, differentiable: -inf at tau = 0, inf at tau = 1."""
    tau = torch.as_tensor(tau, dtype=torch.float64)
    return torch.log(tau) - torch.log1p(-tau)


def unit_variance_scale(tau: Number) -> Tensor:
    """Alpha + sigma of a process with alpha^2 + sigma^2 = 1, as a float64 tensor."""
    tau = torch.as_tensor(tau, dtype=torch.float64)
    return (tau**2 + (1 - tau) ** 2) ** -0.5


def half_log_snr(tau: float) -> float:
    """lambda = log(1 - tau) - log(tau): inf at tau = 0, -inf at tau = 1."""
    if tau in (0, 1):
        return math.inf if tau == 0 else -math.inf
    return math.log1p(-tau) - math.log(tau)
