"""The network of a pipeline folder: its files, their weights, and the hashes by which plans name it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import nn

from fewer.errors import InputError, first_line
from fewer.files import read_json
from fewer.models.pipelines.narrow import is_narrow, narrow_module
from fewer.models.pipelines.scheduler_config import quiet
from fewer.models.quantised import file as quantised_file
from fewer.models.reach import hash_of_network

WEIGHTS = "diffusion_pytorch_model"
# how the names of the parts begin that pipelines' loops call, in folders as in the pipelines themselves
NETWORKS = ("unet", "transformer", "prior", "decoder")


def network_folder(folder: Path) -> Path:
    """The first of `NETWORKS` in a pipeline folder, mostly `unet` or `transformer`. Raises InputError where there is none."""
    for part in NETWORKS:
        if (folder / part / "config.json").exists():
            return folder / part
    raise InputError(f"{folder} is no pipeline folder: it has neither unet/config.json nor transformer/config.json")


def is_pipeline(folder: Path | None) -> TypeGuard[Path]:
    """Whether a folder is a pipeline's, with a network that has a hash."""
    return (
        folder is not None
        and (folder / "model_index.json").is_file()
        and any((folder / p / "config.json").exists() for p in NETWORKS)
    )


def load_module(kind: Any, part: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The diffusers model of a folder in eval mode, with all of its weights from safetensors and none left over.

    Quantised weights, where the folder has such (fewer.models.quantised.file), become numbers of the dtype again.
    """
    check_weights(part)
    if (part / quantised_file.NAME).exists():
        return _ready(_quantised(kind, part).to(device=device, dtype=dtype))
    try:
        with quiet():
            module, info = narrow_module(kind, part) if is_narrow(part) else kind.from_pretrained(
                part, use_safetensors=True, local_files_only=True, variant=variant_of(part), low_cpu_mem_usage=False,
                output_loading_info=True, torch_dtype=torch.float32,
            )  # fmt: skip
            module = module.to(device=device, dtype=dtype)
    except InputError:
        raise
    except Exception as error:  # diffusers and safetensors raise many types for damaged folders
        raise InputError(f"cannot load {kind.__name__} from {part}: {first_line(error)}") from error
    for state, what in (("missing_keys", "lack"), ("unexpected_keys", "have more than its config.json asks for:")):
        if info[state]:
            raise InputError(f"the weights of {part} {what} {', '.join(sorted(info[state])[:3])} ({len(info[state])})")
    return _ready(module)


def _quantised(kind: Any, part: Path) -> Any:
    """The model of a folder's config.json with the weights of its file of quantised ones."""
    if variants := sorted(path.name for path in part.glob(f"{WEIGHTS}*")):
        raise InputError(f"{part} has both {quantised_file.NAME} and {variants[0]}: which weights are meant?")
    path = part / quantised_file.NAME
    try:
        with quiet():
            narrow = None
            if is_narrow(part):
                narrow = narrow_module(kind, part, quantised_file.tensors_in(path), quantised_file.merged_names(path))[
                    0
                ]
            module = narrow or kind.from_config(kind.load_config(part, local_files_only=True))
    except InputError:
        raise
    except Exception as error:  # diffusers raises many types for damaged configurations
        raise InputError(f"cannot make {kind.__name__} of {part / 'config.json'}: {first_line(error)}") from error
    quantised_file.fill(module, path, already=narrow is not None)
    return module


def _ready(module: Any) -> Any:
    """The module in eval mode, without gradients, laid out so that convolutions are faster, on CPUs as on GPUs."""
    return module.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def check_weights(part: Path) -> None:
    """Refuse folders whose weights are not safetensors, also where the list of their shards says so."""
    if not any(part.glob("*.safetensors")):
        found = ", ".join(sorted(p.name for p in part.iterdir())) or "nothing"
        raise InputError(
            f"{part} has no .safetensors weights, only {found}; other formats can run code and are never read"
        )
    for index in part.glob("*.index.json"):
        shards = read_json(index).get("weight_map")
        names = shards.values() if isinstance(shards, dict) else [shards]
        for name in names:
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise InputError(f"{index} names {str(name)[:80]!r}; expected .safetensors files beside it")


def variant_of(part: Path, weights: str = WEIGHTS) -> str | None:
    """`fp16` where a folder has its weights as diffusion_pytorch_model.fp16.safetensors alone, also in shards; else None."""
    names = sorted(path.name for path in part.glob("*.safetensors"))
    if f"{weights}.safetensors" in names:
        return None
    middle = names[0].removeprefix(weights).removesuffix(".safetensors").strip(".")
    return middle.split("-")[0] or None


def hash_of(folder: Path) -> str:
    """sha256 of a pipeline folder's network configuration, weights and scheduler configuration, which decide the samples."""
    part = network_folder(folder)
    weights = sorted(part.glob("*.safetensors"))
    return digest_of([part / "config.json", *weights, folder / "scheduler" / "scheduler_config.json"])


def hashes_of(*networks: nn.Module) -> tuple[str, ...]:
    """The hash of networks' weights, by which `Model.from_pipeline` names them."""
    found = hash_of_network(list(networks))
    return () if found is None else (found,)


def digest_of(files: Iterable[Path]) -> str:
    """sha256 of files, by their names and content in this order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
