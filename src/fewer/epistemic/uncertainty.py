"""`fewer.uncertainty`: samples with how sure they may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fewer.arguments import as_count, as_data, as_model, as_plan
from fewer.blocks.find import is_module
from fewer.compression.calibration import CALLS, SAMPLES, calibration_of
from fewer.engine import MICRO_BATCH
from fewer.epistemic import Effort, Estimator
from fewer.epistemic.question import Question
from fewer.errors import InputError
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import ROLES, guarded, resolve

FEWEST = 8  # training samples
TRAINING = "training states"


@dataclass(frozen=True)
class Uncertainty:
    """Samples (n, *shape) with the standard deviation (n, *shape) of each of their values, float32, in data units."""

    samples: Tensor
    std: Tensor

    @property
    def score(self) -> Tensor:
        """(n,): the root mean square of a sample's standard deviations. The higher, the less the sample is to be trusted."""
        return self.std.flatten(1).square().mean(1).sqrt()

    @property
    def doubtful(self) -> list[int]:
        """Numbers of the samples, the least certain first."""
        return self.score.argsort(descending=True, stable=True).tolist()


@in_own_precision
def uncertainty(
    model: Model | str | Path,
    plan: Plan | str | Path,
    n: int = 64,
    *,
    seed: int = 0,
    labels: Any = None,
    method: str | Estimator = "last-layer",
    data: Tensor | str | Path | None = None,
    batch: int | None = None,
    first_sample: int = 0,
    progress: Callable[[str, int, int], object] | None = None,
) -> Uncertainty:
    """The samples that `fewer.sample` gives of these arguments, with how far other weights might have moved them.

    n, seed, labels, batch, first_sample  as `fewer.sample` has them
    method  an estimator (`fewer methods --room uncertainty`)
    data    (N, *shape) or a path: images that the network was trained on; by default 512 of the model's own samples. The
            more there are, the less is open: give all that there were, or take deviations as a ranking

    The model is not changed. Raises InputError for networks that are no torch modules, and for what does not fit.
    """
    model, plan = as_model(model), as_plan(plan)
    count, seed = as_count(n, "n"), as_count(seed, "seed", 0)
    images = as_data(data, model)
    estimator = _checked(model, images, method)
    report = progress or (lambda stage, done, total: None)
    plan.check(tuple(model.shape))
    report(TRAINING, 0, 1)
    question = Question(
        model, plan, calibration_of(model, images, seed, SAMPLES), count, model.labels(count, labels), seed,
        as_count(first_sample, "first_sample", 0), MICRO_BATCH if batch is None else as_count(batch, "batch"), report,
    )  # fmt: skip
    samples = question.samples(model)
    with guarded("uncertainty", estimator):
        variance = estimator.variance(question)
    return Uncertainty(samples, variance.sqrt().to(samples))


def uncertainty_effort(
    model: Model, plan: Plan, n: int, *, method: str | Estimator = "last-layer", data: Tensor | None = None
) -> Effort:
    """What `fewer.uncertainty` takes of these arguments, to the evaluation. Raises InputError as it does."""
    estimator = _checked(model, data, method)
    with guarded("uncertainty", estimator):
        own = estimator.effort(plan.nfe, n)
    training = {TRAINING: SAMPLES * CALLS} if data is None else {}
    return Effort({**training, plan.name: n * plan.nfe, **own.evaluations}, own.backward)


def _checked(model: Model, images: Tensor | None, method: str | Estimator) -> Estimator:
    """The estimator, where it can be asked about this model with these images."""
    if images is not None and len(images) < FEWEST:
        raise InputError(f"data are {len(images)} images; the weights' posterior needs at least {FEWEST}")
    estimator: Estimator = resolve("uncertainty", method)
    if missing := ROLES["uncertainty estimator"].missing(estimator):
        raise InputError(f"method {method!r} is no uncertainty estimator: it lacks {missing}")
    if not is_module(model):
        raise InputError(
            f"the network of {model.name} is no torch.nn.Module: its weights are not reached, so what is open of them is not known"
        )
    return estimator
