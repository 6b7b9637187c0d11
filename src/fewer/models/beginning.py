"""Where image-to-image and refiners begin: below pure noise, with a mixture of given data and noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fewer.errors import InputError

SAME = 1e-6  # how far apart levels are that count as one


@dataclass(frozen=True, eq=False)
class Beginning:
    """The states (1 - tau) D + tau z that plans begin with, of given data D and unit noise z, at levels tau up to `level`.

    data       D (K, *shape), one for each label, or (1, *shape) for all
    handed_on  whether calls are given such states at `level` itself, which another pipeline has left there (`denoising_start`):
               plans then begin at this level alone
    """

    level: float
    data: Tensor
    handed_on: bool = False

    def mixed(self, noise: Tensor, tau: float, labels: Tensor | None) -> Tensor:
        """The states at a level, of a plan's start (n, *shape) from noise alone, tau z; `labels` (n,).

        Raises InputError for another level than that of states that are handed on.
        """
        if self.handed_on and abs(tau - self.level) > SAME:
            raise InputError(
                f"the plan begins at level {tau:g}, and the samples that the pipeline goes on with are at level {self.level:g}"
            )
        data = self.data[:1] if labels is None or len(self.data) == 1 else self.data[labels.to(self.data.device)]
        return noise + (1 - tau) * data.to(noise)
