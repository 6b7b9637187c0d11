"""The plans that samplers of posteriors are usually played on."""

from __future__ import annotations

from fewer.models.model import Model
from fewer.plan import Plan
from fewer.samplers import standard
from fewer.solvers.noise_share import with_noise

GRID = "logsnr"


def ddim(model: Model, nfe: int, share: float = 0.0) -> Plan:
    """DDIM on levels regular in log-SNR, with this share of fresh noise in every row."""
    return with_noise(standard("ddim", model, nfe, GRID), share)


def ancestral(model: Model, nfe: int) -> Plan:
    """DDPM's steps on the same levels."""
    return standard("ancestral", model, nfe, GRID)
