"""A metric of the user's own: any function of samples and reference, with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from fewer.errors import InputError, foreign
from fewer.evaluate.distances.lpips import LPIPS
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.functions import user_function

SUBSETS = 8
LEAST = 2  # samples in each


@dataclass(frozen=True)
class OwnMetric:
    """`function(samples (n, C, H, W), reference (m, C, H, W))` -> a number, or (value, low, high).

    The function gets float32 copies in the model's data range; the reference is the data where there is any, and the
    reference solution else. A function with an attribute `paired` that is true always gets the reference solution, so that rows i
    of both come from the same noise; plans that add noise then get no such figure. An attribute `higher_is_better` that is true
    says so; else lower is better.
    A number gets its interval from 8 disjoint random subsets of the samples, each with a subset of the reference (the
    same one's where both have the same number, so that pairs stay pairs): with t the quantile of Student's distribution
    of 7 degrees of freedom and sd the deviation of the subsets' figures,

        f(all) -+ t sd / sqrt(8)

    Assumed: rows independent, and a variance of f that falls at least as 1 / n. It is an interval of E f at this number
    of samples: where f has a bias that depends on n, as plug-in distances do, that bias is not in it.
    """

    name: str
    function: Callable[[Tensor, Tensor], Any]

    @classmethod
    def load(cls, name: str, images_range: tuple[float, float] = (-1.0, 1.0)) -> Self:
        """What `package.module:function` names, or `lpips@FILE`; raises InputError where there is none.

        images_range  the model's data range, which the network of lpips needs to know
        """
        if name.startswith("lpips@"):
            return cls(name, LPIPS.load(Path(name.removeprefix("lpips@")), images_range))
        return cls(name, user_function(name, "metric"))

    @classmethod
    def of(cls, given: Any, images_range: tuple[float, float] = (-1.0, 1.0)) -> Self:
        """The metric that is given: itself, a function, or what `load` takes. Raises InputError for anything else."""
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls.load(given, images_range)
        if callable(given):
            return cls(getattr(given, "__name__", type(given).__name__), given)
        raise InputError(
            f"metric is {_short(given)}; expected function(samples, reference) -> number or (value, low, high)"
        )

    @property
    def paired(self) -> bool:
        """Whether rows of samples and reference must come from the same noise."""
        return getattr(self.function, "paired", False) is True

    @property
    def higher(self) -> bool:
        """Whether larger figures are better."""
        return getattr(self.function, "higher_is_better", False) is True

    def describe(self) -> dict[str, Any] | None:
        """What the figure is on, for records, where the function says so: as `Features.describe`."""
        describe = getattr(self.function, "describe", None)
        return None if describe is None else describe()

    def __call__(self, samples: Tensor, reference: Tensor, seed: int = 0) -> Interval:
        """The figure with its interval. Raises InputError for what is no figure, ForeignError for what the function raises."""
        figure, n = self._run(samples, reference), len(samples)
        if isinstance(figure, tuple | list):
            value, low, high = self._ends(figure)
            return Interval(value, low, high, n)
        value = self._number(figure)
        if min(n, len(reference)) < SUBSETS * LEAST:
            raise InputError(
                f"metric {self.name} returned a number, whose interval needs {SUBSETS * LEAST} samples and as many of "
                f"the reference, got {n} and {len(reference)}; it may return (value, low, high) itself"
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(n, generator=generator)
        of_reference = order if len(reference) == n else torch.randperm(len(reference), generator=generator)
        parts = [
            self._number(self._run(samples[x.to(samples.device)], reference[y.to(reference.device)]))
            for x, y in zip(order.tensor_split(SUBSETS), of_reference.tensor_split(SUBSETS), strict=True)
        ]
        return replace(student(parts, value), n=n)

    def value(self, samples: Tensor, reference: Tensor) -> float:
        """The figure alone. Raises as the call does."""
        figure = self._run(samples, reference)
        return self._ends(figure)[0] if isinstance(figure, tuple | list) else self._number(figure)

    def _ends(self, figure: Sequence[Any]) -> list[float]:
        """Value, low and high of what the function returned."""
        numbers = [self._number(entry) for entry in figure]
        if len(numbers) != 3 or not numbers[1] <= numbers[0] <= numbers[2]:
            raise InputError(f"metric {self.name} returned {_short(figure)}; expected (value, low, high) in order")
        return numbers

    def _run(self, samples: Tensor, reference: Tensor) -> Any:
        with foreign(f"metric {self.name}"), torch.no_grad():
            return self.function(*(x.detach().to(torch.float32, copy=True) for x in (samples, reference)))

    def _number(self, figure: Any) -> float:
        try:
            value = float(figure)
        except Exception as error:  # of any type that has no number, or more than one
            raise InputError(f"metric {self.name} returned {_short(figure)}; expected a number") from error
        if not math.isfinite(value):
            raise InputError(f"metric {self.name} returned {value}; expected a finite number")
        return value


def _short(figure: Any) -> str:
    return f"{type(figure).__name__} {' '.join(repr(figure).split())[:80]}"
