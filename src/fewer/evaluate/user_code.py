"""Code and weights of the user's: functions by name, modules, safetensors files, TorchScript archives. Nothing is unpickled."""

from __future__ import annotations

import importlib
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fewer.errors import InputError, first_line, reason


def user_function(name: str, what: str) -> Callable[..., Any]:
    """The callable of `package.module:function`, whose module is imported; InputError, naming `what`, if there is none."""
    if not re.fullmatch(r"[\w.]+:\w+", name):
        raise InputError(f"{what} is {name[:200]!r}; expected package.module:function")
    module, function = name.split(":")
    try:
        thing = getattr(importlib.import_module(module), function)
    except Exception as error:  # what the user's own module raises
        raise InputError(f"{what} {name!r} raised {reason(error)}") from error
    if not callable(thing):
        raise InputError(f"{what} {name!r} is {type(thing).__name__}; expected a function")
    return thing  # type: ignore[no-any-return]


def user_module(function: str) -> nn.Module:
    """The module that `package.module:function` returns, called without arguments."""
    try:
        module = user_function(function, "features")()
    except InputError:
        raise
    except Exception as error:  # what the user's own code raises
        raise InputError(f"features {function!r} raised {reason(error)}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"features {function!r} returned {type(module).__name__}; expected a torch.nn.Module")
    return module


def load_weights(module: nn.Module, file: Path, maker: str) -> None:
    """Put the tensors of a safetensors file in the module that `maker` made; InputError unless names and shapes agree."""
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"features file {file} is no whole safetensors file: {first_line(error)}") from error
    try:
        module.load_state_dict(stored)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"features file {file} does not fit what {maker} returns: {said}") from error


def torchscript(file: Path, what: str = "features") -> nn.Module:
    """The module of a TorchScript archive, on the CPU: a zip with code in it, which neither pickled weights nor web pages are.

    Its pickles are read by TorchScript's own reader, which makes tensors and TorchScript's types and calls no Python, so
    that loading runs nothing. Calling the module runs the archive's code in TorchScript's interpreter, which reaches
    torch's operators only; these are no sandbox (some open files), so take archives from where you would take programs.
    Raises InputError, which calls the file one of `what`, for anything else.
    """
    if not file.is_file():
        raise InputError(f"{what} file {str(file)[:200]!r} is no file; expected a TorchScript file")
    try:
        with zipfile.ZipFile(file) as archive:
            inside = [Path(entry).parts[1:] for entry in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{what} file {file} is no zip; expected a TorchScript file") from error
    if not any(parts[:1] == ("code",) for parts in inside) or ("constants.pkl",) not in inside:
        raise InputError(f"{what} file {file} holds no TorchScript code (pickled weights are never read)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(file), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{what} file {file} cannot be loaded as TorchScript: {first_line(error)}") from error
    return module  # type: ignore[no-any-return]
