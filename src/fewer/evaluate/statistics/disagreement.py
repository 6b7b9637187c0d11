"""A plan's full score from its errors on the few noises on which other plans disagree most.

On most noises all plans do about equally well, and these tell little of which is better. From the outputs of known
plans on N noises, the k noises of the greatest disagreement are kept; a new plan is played on these alone, and a ridge
regression from its errors there (its signature) predicts its score on all N.
Source: Rubinstein et al. 2025, whose disagreement is that of class probabilities; here it is the variance of
log errors, or of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.registry import part

PENALTIES = tuple(10.0**power for power in range(-4, 5))
LEAST = 4


def disagreement(samples: Tensor) -> Tensor:
    """How much m plans disagree on each of N noises, (N,): variance over the plans, averaged over the sample's values.

    samples  (m, N, ...): what the plans make of the same noises; or (m, N), any figure of theirs

    With values v_j the variance is half the mean squared difference of two plans, sum_(i<j) |v_i - v_j|^2 / (m (m - 1)).
    Raises InputError for fewer than 2 plans or values that are not finite.
    """
    if samples.ndim < 2 or len(samples) < 2:
        raise InputError(f"samples must be (plans, noises, ...) of at least 2 plans, got {tuple(samples.shape)}")
    if not samples.isfinite().all():
        raise InputError("samples holds a value that is not finite")
    variance = samples.detach().to("cpu", torch.float64).var(0)
    return variance.reshape(len(variance), -1).mean(1)


@part(
    "disagreement",
    title="Scores predicted from the noises that plans disagree on",
    source="Rubinstein et al. 2025, arXiv:2510.07959",
    papers=(176,),
    role="procedure",
)
@dataclass(frozen=True, eq=False)
class Disagreement:
    """The chosen noises and the regression on them.

    chosen   (k,) numbers of the noises, the greatest disagreement first
    centre   (k,) mean log squared error of the known plans on them; `score` their mean log RMSE on all N
    weights  (k,) of the signature, log squared errors less `centre`
    penalty  of the ridge regression, chosen by leaving out one plan at a time
    """

    chosen: Tensor
    centre: Tensor
    score: float
    weights: Tensor
    penalty: float

    @classmethod
    def fit(cls, errors: Tensor, k: int, samples: Tensor | None = None, chosen: Tensor | None = None) -> Self:
        """Fit to known plans' squared errors (m, N), all on the same noises.

        samples  (m, N, ...) of the plans, to disagree by what they make; without them by the variance of log errors
        chosen   (k,) noises to use instead of those of the greatest disagreement

        Raises InputError for fewer than 4 plans, k outside 1 .. N, or errors that are not positive and finite.
        """
        if errors.ndim != 2 or len(errors) < LEAST:
            raise InputError(f"errors must be (plans, noises) of at least {LEAST} plans, got {tuple(errors.shape)}")
        if not 1 <= k <= errors.shape[1]:
            raise InputError(f"k must be 1 to {errors.shape[1]}, the number of noises, got {k}")
        e = _positive(errors)
        if chosen is None:
            chosen = disagreement(e.log() if samples is None else samples).argsort(descending=True)[:k]
        if chosen.shape != (k,):
            raise InputError(f"chosen must be {k} numbers of noises, got {tuple(chosen.shape)}")
        log_rmse, signature = e.mean(1).log() / 2, e[:, chosen].log()
        x, y = signature - signature.mean(0), log_rmse - log_rmse.mean()
        weights, penalty = _ridge(x, y)
        return cls(chosen, signature.mean(0), log_rmse.mean().item(), weights, penalty)

    def predict(self, errors: Tensor) -> Tensor:
        """RMSE on all N noises (p,) of new plans from their squared errors (p, k) on the chosen ones."""
        if errors.ndim != 2 or errors.shape[1] != len(self.chosen):
            raise InputError(
                f"errors must be (plans, {len(self.chosen)}) on the chosen noises, got {tuple(errors.shape)}"
            )
        return (self.score + (_positive(errors).log() - self.centre) @ self.weights).exp()


def _ridge(x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """argmin |x w - y|^2 + penalty |x|^2 / m |w|^2 of centred x (m, k), y (m,), and the penalty.

    The penalty is the one of PENALTIES with the least squared error of plans left out one at a time, in closed form:
    residual_i / (1 - H_ii), H = x (x' x + penalty)^-1 x' + 1 / m (Allen 1974).
    """
    m = len(y)
    U, s, Vh = torch.linalg.svd(x, full_matrices=False)
    scale = float(s.square().sum()) / m
    if scale == 0:
        return torch.zeros(x.shape[1], dtype=x.dtype), PENALTIES[-1]

    def left_out(penalty: float) -> float:
        shrunk = s**2 / (s**2 + penalty * scale)
        fitted = U @ (shrunk * (U.T @ y))
        leverage = (U.square() @ shrunk) + 1 / m
        return float(((y - fitted) / (1 - leverage).clamp(min=1e-12)).square().mean())

    penalty = min(PENALTIES, key=left_out)
    return Vh.T @ (s / (s**2 + penalty * scale) * (U.T @ y)), penalty


def _positive(errors: Tensor) -> Tensor:
    if not (errors.isfinite() & (errors > 0)).all():
        raise InputError("errors holds a squared error that is not positive and finite, so it has no logarithm")
    return errors.detach().to("cpu", torch.float64)
