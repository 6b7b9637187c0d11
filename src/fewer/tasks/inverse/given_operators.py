"""Operators that users bring: a matrix, a function or its name, an operator of another package; each becomes an `Operator`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fewer.errors import ForeignError, InputError, foreign
from fewer.functions import NAME, user_function
from fewer.tasks.inverse.operators import Linear, Matrix, Operator
from fewer.tasks.inverse.words import named_operator

ROUNDING = 1e-4  # to which a function must keep sums to pass for linear, of float32 samples
SIZES = (1.0, 0.1, 10.0, 100.0, 1000.0)  # of values at which a derivative is looked for: of images in 0 .. 255, too
DRAWS = 16  # of each


@dataclass(frozen=True, eq=False)
class Function:
    """Any function of samples (n, *shape), each measured alone; derivatives are taken where a method needs them.

    Raises InputError where it gives no finite tensor (n, *measured) of floats, and ForeignError for what it raises.
    """

    function: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    name: str = "operator"

    @cached_property
    def measured(self) -> tuple[int, ...]:
        """Of the measurement of one sample, by a trial."""
        with torch.no_grad():
            return tuple(self(torch.zeros(2, *self.shape)).shape[1:])

    def __call__(self, x: Tensor) -> Tensor:
        """The function's values."""
        with foreign(f"the {self.name}"):
            y = self.function(x)
        if not isinstance(y, Tensor) or not y.is_floating_point():
            kind = str(y.dtype).removeprefix("torch.") if isinstance(y, Tensor) else type(y).__name__
            raise InputError(f"the {self.name} returned {kind}; expected a tensor of floats")
        if y.ndim < 1 or len(y) != len(x):
            raise InputError(
                f"the {self.name} returned shape {tuple(y.shape)} for {len(x)} samples; expected ({len(x)}, ..)"
            )
        return y


@dataclass(frozen=True, eq=False)
class LinearFunction(Linear):
    """A linear function of samples with its adjoint; without one, the adjoint is the function's derivative."""

    function: Function
    transposed: Callable[[Tensor], Tensor] | None = None

    @cached_property
    def finest(self) -> torch.dtype:  # type: ignore[override]
        """The finest numbers that it takes: float32 where it has weights of these, as deepinv's physics have."""
        try:
            with torch.no_grad():
                self(torch.zeros(1, *self.shape, dtype=torch.float64))
        except ForeignError:
            return torch.float32
        return torch.float64

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of one sample."""
        return self.function.shape

    @property
    def measured(self) -> tuple[int, ...]:
        """Of the measurement of one sample."""
        return self.function.measured

    def __call__(self, x: Tensor) -> Tensor:
        """A x."""
        return self.function(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A' y."""
        if self.transposed is not None:
            with foreign(f"the adjoint of the {self.function.name}"):
                return self.transposed(y).view(len(y), *self.shape)
        with torch.enable_grad():
            x = y.new_zeros(len(y), *self.shape).requires_grad_()
            return pulled(self.function(x), x, y, self.function.name)


def pulled(value: Tensor, x: Tensor, v: Tensor, name: str, keep: bool = False) -> Tensor:
    """V' d value / d x (n, *shape), of samples that do not depend on each other; InputError where there is no derivative."""
    found = None
    if value.requires_grad:
        (found,) = torch.autograd.grad(value, x, v, retain_graph=keep, allow_unused=True)
    if found is None:
        raise InputError(f"the {name} has no derivative by its input, which this method needs")
    return found


def says_something(operator: Operator, y: Tensor) -> bool:
    """Whether its derivative differs from 0 anywhere at random samples of `SIZES`: not that of functions that round or compare.

    y  measurements (n, *measured), whose device and precision the samples have; no more samples than those are measured at once

    Raises InputError for functions without derivative.
    """
    draw, name = torch.Generator().manual_seed(0), getattr(operator, "name", "operator")
    for size in (size for size in SIZES for _ in range(DRAWS)):
        x = (size * torch.randn(min(len(y), 2), *operator.shape, generator=draw)).to(y).requires_grad_()
        with torch.enable_grad():
            value = operator(x)
        if bool(pulled(value, x, torch.randn(value.shape, generator=draw).to(value), name).any()):
            return True
    return False


def linear(function: Callable[[Tensor], Tensor], shape: Sequence[int], adjoint: Any = None) -> Linear:
    """A linear operator of a function of samples x (n, *shape), which is differentiable where no `adjoint` is given.

    Raises InputError where f(x + 2 z) and f(x) + 2 f(z) differ by more than float32 rounds.
    """
    own = Function(function, tuple(shape))
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(2, *own.shape, generator=generator) for _ in range(2))
    with torch.no_grad():
        whole, parts = own(x + 2 * z), own(x) + 2 * own(z)
    if float((whole - parts).norm()) > ROUNDING * float(whole.norm() + parts.norm()):
        raise InputError("the operator is not linear: f(x + 2 z) is not f(x) + 2 f(z)")
    return LinearFunction(own, adjoint)


def as_operator(given: Any, shape: Sequence[int]) -> Operator:
    """The operator that a user means, for samples of this shape.

    given  an operator (`fewer.tasks.inverse.operators`, or any object with shape, measured and a call); a matrix (m, d); words such
           as `inpaint`, `super-resolution,factor=4` (`fewer.tasks.inverse.words`); a function of x (n, *shape); an object with `A`,
           as deepinv's physics: linear where it has `A_adjoint` too; or `module:name` of one of the last two

    Raises InputError for everything else, for functions whose values do not fit, and for operators of samples of another shape.
    """
    sizes = tuple(int(size) for size in shape)
    operator = _operator(given, sizes)
    if tuple(operator.shape) != sizes:
        raise InputError(f"the operator measures samples of shape {tuple(operator.shape)}; the model's are {sizes}")
    if not operator.measured or not math.prod(operator.measured):
        raise InputError(f"the operator gives measurements of shape {tuple(operator.measured)}, which hold nothing")
    return operator


def _operator(given: Any, shape: tuple[int, ...]) -> Operator:
    if isinstance(given, str):
        if NAME.fullmatch(given) is None:
            return named_operator(given, shape)
        thing = user_function(given, "operator")
        known = hasattr(thing, "A") or (hasattr(thing, "shape") and hasattr(thing, "measured"))
        return _operator(thing, shape) if known else Function(thing, shape, f"operator {given}")
    if isinstance(given, Tensor):
        return Matrix(given, shape)
    if callable(getattr(given, "A", None)):
        name = f"operator {type(given).__name__}"
        if callable(getattr(given, "A_adjoint", None)):
            return LinearFunction(Function(given.A, shape, name), given.A_adjoint)
        return Function(given.A, shape, name)
    if callable(given) and hasattr(given, "shape") and hasattr(given, "measured"):
        return given  # type: ignore[no-any-return]
    if callable(given):
        return Function(given, shape)
    raise InputError(
        f"operator is a {type(given).__name__}; expected a matrix, a function of samples, an object with A and A_adjoint, or a name"
    )
