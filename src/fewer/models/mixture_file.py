"""The mixture's file: one safetensors file, its shape in the header. Nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fewer.errors import InputError
from fewer.files import write_safetensors
from fewer.models.mixture import GaussianMixture

VERSION = 1
PARAMETERS = {"weights", "means", "basis", "variances", "residual"}


def write(mixture: GaussianMixture, path: Path, dtype: torch.dtype) -> None:
    """Means and basis in `dtype`, the small rest in float64; equal mixtures make equal files."""
    stored = {
        name: getattr(mixture, name).to(dtype if name in ("means", "basis") else torch.float64) for name in PARAMETERS
    }
    if mixture.labels is not None:
        stored["labels"] = mixture.labels
    # One key in the header: the order of several is not fixed.
    header = {"mixture": json.dumps({"version": VERSION, "shape": list(mixture.shape)})}
    write_safetensors(path, {name: value.cpu().contiguous() for name, value in stored.items()}, header)


def read(path: Path) -> GaussianMixture:
    """The mixture of a file, in float64 on the CPU. Raises InputError, in one line, for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
            header = json.loads((file.metadata() or {})["mixture"])
            version, shape = header["version"], [int(size) for size in header["shape"]]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no safetensors file of a mixture: {str(error).splitlines()[0]}") from error
    if version != VERSION:
        raise InputError(f"{path} holds a mixture of version {version}; expected {VERSION}")
    if not stored.keys() >= PARAMETERS >= stored.keys() - {"labels"} or stored["basis"].ndim != 3:
        raise InputError(f"{path} holds {', '.join(sorted(stored))}; expected {', '.join(sorted(PARAMETERS))}")
    labels = stored.pop("labels", None)
    parameters = {name: value.double() for name, value in stored.items()}
    parameters["basis"] = orthonormal(parameters["basis"])
    return GaussianMixture(**parameters, shape=tuple(shape), labels=labels)


def orthonormal(basis: Tensor) -> Tensor:
    """The columns of (K, d, r) made orthonormal again by QR, each on its old side; float16 leaves them so to 1e-3."""
    q, r = torch.linalg.qr(basis)
    diagonal = r.diagonal(dim1=1, dim2=2)
    turned: Tensor = q * torch.ones_like(diagonal).copysign(diagonal)[:, None]
    return turned
