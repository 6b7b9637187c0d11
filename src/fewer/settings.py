"""Numbers that users set: each is checked in one place, and what is none is named in one line."""

from __future__ import annotations

import math
import reprlib
import sys
from numbers import Real
from typing import Any

from torch import Tensor

from fewer.errors import InputError

_LARGEST = sys.float_info.max  # whole numbers go beyond it


def finite(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises InputError unless `value` is a finite number in [low, high]."""
    number = _is_number(value) and isinstance(value, int | float | Tensor)
    if not number or not -_LARGEST <= value <= _LARGEST:
        raise InputError(f"{what} is {reprlib.repr(value)}; expected a finite number")
    if not low <= float(value) <= high:
        raise InputError(f"{what} is {value!r}; expected a number in [{low:g}, {high:g}]")


def positive(name: str, value: float) -> None:
    """Raise InputError unless the setting of this name is a positive number that a float holds."""
    if not _is_number(value) or not 0 < value <= _LARGEST:
        raise InputError(f"{name} is {reprlib.repr(value)}; expected a positive number")


def share(name: str, value: float, most: float = 1.0) -> None:
    """Raise InputError unless a setting is a number from 0 to `most`."""
    if not (isinstance(value, bool) or _is_number(value)) or not 0 <= value <= most or not math.isfinite(value):
        expected = "a share from 0 to 1" if most == 1 else "a finite number, at least 0"
        raise InputError(f"{name} is {value!r}; expected {expected}")


def _is_number(value: Any) -> bool:
    """Whether it is one real number, or a tensor of one."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, Real) and not isinstance(value, bool)
