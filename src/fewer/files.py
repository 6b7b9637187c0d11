"""Files are written whole or not at all, and read within bounds: nothing is unpickled.

JSON is checked against a type (`checked`, `read_as`); a `Record` is a type whose values are such JSON.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from fewer.errors import InputError, first_fault

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_JSON = 16 * 2**20  # bytes of a JSON file
LARGEST_TENSORS = 2**30  # bytes of a safetensors file
LONGEST_NAME = 50  # characters taken into a file's name, of which each may be several bytes

Schema = TypeVar("Schema")


def write_arrays(path: Path, arrays: Mapping[str, Any], compressed: bool = False) -> Path:
    """Write arrays by name as an .npz file, as `write_atomically` does; its path."""
    import numpy as np

    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
    return path


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


def read_bytes(path: Path, named: str, largest: int) -> bytes:
    """A file's content; InputError calls it `named` where it cannot be read, is no regular file, or has more than `largest`
    bytes. Devices and pipes, which may have no end or no beginning, are not opened.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(
            about.st_mode
        ):  # to read a folder is an error of its own
            raise InputError(f"cannot read {named}: it is no regular file")
        if about.st_size > largest:
            raise InputError(f"{named} is larger than {largest >> 20} MiB")
        return path.read_bytes()
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a name that holds a null character is a ValueError
        raise InputError(f"cannot read {named}: {getattr(error, 'strerror', error)}") from error


def read_safetensors(path: Path, largest: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file; anything else (a pickle, a truncated file) is refused with InputError."""
    import torch  # here alone: JSON needs none, and it takes seconds
    from safetensors.torch import load

    content = read_bytes(path, str(path), largest)
    try:
        tensors = load(content)
    except Exception as error:  # safetensors raises a type of its own for each kind of damage
        raise InputError(f"{path} is not a safetensors file (nothing else is ever loaded): {error}") from error
    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}


def write_safetensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write tensors, and text in the file's header, as `write_atomically` does."""
    from safetensors.torch import save

    write_atomically(path, save(tensors, header))


def file_name(text: str) -> str:
    """The text as part of a file's name, which leads into no other folder: letters, digits, . - and _, at most 50 of them."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:LONGEST_NAME] or "unnamed"


class Record(BaseModel):
    """The content of a JSON file, or an object in one. Keys that nobody has given are left out of the JSON."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, in the order of the fields; null stands for infinity, which JSON does not have."""
        return dict(json.loads(self.model_dump_json(by_alias=True, exclude_unset=True)))


def write_json(path: Path, content: Any) -> None:
    """Write values of JSON as `write_atomically` does."""
    write_atomically(path, json_text(content).encode())


def json_text(content: Any) -> str:
    """Values as lines of JSON; raises ValueError for nan and infinity."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_json(path: Path, what: str = "", largest: int = LARGEST_JSON) -> dict[str, Any]:
    """The object in a JSON file of at most `largest` bytes, which is called `what` where it is refused with InputError."""
    named = f"{what} {path}".lstrip()
    raw = read_bytes(path, named, largest)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{named} is not JSON, or not complete JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{named} is not a JSON object")
    return content


def checked(
    schema: type[Schema] | TypeAdapter[Schema],
    content: object,
    what: str,
    whole: str = "content",
    context: object = None,
) -> Schema:
    """The content as a value of the type; InputError begins with `what` and names the first wrong place, or the `whole`."""
    adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)
    try:
        return adapter.validate_python(content, context=context)
    except ValidationError as error:
        where, fault = first_fault(error)
        raise InputError(f"{what}: {where or whole}: {fault}") from error


def read_as(schema: type[Schema], path: Path, what: str = "", largest: int = LARGEST_JSON) -> Schema:
    """The content of a JSON file as a value of the type; raises InputError like `read_json` and `checked`."""
    return checked(schema, read_json(path, what, largest), f"{what} {path}".lstrip())
