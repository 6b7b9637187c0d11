"""Laplace's approximation: which other weights the training data allow as well.

F (d,) is the network's output at a training state, s^2 the mean square of what it misses its target by, N the number of training
samples. Near the trained weights w* (k,) the posterior is, for a prior N(0, 1 / p) of every weight,

    w ~ N(w*, (H + p)^-1),     H = N / s^2 E[J^T J],     J = dF / dw  (d, k)

with the Gauss-Newton matrix in place of the Hessian (MacKay 1992, doi:10.1162/neco.1992.4.3.448; Ritter et al. 2018). E[J^T J] is
the mean of g g^T over g = J^T v, v unit noise: one backward pass each. The prior is the one that makes the data likeliest; with l_i
the eigenvalues of H, it satisfies (MacKay's eq. 4.6)

    p |w*|^2 = sum_i l_i / (l_i + p)

whose one root lies between the values that its right side has at p = k / |w*|^2 and at 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from fewer.compression.subject import caller
from fewer.epistemic.question import Question
from fewer.epistemic.weights import Weights
from fewer.errors import InputError
from fewer.noise import Draw, Stream, unit_noise

CURVATURE = "curvature of the loss"  # the stage's name


@dataclass(frozen=True)
class Posterior:
    """N(mean, half half^T) of some weights, (k,) and (k, k) in float64."""

    weights: Weights
    mean: Tensor
    half: Tensor

    def draw(self, seed: int, number: int) -> Tensor:
        """Draw `number` of them, (k,)."""
        noise = unit_noise(seed, [number], (self.half.shape[1],), Draw.WEIGHTS())[0]
        return self.mean + self.half @ noise.double()


def posterior(weights: Weights, mean: Tensor, rows: Tensor, precisions: Tensor | float) -> Posterior:
    """The posterior of weights (k,) whose curvature is rows^T rows, under priors N(0, 1 / p) of one p, or of p (k,)."""
    narrow = torch.as_tensor(precisions, dtype=torch.float64).expand(len(mean)).rsqrt()
    scaled = rows * narrow
    values, vectors = torch.linalg.eigh(scaled.T @ scaled)
    return Posterior(weights, mean, narrow[:, None] * vectors * (1 + values.clamp(min=0)).rsqrt())


def variances(question: Question, network: nn.Module, weights: Weights, probes: int) -> Tensor:
    """The variance (k,) of each weight where H is taken for diagonal."""
    diagonal = directions(question, network, weights, probes).square().sum(0)
    return 1 / (diagonal + prior(diagonal, weights.read(network)))


def directions(question: Question, network: nn.Module, weights: Weights, probes: int) -> Tensor:
    """Rows (probes, k) whose products g g^T have the sum H, in float64."""
    training, shape = question.training, question.model.shape
    batch = training.batch(probes, 0)
    call = caller(question.model, network)
    noise = unit_noise(question.seed, Stream.CALIBRATION.numbers(probes), shape, Draw.PROBE(), question.model.device)
    residual = (batch.target - batch.truth).double().square().mean()
    if not float(residual) > 0:
        raise InputError(f"{question.model.name} has no error on its training states, so that nothing is left open")
    rows = []
    network.requires_grad_(True)
    with torch.inference_mode(False), torch.enable_grad():
        for k, (state, v) in enumerate(zip(batch.split(1), noise, strict=True)):
            output = call(state.x.clone(), state.t.clone(), state.labels)[:, : shape[0]]
            rows.append(weights.gradients(network, (output * v).sum()))
            question.progress(CURVATURE, k + 1, probes)
    network.requires_grad_(False)
    return torch.stack(rows) * (len(training.samples) / probes / float(residual)) ** 0.5


def prior(curvatures: Tensor, weights: Tensor) -> float:
    """The precision p that makes the data likeliest, given the eigenvalues of H (k,) and the trained weights (k,)."""
    size = float(weights.square().sum())
    if not size > 0 or not bool((curvatures > 0).any()):
        raise InputError(
            "the weights that are asked about are all 0, or change nothing: no prior can be told from them"
        )
    most = len(weights) / size
    least = float((curvatures / (curvatures + most)).sum()) / size  # since the right side falls as p grows
    root = brentq(lambda p: p * size - float((curvatures / (curvatures + p)).sum()), least / 2, 2 * most, rtol=1e-9)
    return float(root)
