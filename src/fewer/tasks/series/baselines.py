"""Forecasters that every model of windows should beat: the last values, those a season ago, and a ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.settings import positive


def persistence(past: Tensor, horizon: int, season: int = 1) -> Tensor:
    """The last `season` times of pasts (B, p, *frame), again and again: (B, horizon, *frame). One is the last value.

    Raises InputError for pasts of fewer times.
    """
    whole("horizon", horizon)
    whole("season", season)
    if past.ndim < 2 or past.shape[1] < season:
        raise InputError(f"past has shape {tuple(past.shape)}; expected (B, times, *frame) of at least {season} times")
    times = torch.arange(horizon) % season
    return past[:, past.shape[1] - season :][:, times]


@dataclass(frozen=True, eq=False)
class Ridge:
    """The future as a linear function of the past, by least squares with a penalty, and the deviation of what it misses.

    weights  (p d + 1, h d) of past values and a constant
    missed   (h d,) standard deviation of the errors on the windows that it was fitted to
    frame    (h, *frame)
    """

    weights: Tensor
    missed: Tensor
    frame: tuple[int, ...]

    @classmethod
    def fit(cls, windows: Tensor, times: int, penalty: float = 1.0) -> Ridge:
        """Of windows (N, T, *frame), whose first `times` are the past; the constant is not penalised.

        Raises InputError for windows that are not finite, less than 2 of them, and times or a penalty that leave no fit.
        """
        whole("times", times)
        positive("penalty", penalty)
        if windows.ndim < 2 or len(windows) < 2 or windows.shape[1] <= times or not bool(windows.isfinite().all()):
            raise InputError(
                f"windows have shape {tuple(windows.shape)}; expected 2 or more finite ones, longer than {times}"
            )
        x, y = _with_one(windows[:, :times]), windows[:, times:].double().flatten(1)
        ridge = penalty * torch.eye(x.shape[1], dtype=torch.float64)
        ridge[-1, -1] = 0
        weights = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
        return cls(weights, (y - x @ weights).std(0), tuple(windows[:, times:].shape[1:]))

    def mean(self, past: Tensor) -> Tensor:
        """Of pasts (B, p, *frame): (B, h, *frame). Raises InputError for pasts of another size."""
        if past.ndim < 2 or past[0].numel() + 1 != len(self.weights):
            raise InputError(
                f"past has shape {tuple(past.shape)}; expected (B, ..) of {len(self.weights) - 1} values each"
            )
        return (_with_one(past) @ self.weights).float().view(len(past), *self.frame)

    def draw(self, past: Tensor, n: int, seed: int = 0) -> Tensor:
        """Draws (B, n, h, *frame): the mean, with Gaussian errors of each value by itself."""
        noise = torch.randn(len(past), n, len(self.missed), generator=torch.Generator().manual_seed(seed))
        return self.mean(past)[:, None] + (noise * self.missed.float()).view(len(past), n, *self.frame)


def _with_one(past: Tensor) -> Tensor:
    flat = past.double().flatten(1)
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=torch.float64)], 1)
