"""What differs between two plans: model, recipe, start, rows and end, as words and as values of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from fewer.plan.row import Guidance, Row, Shortcut, Start
from fewer.plan.table import Plan


@dataclass(frozen=True)
class Change:
    """One difference: `where` is a row (`row 3`), the start, the end, the model or the recipe, `what` differs there.

    a, b  both sides as values of JSON; None where a plan has no such thing
    row   number of the row from 0; None elsewhere
    """

    where: str
    what: str
    a: Any
    b: Any
    row: int | None = None

    def __str__(self) -> str:
        sides = [_shown(side, weights=self.what.startswith("weights")) for side in (self.a, self.b)]
        if sides[0] == sides[1]:  # in six digits
            sides = [_shown(side, 17, self.what.startswith("weights")) for side in (self.a, self.b)]
        return f"{self.where}: {self.what}: {sides[0]} -> {sides[1]}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"where": self.where, "what": self.what, "a": self.a, "b": self.b}


def differences(a: Plan, b: Plan) -> list[Change]:
    """Every difference of model, recipe, method, start, rows and end; none where both are the same.

    Names and evidence do not count: they change no sample. Rows are compared by their numbers.
    """
    found = [*_of_models(a, b), *_of_fields("recipe", asdict(a.recipe), asdict(b.recipe))]
    found += _of_fields("plan", {"method": _of_method(a)}, {"method": _of_method(b)})
    found += _of_fields("start", _fields(a.start), _fields(b.start))
    for n, (one, other) in enumerate(zip(a.rows, b.rows, strict=False)):
        found += _of_rows(n, one, other)
    shared = min(len(a.rows), len(b.rows))
    for n in range(shared, max(len(a.rows), len(b.rows))):
        in_a, in_b = (_level_of(plan.rows[n]) if n < len(plan.rows) else None for plan in (a, b))
        found.append(Change(f"row {n + 1}", f"only in {'B' if in_a is None else 'A'}", in_a, in_b, n))
    return found + _of_fields("end", {"level": a.end}, {"level": b.end})


def same(one: Any, other: Any) -> bool:
    """Equality of starts, rows and what is in them, with tensors compared by all of their numbers."""
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Start | Row | Shortcut):
        return type(one) is type(other) and all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)


def _of_models(a: Plan, b: Plan) -> list[Change]:
    """Differences of the models that the plans were made for."""
    one, other = a.model or {}, b.model or {}
    found = [
        Change("model", key, one.get(key), other.get(key))
        for key in dict.fromkeys((*one, *other))
        if one.get(key) != other.get(key)
    ]
    return found + _of_fields("model", {"further networks": a.others}, {"further networks": b.others})


def _of_method(plan: Plan) -> dict[str, Any] | None:
    """What its method changes of samples: its name and settings."""
    return None if plan.method is None else {"name": plan.method.name, **plan.method.settings}


def _of_rows(n: int, a: Row, b: Row) -> Iterator[Change]:
    """Differences of two rows of one number."""
    names = {
        "level": "tau", "time": "t", "weights of outputs": "b", "weights of states": "a", "noise": "noise",
        "offset": "offset", "guidance": "guidance", "blocks left out": "blocks", "network": "network",
    }  # fmt: skip
    if a.passes != b.passes:
        yield Change(f"row {n + 1}", "passes", a.passes, b.passes, n)
    for what, name in names.items():
        one, other = getattr(a, name), getattr(b, name)
        if same(one, other):
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            one, other = (
                {j: value for j, value in side.items() if j not in against or not same(value, against[j])}
                for side, against in ((one, other), (other, one))
            )
        yield Change(f"row {n + 1}", what, _json(one), _json(other), n)


def _of_fields(where: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    return [Change(where, key, _json(a[key]), _json(b[key])) for key in a if not same(a[key], b[key])]


def _fields(of: Start) -> dict[str, Any]:
    return {each.name: getattr(of, each.name) for each in fields(of)}


def _level_of(row: Row) -> dict[str, Any]:
    return {"level": float(row.tau), "passes": row.passes}


def _json(value: Any) -> Any:
    """A value of a plan as JSON: tensors by their shape and mean, rules of guidance by name and parameters."""
    if isinstance(value, Tensor):
        return (
            float(value) if value.ndim == 0 else f"tensor {list(value.shape)} of mean {float(value.float().mean()):.6g}"
        )
    if isinstance(value, Mapping):
        return {str(key): _json(each) for key, each in value.items()}
    if isinstance(value, Shortcut):
        return {"weights": _json(value.weights), "offset": _json(value.offset)}
    if isinstance(value, tuple | list):
        return [_json(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    guidance: Guidance = value  # all else that a row holds
    return {"rule": guidance.rule, **_json(guidance.parameters())}


def _shown(value: Any, digits: int = 6, weights: bool = False) -> str:
    """A value in words, numbers to so many digits; the entries of `weights` are called by their rows, from 1."""
    if value is None or value == {}:
        return "none"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, dict):
        names = (f"row {int(key) + 1}" if weights else f"{key}:" for key in value)
        return ", ".join(f"{name} {_shown(each, digits)}" for name, each in zip(names, value.values(), strict=True))
    if isinstance(value, list):
        return "[" + ", ".join(_shown(each, digits) for each in value) + "]"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 60 else str(value)
