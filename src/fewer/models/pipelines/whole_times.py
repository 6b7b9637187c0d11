"""Times between whole numbers, for pipelines that expect whole ones: as a list of times, and as places in a table of levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fewer.levels import s_of_tau
from fewer.models.schedules import Discrete


class WholeTimes(Tensor):
    """Float times (n,) whose `dtype` reads as that of whole numbers, also where they are sliced; each of them is a float.

    Some pipelines refuse schedulers of other times by it (self-attention guidance), or make whole numbers of that dtype.
    """

    @staticmethod
    def of(values: Tensor) -> WholeTimes:
        """These values."""
        return values.as_subclass(WholeTimes)

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """As of a scheduler's whole times."""
        return torch.int64

    def __deepcopy__(self, memo: Any) -> WholeTimes:
        return WholeTimes.of(self.as_subclass(Tensor).clone())

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every operation on times: rows of floats that come from them are such times again."""
        out = plainly(func, args, kwargs)
        return WholeTimes.of(out) if type(out) is Tensor and out.ndim == 1 and out.is_floating_point() else out


class ByTime(Tensor):
    """A table of alpha^2 (N,) at whole times, which can be read at any time: `table[t]`."""

    schedule: Discrete

    @staticmethod
    def of(values: Tensor, schedule: Discrete) -> ByTime:
        """A table of this schedule."""
        made = values.as_subclass(ByTime)
        made.schedule = schedule
        return made

    def __deepcopy__(self, memo: Any) -> ByTime:
        return ByTime.of(self.as_subclass(Tensor).clone(), self.schedule)

    def __getitem__(self, key: Any) -> Tensor:
        """alpha^2 = 1 / (1 + s^2) at times that are no whole numbers, else an entry."""
        if not (isinstance(key, Tensor) and key.is_floating_point()):
            return super().__getitem__(key)
        plain = self.as_subclass(Tensor)
        return (1 / (1 + s_of_tau(self.schedule.tau(key.cpu())) ** 2)).to(plain)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every operation on the table: it makes a plain tensor."""
        return plainly(func, args, kwargs)


def plainly(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
    """The function without what subclasses of tensors make of it."""
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **(kwargs or {}))
