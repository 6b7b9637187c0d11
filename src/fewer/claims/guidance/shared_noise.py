"""One noise for all restorations of an exact posterior: chosen on a few images, played on others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from fewer import GaussianMixture, Model, sample, standard
from fewer.calibrate.shared_noise import SharedNoise, shared_noise
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.bundled import digits_classifier, digits_images
from fewer.models.schedules import VarianceExploding
from fewer.noise import unit_noise

CALLS, MORE, REFERENCES, CANDIDATES = 5, 40, 40, 48
ERROR, FACTOR = 0.05, 4  # standard deviation of a measured value; pixels of a side that are averaged
HELD_OUT, CHOICES, IMAGES = 480, 12, 2400  # images of a comparison; choices, each on others of so many images


@dataclass(frozen=True, eq=False)
class Posterior:
    """Laws of images given measurements: mixtures of Gaussians, float64. Means (m, K, d), log-weights (m, K), eigenpairs of K."""

    means: Tensor
    log_weights: Tensor
    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, prior: GaussianMixture, measure: Tensor, y: Tensor) -> Posterior:
        """Of y (m, e) = `measure` (e, d) x + ERROR n."""
        means, weights, values, vectors = [], [], [], []
        for k in range(prior.components):
            cov = prior.basis[k] * prior.variances[k] @ prior.basis[k].T
            seen = torch.distributions.MultivariateNormal(
                measure @ prior.means[k], measure @ cov @ measure.T + ERROR**2 * torch.eye(len(measure)).double()
            )
            gain = cov @ measure.T @ torch.linalg.inv(seen.covariance_matrix)
            means.append(prior.means[k] + (y - seen.mean) @ gain.T)
            weights.append(prior.weights[k].log() + seen.log_prob(y))
            left = cov - gain @ measure @ cov
            value, vector = torch.linalg.eigh((left + left.T) / 2)
            values.append(value.clamp_min(0))
            vectors.append(vector)
        return cls(torch.stack(means, 1), torch.stack(weights, 1), torch.stack(values), torch.stack(vectors))

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """E[D | D + sigma eps = x, y_label] of states (n, *shape)."""
        assert labels is not None
        centres, variances = self.means[labels], self.values + sigma[0].double() ** 2
        along = torch.einsum("nkd,kde->nke", x.flatten(1).double()[:, None] - centres, self.vectors)
        log_shares = self.log_weights[labels] - 0.5 * (along.square() / variances + variances.log()).sum(2)
        each = centres + torch.einsum("nke,kde->nkd", along * self.values / variances, self.vectors)
        return (log_shares.softmax(1)[..., None] * each).sum(1).view_as(x).to(x)


@cache
def restorer() -> tuple[Model, Tensor]:
    """The exact model whose label says which measurement is restored, and the images (m, 1, 8, 8) that were measured."""
    prior = GaussianMixture.fit(*digits_images("train"), floor=1e-3)
    truth = prior.sample(IMAGES, 0)[0].float()
    identity = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    measure = F.avg_pool2d(identity, FACTOR).flatten(1).T
    noise = unit_noise(0, range(len(truth)), (len(measure),)).double()
    y = truth.flatten(1).double() @ measure.T + ERROR * noise
    posterior = Posterior.of(prior, measure, y)
    return (
        Model.from_denoiser(
            posterior.denoise,
            VarianceExploding(0.01, 20.0),
            (1, 8, 8),
            labels=len(truth),
            name="restorer",
            hash="restorer",
        ),
        truth,
    )


def perceived(made: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the bundled classifier's features (n,)."""
    features = digits_classifier().features
    return (features(made) - features(target)).double().square().mean(1)


@cache
def calibrated(seed: int) -> SharedNoise:
    """The noise that a few images choose; which ones depends on the seed."""
    model, truth = restorer()
    which = references(seed, len(truth))
    plan = standard("dpmpp-2m", model, CALLS, "karras")
    return shared_noise(
        model,
        plan,
        truth[which],
        which,
        candidates=CANDIDATES,
        distance=perceived,
        seed=seed,
        batch=480,
    )


def references(seed: int, m: int) -> Tensor:
    """Numbers (REFERENCES,) of the images that choose."""
    return torch.randperm(m, generator=torch.Generator().manual_seed(seed))[:REFERENCES]


def held_out(seed: int) -> Tensor:
    """Numbers (HELD_OUT,) of images that do not choose."""
    m = len(restorer()[1])
    return torch.randperm(m, generator=torch.Generator().manual_seed(seed))[REFERENCES : REFERENCES + HELD_OUT]


def restored(noise: Tensor, calls: int, seed: int) -> Tensor:
    """Restorations of the held-out images."""
    model, _ = restorer()
    return sample(
        model, standard("dpmpp-2m", model, calls, "karras"), noise=noise, labels=held_out(seed), batch=HELD_OUT
    )


def one_choice(calls: int, seed: int, sabotage: bool) -> dict[str, float]:
    """Mean figures over the held-out images of a noise that other images have chosen, and of independent ones."""
    model, truth = restorer()
    found, right = calibrated(seed), truth[held_out(seed)]
    candidates = unit_noise(seed, range(1 << 21, (1 << 21) + CANDIDATES), model.shape)
    worst = candidates[int(found.distances.mean(1).argmax())].expand(HELD_OUT, *model.shape)
    random = unit_noise(seed, range(HELD_OUT), model.shape)
    mine, its = restored(worst if sabotage else found.repeated(HELD_OUT), CALLS, seed), restored(random, calls, seed)
    flat = restored(torch.zeros(HELD_OUT, *model.shape), CALLS, seed)
    several = torch.stack(
        [perceived(restored(z.expand(HELD_OUT, *z.shape), CALLS, seed), right).mean() for z in candidates[:12]]
    )
    return {
        "distance": float(perceived(mine, right).mean()), "baseline's": float(perceived(its, right).mean()),
        "of zero noise": float(perceived(flat, right).mean()),
        "squared error": float(squared_errors(mine, right).mean()), "its squared error": float(squared_errors(its, right).mean()),
        "rank correlation of 12 candidates": float(spearmanr(several, found.distances.mean(1)[:12]).statistic),
    }  # fmt: skip


def against_random(calls: int, seed: int, sabotage: bool) -> Measured:
    """Difference of the perceptual distances to the truth, over choices. The broken variant takes the worst candidate."""
    found = [one_choice(calls, CHOICES * seed + n, sabotage) for n in range(CHOICES)]
    beside: Beside = {figure: mean([each[figure] for each in found]) for figure in found[0]}
    return Measured(mean([each["distance"] - each["baseline's"] for each in found]), beside)


for name, number, said in (
    ("equal-calls", CALLS, f"{CALLS} calls too"),
    ("more-calls", MORE, f"{MORE} calls"),
):
    claim(
        f"shared-noise/{name}",
        statement=f"In {CALLS} calls from one noise of {CANDIDATES}, chosen on {REFERENCES} images, others are restored nearer to "
        f"the truth: difference of squared distances of classifier features, mean over {CHOICES} choices; beside, from no noise at "
        "all, squared errors, and whether candidates rank alike on both. All samples of a measurement are one.",
        baseline=f"independent noises in {said}; exact posteriors of draws of a mixture of digits, measured by averages of "
        f"{FACTOR}x{FACTOR} pixels, dpmpp-2m",
        below=0.0,
        tier="full",
    )(partial(against_random, number))
