"""Uncertainty by playing the plan again with weights drawn from their posterior, from the same noises.

    Var(x) = 1 / (R - 1) sum_r (x_r - mean x)^2,     x_r the sample under weights w_r ~ N(w*, (H + p)^-1)

The noises are the same for all R, so that what differs is what the weights do: no noise of sampling is in it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewer.epistemic import Effort
from fewer.epistemic.laplace import CURVATURE, directions, posterior, prior
from fewer.epistemic.question import Question
from fewer.epistemic.weights import LAST_LAYER_SEEN, Weights, all_of, last_layer, some_of
from fewer.errors import whole
from fewer.registry import part


@dataclass(frozen=True)
class Replays:
    """R = `draws` replays under draws of at most `count` weights, whose posterior is from `probes` backward passes."""

    draws: int = 10
    count: int = 512
    probes: int = 512

    def __post_init__(self) -> None:
        whole("draws", self.draws, least=2)
        whole("count", self.count)
        whole("probes", self.probes)

    def effort(self, nfe: int, n: int) -> Effort:
        """The states' outputs, a derivative of each, and the replays."""
        fit = 2 * self.probes + self.seen
        return Effort({CURVATURE: fit, "replays": self.draws * n * nfe}, self.probes)

    @property
    def seen(self) -> int:
        """Evaluations by which the open weights are found."""
        return 0

    def precisions(self, weights: Weights, centre: Tensor, rows: Tensor, seed: int) -> Tensor | float:
        """Of the weights' priors, (k,) or one for all: the likeliest one."""
        return prior(torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0), centre)

    @abstractmethod
    def weights(self, question: Question, network: nn.Module) -> Weights:
        """Which weights are open."""

    def variance(self, question: Question) -> Tensor:
        """See the module."""
        network = question.network()
        weights = self.weights(question, network)
        rows, centre = directions(question, network, weights, self.probes), weights.read(network)
        known = posterior(weights, centre, rows, self.precisions(weights, centre, rows, question.seed))
        other = question.model_with(network)
        mean = squares = torch.zeros(())
        for r in range(self.draws):
            known.weights.write(network, known.draw(question.seed, r))
            x = question.samples(other).double()
            away = x - mean
            mean = mean + away / (r + 1)
            squares = squares + away * (x - mean)
            question.progress("replays", r + 1, self.draws)
        return squares / (self.draws - 1)


@part(
    "random-weights",
    title="Replays under other values of a random subset of all weights",
    source="Gupta et al. 2026, FLARE, arXiv:2602.09170 (the random subset; its recursion is replaced by replays)",
)
@dataclass(frozen=True)
class RandomWeights(Replays):
    """The open weights are a random subset of all of the network's.

    Every layer has its part in it, and so has what the network does with states that it seldom saw. Of a subset the variance is a
    share of that of all weights: it ranks samples, and is no error bar.
    """

    def weights(self, question: Question, network: nn.Module) -> Weights:
        """Any, of all layers."""
        return some_of(all_of(network), self.count, question.seed)


@part(
    "last-layer",
    title="Replays under other values of the last layer's weights",
    source="Daxberger et al. 2021, Laplace redux, arXiv:2106.14806 (last-layer Laplace)",
)
@dataclass(frozen=True)
class LastLayer(Replays):
    """The open weights are the last layer's, a random subset where there are more than `count`."""

    @property
    def seen(self) -> int:
        """Those of one state."""
        return LAST_LAYER_SEEN

    def weights(self, question: Question, network: nn.Module) -> Weights:
        """Of the last layer that is called."""
        layer = last_layer(question.model, question.training.batch(1, 0))
        return some_of(all_of(network, f"{layer}."), self.count, question.seed)
