"""Code of the user's own: the function that a name stands for, and what went wrong in it, in one line."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from fewer.errors import InputError, first_line


def user_function(name: str, what: str) -> Callable[..., Any]:
    """The callable of `package.module:function`, whose module is imported; InputError, naming `what`, if there is none."""
    if not re.fullmatch(r"[\w.]+:\w+", name):
        raise InputError(f"{what} is {name[:200]!r}; expected package.module:function")
    module, function = name.split(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # what the user's own module raises
        raise InputError(f"{what} {name!r} raised {reason(error)}") from error
    if not callable(found):
        raise InputError(f"{what} {name!r} is {type(found).__name__}; expected a function")
    return found  # type: ignore[no-any-return]


def reason(error: Exception) -> str:
    """`RuntimeError: what it says`, in one line; TorchScript puts its traceback first and the reason last."""
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and "TorchScript interpreter" in lines[0]:
        return lines[-1].strip().removeprefix("builtins.")
    return f"{type(error).__name__}: {first_line(error)}"
