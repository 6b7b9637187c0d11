"""Functions of the user's by name, `package.module:function`: their modules are imported, and nothing else is run."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from fewer.errors import ForeignError, InputError, foreign, reason

NAME = re.compile(r"\w+(\.\w+)*:\w+")


def user_function(name: str, what: str) -> Callable[..., Any]:
    """The callable of `package.module:function`. Raises InputError, naming `what`, where there is none.

    Raises ForeignError where the module itself raises.
    """
    if NAME.fullmatch(name) is None:
        raise InputError(f"{what} is {name[:200]!r}; expected package.module:function")
    module, function = name.split(":")
    try:
        with foreign(f"{what} {name!r}"):
            thing = getattr(importlib.import_module(module), function)
    except ForeignError as error:
        if _is_missing(error.__cause__, module, function):
            raise InputError(f"{what} {name!r} raised {reason(error.__cause__ or error)}") from error
        raise
    if not callable(thing):
        raise InputError(f"{what} {name!r} is {type(thing).__name__}; expected a function")
    return thing  # type: ignore[no-any-return]


def _is_missing(error: BaseException | None, module: str, function: str) -> bool:
    """Whether it is the module or the function that is not there, and not something that the module asks for."""
    if isinstance(error, ModuleNotFoundError):
        return f"{module}.".startswith(f"{error.name}.")
    return isinstance(error, AttributeError) and error.name == function
