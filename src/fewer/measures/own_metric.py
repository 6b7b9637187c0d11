"""A metric of the user's own: any function of samples and reference, with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from scipy import stats
from torch import Tensor

from fewer.errors import InputError
from fewer.measures.interval import Interval
from fewer.measures.lpips import LPIPS
from fewer.measures.user_code import reason, user_function

SUBSETS = 8
LEAST = 2  # samples in each


def student(values: Sequence[float], value: float | None = None) -> Interval:
    """Student's 95 % interval of the mean of independent values, about `value` instead of the mean where given."""
    x = torch.tensor(values, dtype=torch.float64)
    centre = float(x.mean()) if value is None else value
    reach = float(stats.t.ppf(0.975, len(x) - 1)) * float(x.std()) / math.sqrt(len(x))
    return Interval(centre, centre - reach, centre + reach, len(x))


@dataclass(frozen=True)
class OwnMetric:
    """`function(samples (n, C, H, W), reference (m, C, H, W))` -> a number, or (value, low, high).

    The function gets float32 copies in the model's data range; the reference is the data where there is any, and the
    fine solution else. A function with an attribute `paired` that is true always gets the fine solution, so that rows i
    of both come from the same noise; plans that add noise then get no such figure.
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

    @property
    def paired(self) -> bool:
        """Whether rows of samples and reference must come from the same noise."""
        return getattr(self.function, "paired", False) is True

    def describe(self) -> dict[str, Any] | None:
        """What the figure is on, for records, where the function says so: as `Features.describe`."""
        told = getattr(self.function, "describe", None)
        return None if told is None else told()

    def __call__(self, samples: Tensor, reference: Tensor, seed: int = 0) -> Interval:
        """The figure with its interval. Raises InputError for what the function raises, or returns that is no figure."""
        found = self._run(samples, reference)
        n = len(samples)
        if isinstance(found, tuple | list):
            value, low, high = self._three(found)
            return Interval(value, low, high, n)
        value = self._number(found)
        if min(n, len(reference)) < SUBSETS * LEAST:
            raise InputError(
                f"metric {self.name} returned a number, whose interval needs {SUBSETS * LEAST} samples and as many of "
                f"the reference, got {n} and {len(reference)}; it may return (value, low, high) itself"
            )
        generator = torch.Generator().manual_seed(seed)
        mine = torch.randperm(n, generator=generator)
        its = mine if len(reference) == n else torch.randperm(len(reference), generator=generator)
        parts = [
            self._number(self._run(samples[x.to(samples.device)], reference[y.to(reference.device)]))
            for x, y in zip(mine.tensor_split(SUBSETS), its.tensor_split(SUBSETS), strict=True)
        ]
        around = student(parts, value)
        return Interval(around.value, around.low, around.high, n)

    def _run(self, samples: Tensor, reference: Tensor) -> Any:
        try:
            with torch.no_grad():
                return self.function(*(x.detach().to(torch.float32, copy=True) for x in (samples, reference)))
        except InputError:
            raise
        except Exception as error:  # what the user's own code raises
            raise InputError(f"metric {self.name} raised {reason(error)}") from error

    def _number(self, found: Any) -> float:
        try:
            value = float(found)
        except Exception as error:  # of any type that has no number, or more than one
            raise InputError(f"metric {self.name} returned {_short(found)}; expected a number") from error
        if not math.isfinite(value):
            raise InputError(f"metric {self.name} returned {value}; expected a finite number")
        return value

    def _three(self, found: Sequence[Any]) -> list[float]:
        numbers = [self._number(entry) for entry in found]
        if len(numbers) != 3 or not numbers[1] <= numbers[0] <= numbers[2]:
            raise InputError(f"metric {self.name} returned {_short(found)}; expected (value, low, high) in order")
        return numbers


def _short(found: Any) -> str:
    return f"{type(found).__name__} {' '.join(repr(found).split())[:80]}"
