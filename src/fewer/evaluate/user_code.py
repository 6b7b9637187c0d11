"""Code and weights of the user's: modules, safetensors files, TorchScript archives. Nothing is unpickled."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fewer.errors import InputError, first_line, foreign, in_one_line
from fewer.functions import user_function


def user_module(function: str) -> nn.Module:
    """The module that `package.module:function` returns, called without arguments."""
    make = user_function(function, "features")
    with foreign(f"features {function!r}"):
        module = make()
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
        said = in_one_line(error, 300)
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
