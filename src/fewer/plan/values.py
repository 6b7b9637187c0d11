"""Values of a plan's fields, and how pydantic reads them from the plan's file: numbers, named tensors, guidance rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, GetPydanticSchema, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError
from torch import Tensor

from fewer.errors import InputError
from fewer.registry import find

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Source:
    """The validation context: the plan's file, and the tensors that its numbers may name."""

    path: Path
    tensors: dict[str, Tensor]


class Refusal(Exception):
    """An InputError as its argument; pydantic would catch the ValueError that this is not."""


def named_tensor(value: object, info: ValidationInfo[Source]) -> Tensor:
    """The tensor of {"tensor": name}."""
    if not isinstance(value, dict) or value.keys() != {"tensor"} or not isinstance(name := value["tensor"], str):
        raise PydanticCustomError("tensor", 'Input should be {{"tensor": name}}')
    if name not in info.context.tensors:
        raise Refusal(
            InputError(f"plan {info.context.path} names tensor {name!r}, which is not in its safetensors file")
        )
    return info.context.tensors[name]


def guidance_rule(value: object, info: ValidationInfo[Source]) -> Any:
    """The guidance rule of {"rule": name, parameter: value, ..}."""
    if not isinstance(value, dict) or not isinstance(name := value.get("rule"), str):
        raise PydanticCustomError("guidance", "Input should be an object with the name of a rule")
    path = info.context.path
    try:
        part = find("guidance", name)
        if part.role != "guidance rule":
            raise InputError(f"plan {path}: guidance {name!r} makes plans; it is not a rule of a row")
        return part.make(**{key: parameter for key, parameter in value.items() if key != "rule"})
    except TypeError as error:
        raise Refusal(InputError(f"plan {path}: guidance {name!r}: {error}")) from error
    except InputError as error:
        raise Refusal(error) from error


NamedTensor = Annotated[Tensor, PlainValidator(named_tensor)]
Coefficient = Annotated[float | NamedTensor, Field(union_mode="left_to_right")]
# a level or a time, which a file holds as a number alone
Level = Annotated[float | Tensor, GetPydanticSchema(lambda _, handler: handler(float))]
