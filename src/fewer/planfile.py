"""The plan's file: JSON with a schema version, and safetensors beside it for coefficients that are tensors.

A file is hostile until it has been checked: sizes are bounded, nothing is unpickled, no name leaves its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from fewer.errors import InputError, first_fault
from fewer.parts import find
from fewer.plan import Coefficient, Plan, Row, Shortcut, Start

SCHEMA = 3  # 2 added a row's blocks, 3 the network that it calls
LARGEST_JSON = 16 * 2**20
LARGEST_TENSORS = 2**30


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Named(_Strict):
    tensor: str


_Number = Annotated[float | _Named, Field(union_mode="left_to_right")]
_Weights = Annotated[dict[int, _Number], Field(max_length=10_000)]


class _Guidance(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    rule: str


class _Start(_Strict):
    tau: float
    scale: _Number
    noise: _Number = 0.0
    offset: _Number = 0.0
    directions: _Named | None = None
    gains: _Named | None = None


class _Shortcut(_Strict):
    weights: _Weights = {}
    offset: _Number = 0.0


_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Row(_Strict):
    t: float
    tau: float
    b: _Weights
    a: _Weights | None = None
    noise: _Number = 0.0
    guidance: _Guidance | None = None
    offset: _Number = 0.0
    blocks: Annotated[dict[_Name, _Shortcut], Field(max_length=10_000)] = {}
    network: Annotated[int, Field(ge=0, le=100)] = 0


class _File(_Strict):
    schema_: int = Field(alias="schema")
    name: str = Field(max_length=200)
    model: dict[str, str] | None = None
    tensors: str | None = None
    start: _Start
    rows: Annotated[list[_Row], Field(min_length=1, max_length=10_000)]
    end: float = 0.0
    evidence: dict[str, Any] = {}
    others: Annotated[list[dict[str, str]], Field(max_length=100)] = []


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises InputError where the folder cannot be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def to_json(plan: Plan, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The plan as JSON values; coefficients that are tensors go into `tensors` under the names that the JSON has."""

    def number(value: Coefficient) -> Any:
        if not isinstance(value, Tensor):
            return float(value)
        if value.ndim == 0:
            return float(value)
        name = f"c{len(tensors)}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}

    def weights(values: Mapping[int, Coefficient]) -> dict[str, Any]:
        return {str(j): number(value) for j, value in values.items()}

    def shortcut(cell: Shortcut) -> dict[str, Any]:
        offset = {"offset": number(cell.offset)} if isinstance(cell.offset, Tensor) or cell.offset != 0 else {}
        return {"weights": weights(cell.weights), **offset}

    rows = []
    for row in plan.rows:
        entry: dict[str, Any] = {"t": number(row.t), "tau": number(row.tau), "b": weights(row.b)}
        if row.a is not None:
            entry["a"] = weights(row.a)
        if isinstance(row.noise, Tensor) or row.noise != 0:
            entry["noise"] = number(row.noise)
        if isinstance(row.offset, Tensor) or row.offset != 0:
            entry["offset"] = number(row.offset)
        if row.guidance is not None:
            entry["guidance"] = {"rule": row.guidance.rule, **row.guidance.parameters()}
        if row.blocks:
            entry["blocks"] = {name: shortcut(cell) for name, cell in row.blocks.items()}
        if row.network:
            entry["network"] = row.network
        rows.append(entry)
    start = {name: number(getattr(plan.start, name)) for name in ("tau", "scale", "noise", "offset")}
    for name in ("directions", "gains"):
        if getattr(plan.start, name) is not None:
            start[name] = number(getattr(plan.start, name))
    return {
        "schema": SCHEMA, "name": plan.name, "model": dict(plan.model) if plan.model else None, "start": start,
        "rows": rows, "end": number(plan.end), "evidence": dict(plan.evidence),
        **({"others": [dict(other) for other in plan.others]} if plan.others else {}),
    }  # fmt: skip


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
        write_atomically(beside, dump_safetensors(tensors))
        content["tensors"] = beside.name
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def read(path: Path) -> Plan:
    """The checked plan of a file; raises InputError with one line."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise InputError(f"plan {path} is larger than {LARGEST_JSON >> 20} MiB")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read plan {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"plan {path} is not complete JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"plan {path} is not a JSON object")
    return from_json(migrate(content, path), path)


def migrate(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Bring an older file to today's schema; a newer one is refused.

    Schema 1 had no blocks: all of them were run, which a row without the key still says. Schema 2 had one network.
    """
    schema = content.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise InputError(f"plan {path} has no schema version")
    if schema > SCHEMA:
        raise InputError(f"plan {path} has schema {schema}, this version of fewer reads up to {SCHEMA}: upgrade fewer")
    return content | {"schema": SCHEMA}


def from_json(content: dict[str, Any], path: Path, known: Mapping[str, Tensor] | None = None) -> Plan:
    """The checked plan of JSON values whose tensors are `known`, or lie beside `path`."""
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        where, what = first_fault(error)
        raise InputError(f"plan {path}: {where}: {what}") from error
    tensors = _read_tensors(file.tensors, path) if file.tensors is not None else (known or {})

    def number(value: float | _Named) -> Coefficient:
        if not isinstance(value, _Named):
            return value
        if value.tensor not in tensors:
            raise InputError(f"plan {path} names tensor {value.tensor!r}, which is not in its safetensors file")
        return tensors[value.tensor]

    def weights(values: Mapping[int, float | _Named]) -> dict[int, Coefficient]:
        return {j: number(value) for j, value in values.items()}

    def tensor(value: _Named | None) -> Tensor | None:
        found = None if value is None else number(value)
        return found if isinstance(found, Tensor) else None

    start = Start(
        file.start.tau, number(file.start.scale), number(file.start.noise), number(file.start.offset),
        tensor(file.start.directions), tensor(file.start.gains),
    )  # fmt: skip
    rows = tuple(
        Row(
            row.t, row.tau, weights(row.b), None if row.a is None else weights(row.a), number(row.noise),
            None if row.guidance is None else _guidance(row.guidance, path), number(row.offset),
            {name: Shortcut(weights(cell.weights), number(cell.offset)) for name, cell in row.blocks.items()},
            row.network,
        )
        for row in file.rows
    )  # fmt: skip
    return Plan(start, rows, file.end, file.name, file.model, file.evidence, tuple(file.others)).check()


def _guidance(entry: _Guidance, path: Path) -> Any:
    part = find("guidance", entry.rule)
    if not isinstance(part.make, type):
        raise InputError(f"plan {path}: guidance {entry.rule!r} makes plans; it is not a rule of a row")
    try:
        return part.make(**(entry.model_extra or {}))
    except TypeError as error:
        raise InputError(f"plan {path}: guidance {entry.rule!r}: {error}") from error


def _read_tensors(name: str, path: Path) -> dict[str, Tensor]:
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise InputError(f"plan {path}: tensors must be a .safetensors file beside the plan, got {name!r}")
    return read_safetensors(path.with_name(name), LARGEST_TENSORS)


def read_safetensors(path: Path, largest: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file; anything else (a pickle, a truncated file) is refused with InputError."""
    try:
        if path.stat().st_size > largest:
            raise InputError(f"{path} is larger than {largest >> 20} MiB")
        tensors = parse_safetensors(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except InputError:
        raise
    except Exception as error:  # safetensors raises a type of its own for each kind of damage
        raise InputError(f"{path} is not a safetensors file (nothing else is ever loaded): {error}") from error
    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
