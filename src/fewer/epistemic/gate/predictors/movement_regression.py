"""Bayesian linear regression, whose prior and noise are those that make the data likeliest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.epistemic.gate import Predict, Prediction
from fewer.registry import part

ROUNDS = 200
SMALLEST = 1e-10  # variance, of numbers that have 1
SETTLED = 1e-6  # relative change of alpha


@part(
    "movement-regression",
    title="Errors from movements by Bayesian linear regression",
    source="MacKay 1992, Bayesian interpolation, doi:10.1162/neco.1992.4.3.415",
)
@dataclass(frozen=True)
class MovementRegression:
    """y = w . x + e with w ~ N(0, 1 / alpha) and e ~ N(0, 1 / beta); the prediction at x is N(m . x, 1 / beta + x . H^-1 x) with

        H = alpha + beta X^T X,      m = beta H^-1 X^T y

    With l_i the eigenvalues of beta X^T X and g = sum_i l_i / (l_i + alpha), the likeliest settings satisfy

        alpha = g / |m|^2,      beta = (n - g) / |y - X m|^2
    """

    def fit(self, x: Tensor, y: Tensor) -> Predict:
        """See the class."""
        values, vectors = torch.linalg.eigh(x.T @ x)
        values, seen = values.clamp(min=0), vectors.T @ (x.T @ y)
        alpha, beta = 1.0, 1.0
        for _ in range(ROUNDS):
            m = beta * seen / (alpha + beta * values)
            known = float((beta * values / (alpha + beta * values)).sum())
            left = float((y - x @ (vectors @ m)).square().mean())
            before, alpha = alpha, known / max(float(m.square().sum()), SMALLEST)
            beta = max(1 - known / len(y), 1 / len(y)) / max(left, SMALLEST)
            if abs(alpha - before) <= SETTLED * alpha:
                break

        def predict(new: Tensor) -> Prediction:
            z = new @ vectors
            variance = 1 / beta + z.square() @ (1 / (alpha + beta * values))
            return Prediction(z @ m, variance.sqrt())

        return predict
