"""The plan's file: JSON with a schema version, and safetensors beside it for coefficients that are tensors.

The dataclasses of a plan are the file's schema: pydantic validates their fields (see fewer.plan.values).
A file is hostile until it has been checked: sizes are bounded, nothing is unpickled, no name leaves its folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from fewer.errors import InputError
from fewer.files import (
    LARGEST_JSON,
    LARGEST_TENSORS,
    checked,
    read_json,
    read_safetensors,
    write_atomically,
    write_safetensors,
)
from fewer.plan.method import Method
from fewer.plan.table import Plan
from fewer.plan.values import Coefficient, Refusal, Source
from fewer.registry import find

PLAIN = 4  # 2 added a row's blocks, 3 the network that it calls, 4 the recipe; from 4 on a row need have no time
SCHEMA = 5  # of plans with a method; the others are written as before, for earlier versions to read
_plan, _known_method = TypeAdapter(Plan), TypeAdapter(Method)


def to_json(plan: Plan, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The plan as JSON values; coefficients that are tensors go into `tensors` under the names that the JSON has."""

    def number(value: Coefficient) -> Any:
        if not isinstance(value, Tensor) or value.ndim == 0:
            return float(value)
        name = f"c{len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}

    def entry(of: object, *always: str, **defaults: float | None) -> dict[str, Any]:
        """Coefficients of these fields, and of further ones that are not at their default."""
        values = {name: getattr(of, name) for name in (*always, *defaults)}
        return {
            name: {str(j): number(each) for j, each in value.items()} if isinstance(value, Mapping) else number(value)
            for name, value in values.items()
            if name in always or isinstance(value, Tensor) or value != defaults[name]
        }

    rows = []
    for row in plan.rows:
        table = entry(row, t=None) | entry(row, "tau", "b", a=None, noise=0, offset=0)
        if row.guidance is not None:
            table["guidance"] = {"rule": row.guidance.rule, **row.guidance.parameters()}
        if row.blocks:
            table["blocks"] = {name: entry(shortcut, "weights", offset=0) for name, shortcut in row.blocks.items()}
        if row.network:
            table["network"] = row.network
        rows.append(table)
    recipe = {key: value for key, value in asdict(plan.recipe).items() if value}
    return {
        "schema": PLAIN if plan.method is None else SCHEMA, "name": plan.name, "model": dict(plan.model) if plan.model else None,
        "start": entry(plan.start, "tau", "scale", "noise", "offset", directions=None, gains=None),
        "rows": rows, "end": number(plan.end), "evidence": dict(plan.evidence),
        **({"others": [dict(other) for other in plan.others]} if plan.others else {}),
        **({"recipe": recipe} if recipe else {}),
        **({} if plan.method is None else {"method": _method(plan.method, plan.name)}),
    }  # fmt: skip


def _method(method: Method, of: str) -> dict[str, Any]:
    """The keys of the method of a plan of this name that have a value, with all settings of the method.

    Settings that were left out are written as they are by default today, so that a later version plays the same. Raises
    InputError for settings that no file holds, such as lists.
    """
    given = asdict(method)
    settings = _usual(method.name) | given["settings"]
    whole = checked(_known_method, given | {"settings": settings}, f"plan {of!r}: method")
    return {key: value for key, value in asdict(whole).items() if value is not None}


def _usual(name: str) -> dict[str, Any]:
    """The settings of a method by default; none of one that is not known here."""
    try:
        made = find("tasks", name).make
    except InputError:
        return {}
    own = fields(made) if is_dataclass(made) else ()
    return {each.name: each.default for each in own if isinstance(each.default, bool | int | float | str)}


def digest(plan: Plan) -> str:
    """32 hexadecimal digits of the plan's start and rows, whatever it is called and was made for."""
    tensors: dict[str, Tensor] = {}
    content = to_json(plan, tensors)
    table = json.dumps([content["start"], content["rows"]], sort_keys=True).encode()
    return hashlib.sha256(table + dump_safetensors(tensors)).hexdigest()[:32]


def write(plan: Plan, path: Path) -> Path:
    """Write `plan` at `path` (and its tensors beside it); raises InputError where that is not possible."""
    tensors: dict[str, Tensor] = {}
    content = to_json(plan.check(), tensors)
    if tensors:
        beside = path.with_suffix(".safetensors")
        write_safetensors(beside, tensors)
        content["tensors"] = beside.name
    text = (json.dumps(content, indent=1) + "\n").encode()
    if len(text) > LARGEST_JSON:
        raise InputError(
            f"plan {plan.name!r} of {len(plan.rows)} rows takes {len(text) >> 20} MiB as a file, of which at most "
            f"{LARGEST_JSON >> 20} are read: give fewer evaluations"
        )
    write_atomically(path, text)
    return path


def read(path: Path) -> Plan:
    """The checked plan of a file; raises InputError with one line."""
    return from_json(migrate(read_json(path, "plan"), path), path)


def migrate(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Bring an older file to today's schema; a newer one is refused.

    Schema 1 had no blocks: all of them were run, which a row without the key still says. Schema 2 had one network. Up to 3
    each row has a time, which stays the row's own: under the schedule that the file names it is given as it was.
    Nor have they a recipe: nobody knows where such plans are from. Schema 4 has no method. Before `pigdm` had a
    weighting it was its formula.
    """
    schema = content.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise InputError(f"plan {path} has no schema version")
    if schema > SCHEMA:
        raise InputError(f"plan {path} has schema {schema}, this version of fewer reads up to {SCHEMA}: upgrade fewer")
    return content | {"schema": SCHEMA} | _weighted(content.get("method"))


def _weighted(method: object) -> dict[str, Any]:
    """The method of `pigdm` plans that were written before it had a weighting, whose two settings were both in the file."""
    settings = method.get("settings") if isinstance(method, dict) and method.get("name") == "pigdm" else None
    if not isinstance(method, dict) or not isinstance(settings, dict) or settings.keys() != {"variance", "strength"}:
        return {}
    return {"method": method | {"settings": settings | {"weighting": "formula"}}}


def from_json(content: dict[str, Any], path: Path, tensors: Mapping[str, Tensor] | None = None) -> Plan:
    """The checked plan of JSON values of today's schema; its tensors are given, or lie beside `path`."""
    fields = {"name": None} | {key: value for key, value in content.items() if key not in ("schema", "tensors")}
    if (beside := content.get("tensors")) is not None:
        tensors = _read_tensors(beside, path)
    try:
        return checked(_plan, fields, f"plan {path}", context=Source(path, dict(tensors or {}))).check()
    except Refusal as refusal:
        said = str(refusal.args[0])
        raise InputError(said if str(path) in said else f"plan {path}: {said}") from refusal.__cause__


def _read_tensors(name: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
        raise InputError(f"plan {path}: tensors must be a .safetensors file beside the plan, got {name!r:.200}")
    return read_safetensors(path.with_name(name), LARGEST_TENSORS)
