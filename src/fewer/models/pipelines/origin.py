"""The folder that a pipeline was loaded from, and the hashes by which models of the same network name each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from fewer.models.pipelines.network_files import (
    NETWORKS,
    hash_of,
    hashes_of,
    is_pipeline,
    load_module,
    network_folder,
)


def folder_of(pipe: Any) -> Path | None:
    """The folder that the pipeline was loaded from, or its network where it is made of another's components; None where neither
    says.
    """
    named = getattr(pipe.config, "_name_or_path", None) or pipe.config.get("_name_or_path")
    if named:
        return Path(str(named))
    networks = [part for name, part in vars(pipe).items() if name.startswith(NETWORKS) and isinstance(part, nn.Module)]
    paths = [path for network in networks if (path := getattr(getattr(network, "config", None), "_name_or_path", None))]
    return Path(str(paths[0])).parent if len(paths) == 1 else None


def hash_of_its_folder(pipe: Any, weights: str) -> Iterator[str]:
    """The hash of the folder that the pipeline was loaded from, if the folder's network still has the `weights` of this hash."""
    folder = folder_of(pipe)
    if not is_pipeline(folder):
        return
    part = network_folder(folder)
    network = getattr(pipe, part.name, None)
    if isinstance(network, nn.Module):
        first = next(network.parameters())
        if hashes_of(load_module(type(network), part, first.device, first.dtype)) == (weights,):
            yield hash_of(folder)
