"""What tells the error of a sample from its run: against last-layer Laplace, and against the same network without its idea."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from fewer import sample, standard, uncertainty
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.claims.uncertainty.beds import POINTS, bed
from fewer.claims.uncertainty.runs import BED as MIXTURE
from fewer.claims.uncertainty.runs import DRAWS, blocks, known, some
from fewer.epistemic.gate import ErrorPredictor, Predict, Prediction
from fewer.epistemic.gate.calibrate import known_pairs
from fewer.epistemic.gate.gate import Pairs, fitted
from fewer.epistemic.gate.predictors.student_t import START, StudentT, covariance, likeliest
from fewer.evaluate.statistics.selective import auroc, selective_risk
from fewer.noise import unit_noise
from fewer.registry import resolve

NETWORKS, SAMPLES, TEACH, CHEAP, DEAR, WORST, KEPT = 8, 768, 256, 8, 64, 0.1, 0.8
BED = (
    f"a fully connected network trained on {POINTS} points of a mixture in the plane, {SAMPLES} samples of {CHEAP} calls of ddim, "
    f"of which {TEACH} teach; bad are the tenth that is farthest from those of {DEAR} calls"
)
FEW_DRAWS, FEW = 128, 8


@cache
def judged(number: int) -> tuple[Pairs, Tensor]:
    """The runs on a network, and the score of last-layer Laplace for each."""
    found = bed(number)
    cheap, dear = (standard("ddim", found.model, calls, "uniform") for calls in (CHEAP, DEAR))
    noise = unit_noise(0, range(SAMPLES), found.model.shape)
    ends = sample(found.model, dear, noise=noise, batch=SAMPLES)
    pairs = known_pairs(found.model, cheap, ends, noise, None, SAMPLES, lambda stage, done, total: None)
    doubt = uncertainty(found.model, cheap, SAMPLES, method="last-layer", data=found.points, batch=SAMPLES)
    return pairs, doubt.score.double()


@cache
def scores(predictor: str, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores by the predictor and by last-layer Laplace, and which are bad, of the samples that do not teach."""
    pairs, laplace = judged(number)
    bound = float(pairs.errors.quantile(1 - WORST))
    predict = fitted(resolve("uncertainty", predictor), some(pairs, torch.arange(TEACH)))
    score = predict(pairs.features[TEACH:]).above(math.log(bound))
    return score, laplace[TEACH:], pairs.errors[TEACH:] > bound


def against_last_layer(predictor: str, seed: int, sabotage: bool) -> Measured:
    """Mean difference of AUROC. Sabotage: scores of other samples."""
    mine, its, left, its_left = [], [], [], []
    for number in range(NETWORKS * seed, NETWORKS * (seed + 1)):
        score, laplace, bad = scores(predictor, number)
        score = score.roll(1) if sabotage else score
        mine.append(auroc(score, bad))
        its.append(auroc(laplace, bad))
        left.append(selective_risk(score, bad, KEPT))
        its_left.append(selective_risk(laplace, bad, KEPT))
    gone = f"share of bad samples when the most doubtful {1 - KEPT:.0%} go"
    beside = {
        "AUROC": mean(mine),
        "of last-layer": mean(its),
        gone: mean(left),
        f"{gone}, of last-layer": mean(its_left),
    }
    return Measured(mean([a - b for a, b in zip(mine, its, strict=True)]), beside)


for name, called in (
    ("movement-regression", "Bayesian regression"), ("student-t", "A Student t process"),
    ("vbll", "A variational last layer"), ("ensemble", "A deep ensemble"),
):  # fmt: skip
    claim(
        f"{name}/against-last-layer",
        statement=f"{called} on a sample's own run finds the samples that few calls miss better than last-layer Laplace does (mean "
        f"difference of AUROC over {NETWORKS} networks): {BED}.",
        baseline="the score of `fewer sample --uncertainty`, at ten times the calls; same samples",
        above=0.0,
        tier="full",
    )(partial(against_last_layer, name))


def surprise(predict: Predict, pairs: Pairs) -> float:
    """Mean negative log-likelihood of the logarithms of errors."""
    return -float(predict(pairs.features).log_density(pairs.errors.log()).mean())


def losses(mine: ErrorPredictor, its: ErrorPredictor, teach: int, draws: int, seed: int, sabotage: bool) -> Measured:
    """Mean difference of negative log-likelihoods. Sabotage: it learns from the errors of other samples."""
    own, other = [], []
    for taught, judging in blocks(seed, draws, teach):
        pairs, test = some(known(seed), taught), some(known(seed), judging)
        wrong = Pairs(pairs.features, pairs.errors.roll(1)) if sabotage else pairs
        own.append(surprise(fitted(mine, wrong), test))
        other.append(surprise(fitted(its, pairs), test))
    gaps = [a - b for a, b in zip(own, other, strict=True)]
    return Measured(mean(gaps), {"it": mean(own), "the other": mean(other)})


@dataclass(frozen=True)
class GaussianProcess:
    """The process of `StudentT` with the one scale that makes the numbers likeliest, in place of a law of scales."""

    depth: int = 2

    def fit(self, x: Tensor, y: Tensor) -> Predict:
        """With s = y . C^-1 y / n, ln N(y; 0, s C) = -n/2 ln s - ln |C| / 2 + const."""
        with torch.inference_mode(False):
            x, y = x.clone(), y.clone()

        def parts(c: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
            half = torch.linalg.cholesky(covariance(x, x, c, self.depth) + r * torch.eye(len(x), dtype=x.dtype))
            return half, torch.linalg.solve_triangular(half, y[:, None], upper=False)[:, 0]

        def likelihood(c: Tensor, r: Tensor) -> Tensor:
            half, seen = parts(c, r)
            return -len(y) / 2 * seen.square().mean().log() - half.diagonal().log().sum()

        c, r = likeliest(likelihood, {name: START[name] for name in ("c", "r")})
        half, seen = parts(c, r)

        def predict(new: Tensor) -> Prediction:
            across = torch.linalg.solve_triangular(half, covariance(x, new, c, self.depth), upper=False)
            own = covariance(new, new, c, self.depth).diagonal() + r - across.square().sum(0)
            return Prediction(across.T @ seen, (seen.square().mean() * own).sqrt())

        return predict


@claim(
    "student-t/against-gaussian",
    statement=f"Taught by {FEW} samples, the process whose scale has a law is less surprised by the errors of others than the "
    f"Gaussian one of the same networks with the likeliest scale (difference of mean negative log-likelihood, over {FEW_DRAWS} "
    f"draws): {MIXTURE}.",
    baseline="the Gaussian process of the same covariance, all of whose settings are the likeliest",
    below=0.0,
    tier="full",
)
def against_gaussian(seed: int, sabotage: bool) -> Measured:
    """Heavy tails where little is known."""
    return losses(StudentT(), GaussianProcess(), FEW, FEW_DRAWS, seed, sabotage)


@claim(
    "vbll/against-ensemble",
    statement=f"Taught by {TEACH} samples, one network with a law of its last layer is less surprised by the errors of others than "
    f"five networks with a mean and a variance each (difference of mean negative log-likelihood, over {DRAWS} draws): {MIXTURE}.",
    baseline="`ensemble`, of as wide networks",
    below=0.0,
    tier="full",
)
def vbll_against_ensemble(seed: int, sabotage: bool) -> Measured:
    """Calibration by one network in place of five."""
    return losses(resolve("uncertainty", "vbll"), resolve("uncertainty", "ensemble"), TEACH, DRAWS, seed, sabotage)
