"""The criterion that judges plans by the sliced Wasserstein distance of all samples together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fewer.evaluate.by_figure import ByFigure, parts_left_out
from fewer.evaluate.distances.energy import OfRows
from fewer.evaluate.distances.sliced import sliced_of_rows, sliced_w2
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.features import Features
from fewer.evaluate.scoring import as_images
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import pseudo_values, student


@dataclass(frozen=True)
class BySliced(ByFigure):
    """The squared sliced 2-Wasserstein distance: to the data on their features, to the reference solution on the samples' own
    numbers, in the square of these units.
    """

    name = "sliced"
    key = "sw2"

    @property
    def title(self) -> str:
        """Its figure in words."""
        return f"sliced Wasserstein distance to {self._against}"

    def features(self, evaluator: Evaluator, n: int) -> Features | None:
        """The scoring's; none without data."""
        return None if self.scoring.data is None else self.scoring.features_of(n)

    def figure(self, evaluator: Evaluator, samples: Tensor) -> Interval:
        """Without its bias: from independent data by halves (`sliced_w2`), from pairs by the jackknife."""
        n, data = len(samples), self.scoring.data
        features = self.features(evaluator, n)
        if data is None or features is None:
            return replace(student(pseudo_values(parts_left_out(evaluator, self.by_rows(evaluator, samples), n))), n=n)
        return sliced_w2(features(as_images(samples)), features(as_images(data)))

    def by_rows(self, evaluator: Evaluator, samples: Tensor) -> OfRows:
        """The plug-in estimate along directions that are the same for all plans: the jackknife takes its bias out."""
        n, data = len(samples), self.scoring.data
        features = self.features(evaluator, n)
        if data is None or features is None:
            return sliced_of_rows(samples.flatten(1), evaluator.target[:n].flatten(1), pairs=True)
        return sliced_of_rows(features(as_images(samples)), features(as_images(data)))
