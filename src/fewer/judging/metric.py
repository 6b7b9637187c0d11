"""A figure of the user's own of images, which says which way is better, taken of both sets as they are read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from fewer.errors import InputError, foreign
from fewer.functions import user_function

AT_ONCE = 16  # pairs that the function gets at once
LEAST = 8  # values of each set


class Metric:
    """`function(samples, reference)`, both (k, C, H, W) float32 in [-1, 1], k at most 16 images of the same names.

    It returns k numbers, one an image, or one number for all k; it is called on the candidate's images and on the
    reference's own, each beside the reference's. Its attribute `higher_is_better`, True or False, says which way is better.
    Where it has a parameter named `prompts`, it is given theirs, a list of k texts.
    """

    def __init__(self, function: Callable[..., Any], name: str, prompts: Sequence[str] | None = None) -> None:
        higher = getattr(function, "higher_is_better", None)
        if not isinstance(higher, bool):
            raise InputError(f"metric {name} must say which way is better: set its higher_is_better to True or False")
        self.function, self.name, self.higher = function, name, higher
        self.prompts = prompts if "prompts" in _parameters(function) else None
        if self.prompts is None and "prompts" in _parameters(function):
            raise InputError(f"metric {name} takes prompts: give --prompts FILE too")
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.done = 0
        self.of_a: list[Tensor] = []
        self.of_b: list[Tensor] = []

    @classmethod
    def load(cls, given: str | Callable[..., Any], prompts: Sequence[str] | None = None) -> Self:
        """What `package.module:function` names, or a function itself. Raises InputError for anything else."""
        if isinstance(given, str):
            return cls(user_function(given, "metric"), given, prompts)
        if not callable(given):
            raise InputError(f"metric is {type(given).__name__}; expected a function or package.module:function")
        return cls(given, getattr(given, "__name__", type(given).__name__), prompts)

    def add(self, candidate: Tensor, reference: Tensor) -> None:
        """The next pair of images (C, H, W)."""
        if self.waiting and (len(self.waiting) == AT_ONCE or self.waiting[0][1].shape != reference.shape):
            self.flush()
        self.waiting.append((candidate, reference))

    def flush(self) -> None:
        """Call the function on the pairs that wait."""
        if not self.waiting:
            return
        candidate, reference = (torch.stack(side) for side in zip(*self.waiting, strict=True))
        some = None if self.prompts is None else list(self.prompts[self.done : self.done + len(candidate)])
        self.of_b.append(self._values(candidate, reference, some))
        self.of_a.append(self._values(reference.clone(), reference, some))
        self.done += len(candidate)
        self.waiting = []

    def values(self) -> tuple[Tensor, Tensor]:
        """Of the reference and of the candidate, (k,) each, entry by entry of the same images."""
        if sum(map(len, self.of_a)) < LEAST:
            raise InputError(
                f"metric {self.name} returns one number for {AT_ONCE} images, so its interval needs {AT_ONCE * LEAST} "
                "images; it may return one number an image"
            )
        return torch.cat(self.of_a), torch.cat(self.of_b)

    def _values(self, samples: Tensor, reference: Tensor, prompts: list[str] | None) -> Tensor:
        given = {} if prompts is None else {"prompts": prompts}
        with foreign(f"metric {self.name}"), torch.no_grad():
            figures = torch.as_tensor(self.function(samples, reference, **given), dtype=torch.float64).reshape(-1)
        if len(figures) not in (1, len(samples)):
            raise InputError(f"metric {self.name} returned {len(figures)} numbers for {len(samples)} images")
        if not figures.isfinite().all():
            raise InputError(f"metric {self.name} returned a number that is not finite")
        return figures.cpu()


def _parameters(function: Callable[..., Any]) -> Sequence[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a callable of another language
        return []
