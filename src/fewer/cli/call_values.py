"""The values of --set: arguments by which a folder's pipeline is called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fewer.errors import InputError


def values_of(given: Sequence[str] | None) -> dict[str, Any] | None:
    """The values of NAME=VALUE texts by name, None for no texts: of JSON where they are JSON, else the text itself.

    Raises InputError for what is no NAME=VALUE, and for a name that is set twice.
    """
    values: dict[str, Any] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name.isidentifier():
            raise InputError(f"--set is {text[:80]!r}; expected NAME=VALUE such as height=768")
        if name in values:
            raise InputError(f"--set gives {name} twice; expected one value")
        values[name] = _value(value)
    return values or None


def _value(text: str) -> Any:
    """What the text is in JSON; the text itself where it is none."""
    try:
        return json.loads(text, parse_constant=_is_text)
    except (ValueError, RecursionError):
        return text


def _is_text(name: str) -> Any:
    """NaN and Infinity, which JSON does not have."""
    raise ValueError(name)
