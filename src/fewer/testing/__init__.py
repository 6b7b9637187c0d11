"""Conformance suites: functions that raise AssertionError where an object does not keep what its role promises.

They need no test framework, so that other packages can run them on their parts:

    from fewer.testing import solvers
    solvers.check(MySolver())
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.plan import Plan, Row, Shortcut


def demand(holds: bool, what: str) -> None:
    """Raise AssertionError with these words unless the promise holds, also where Python runs without asserts."""
    if not holds:
        raise AssertionError(what)


def kept_by_a_file(plan: Plan) -> None:
    """A plan that is saved and loaded is the same, to float32 where coefficients are tensors."""
    with tempfile.TemporaryDirectory() as folder:
        again = Plan.load(plan.save(Path(folder) / "plan.json"))
    equal = len(again.rows) == len(plan.rows) and all(map(_alike, again.rows, plan.rows))
    demand(equal, f"plan {plan.name!r} comes back from its file with other rows")


def _alike(one: Any, other: Any) -> bool:
    """Equality of rows and of what is in them, with tensors compared in float32."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.float(), other.float())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, Row | Shortcut) and type(one) is type(other):
        return all(_alike(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    return bool(one == other)
