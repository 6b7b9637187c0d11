"""Where image-to-image begins: below pure noise, with a mixture of given data and noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Beginning:
    """The states (1 - tau) D + tau z that plans begin with, of given data D and unit noise z, at levels tau up to `level`.

    data  D (K, *shape), one for each label, or (1, *shape) for all
    """

    level: float
    data: Tensor

    def mixed(self, noise: Tensor, tau: float, labels: Tensor | None) -> Tensor:
        """The states at a level, of a plan's start (n, *shape) from noise alone, tau z; `labels` (n,)."""
        data = self.data[:1] if labels is None or len(self.data) == 1 else self.data[labels.to(self.data.device)]
        return noise + (1 - tau) * data.to(noise)
