"""Modes of a model whose distribution is known: which of a mixture's components a sample belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model

SURE = 0.99  # mean of the largest posterior of a component, from which on components are modes
DRAWS = 512  # of the mixture's own samples, by which that is found


@dataclass(frozen=True)
class Modes:
    """The components of a mixture that hardly overlap."""

    mixture: GaussianMixture

    @classmethod
    def of(cls, model: Model) -> Modes | None:
        """Those of an exact model; None for other models, and where the components of its mixture overlap."""
        mixture = model.exact
        return cls(mixture) if isinstance(mixture, GaussianMixture) and _hardly_overlap(mixture) else None

    def __call__(self, samples: Tensor) -> Tensor:
        """The component (n,) that each sample (n, *shape) most likely belongs to, on the CPU."""
        return self.mixture.posterior(samples.to(self.mixture.means.device)).argmax(1).cpu()

    def apart(self, samples: Tensor, target: Tensor) -> Tensor:
        """Which samples (n, *shape) belong to another component than the target's, (n,) bool."""
        return self(samples) != self(target)


@lru_cache(maxsize=16)
def _hardly_overlap(mixture: GaussianMixture) -> bool:
    """Whether a sample mostly leaves no doubt about its component, of which there are several."""
    if mixture.components == 1:
        return False
    return float(mixture.posterior(mixture.sample(DRAWS)[0]).amax(1).mean()) >= SURE
