"""What is measured beside the paired error: distances to data on features, and a metric of the user's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from fewer.arguments import as_data
from fewer.errors import InputError
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.distances.sliced import sliced_w2
from fewer.evaluate.features import PCA, Features, read_features
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model

FEATURES = 16  # of the principal components that distances are measured on
EACH = 8  # samples and data for each of them, at least
DISTANCES = ("fd", "energy", "sw2")


@dataclass(frozen=True)
class Quality:
    """Figures by name; `features` names what the distances among them are on."""

    figures: dict[str, Interval] = field(default_factory=dict)
    features: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The quality entry of results.json: each interval, that of a distance with its features."""
        return {
            name: interval.to_dict() | ({"features": self.features} if name in DISTANCES and self.features else {})
            for name, interval in self.figures.items()
        }


@dataclass(frozen=True)
class Scored:
    """Figures of one sampler at `nfe` network evaluations a sample: a line of a leaderboard.

    scheduler  the pipeline's, by its class
    calls      cost of a given plan in whole network evaluations (`fewer.evaluate.equal_cost`); None where none is in parts
    """

    name: str
    kind: Literal["standard", "plan", "pipeline"]
    nfe: int
    quality: Quality
    scheduler: str | None = None
    calls: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the pipeline's line has a scheduler, a given plan's has calls."""
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind, "nfe": self.nfe}
        scheduler = {"scheduler": self.scheduler} if self.kind == "pipeline" else {}
        calls = {"calls": self.calls} if self.kind == "plan" else {}
        return entry | scheduler | {"quality": self.quality.to_dict()} | calls


@dataclass(frozen=True)
class Scoring:
    """Distances to `data` (N, *shape) on `features`, by default the data's principal components, and the user's `metric`,
    which is taken against the data or else the reference solution.
    """

    data: Tensor | None = None
    features: Features | None = None
    metric: OwnMetric | None = None

    def check(self, n: int) -> None:
        """InputError, before anything is computed, for features or a metric that n samples and this data cannot have."""
        if self.data is None:
            if self.features is not None:
                raise InputError(f"features {self.features.name} are for distances to data, and data is missing")
            return
        self.distances(self.data[:n])
        if self.metric is not None:
            self.metric(self.data[:n], self.data[:n] if self.metric.paired else self.data)

    @cached_property
    def dimensions(self) -> int:
        """Of the features that are given; 0 where those are fitted to as few samples as there are."""
        if self.data is None or self.features is None:
            return 0
        return self.features(as_images(self.data[:1])).shape[1]

    @property
    def least(self) -> int:
        """Samples that a Frechet distance on the features that are given needs; 0 without such."""
        return 4 * self.dimensions + 8 if self.dimensions else 0

    def identity(self) -> dict[str, Any]:
        """What tells it from another, of what JSON has: the data by their content, and the records of features and metric."""
        data, features, metric = self.data, self.features, self.metric
        content = None
        if data is not None:
            digest = hashlib.sha256(data.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
            content = [str(data.dtype), list(data.shape), digest]
        return {
            "data": content,
            "features": None if features is None else features.describe(),
            "metric": None if metric is None else [metric.name, metric.describe()],
        }

    def features_of(self, n: int) -> Features:
        """The features that n samples are compared with the data on; fewer principal components where n is small."""
        if self.features is not None:
            return self.features
        return PCA(self._components.mean, self._components.components[: max(1, n // EACH)])

    @cached_property
    def _components(self) -> PCA:
        """Up to 16 leading principal components of the data, fitted once."""
        data = self._images
        return PCA.fit(data, max(1, min(FEATURES, data[0].numel(), len(data) // EACH)))

    @property
    def _images(self) -> Tensor:
        if self.data is None:
            raise InputError("a distance to data is asked for, and data is missing")
        return as_images(self.data)

    def frechet(self, samples: Tensor) -> Interval:
        """The Frechet distance of samples (n, *shape) to the data."""
        features = self.features_of(len(samples))
        distance: Interval = frechet(features(as_images(samples)), features(self._images))
        return distance

    def distances(self, samples: Tensor, labels: Tensor | None = None) -> dict[str, Interval]:
        """`fd`, `energy` and `sw2` of samples (n, *shape) to the data, with labels (n,) where these were given and not drawn.

        Raises InputError that names the features.
        """
        features = self.features_of(len(samples))
        x, y = features(as_images(samples)), features(self._images)
        try:
            return {"fd": frechet(x, y), "energy": energy_distance(x, y, labels=labels), "sw2": sliced_w2(x, y)}
        except InputError as error:
            raise InputError(f"on features {features.name} of samples x and data y: {error}") from error


def scoring_of(model: Model, data: Any, features: Any, metric: Any) -> Scoring:
    """What a user's arguments stand for: images or their folder, features or their name, a metric, function or its name."""
    images = as_data(data, model)
    if isinstance(features, str):
        if images is None:
            raise InputError(f"features {features} are for distances to data, and data is missing")
        features = read_features(features, images, model.data_range)
    if features is not None and not callable(features):
        raise InputError(f"features is a {type(features).__name__}; expected features, or the name of some")
    return Scoring(images, features, None if metric is None else OwnMetric.of(metric, model.data_range))


def as_images(x: Tensor) -> Tensor:
    """Samples (n, *shape) as images (n, C, H, W): those of other shapes are one column of channels."""
    return x if x.ndim == 4 else x.reshape(len(x), -1, 1, 1)
