"""A light model as a folder in diffusers format, written whole or not at all."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from fewer.blocks.find import is_module, network_of
from fewer.errors import InputError
from fewer.files import write_json
from fewer.models.load import folder_of_name
from fewer.models.model import Model
from fewer.models.pipelines.folder import read_if_there
from fewer.models.pipelines.narrow import Light, mark_in, write_mark
from fewer.models.pipelines.network_files import network_folder
from fewer.models.pipelines.scheduler_config import quiet
from fewer.outfolder import MARKER, check_own, filled, written

if TYPE_CHECKING:
    from fewer.compression.compress import Compressed

COMMAND, EVIDENCE = "compress", "evidence.json"
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def source_of(model: Model) -> Path:
    """The folder that a model was loaded from. Raises InputError where there is none, of which a light one could be written."""
    folder = None if model.loaded is None else folder_of_name(model.loaded.model)
    if folder is None:
        raise InputError(
            f"{model.name} was not loaded from a folder in diffusers format, so no light one can be written of it"
        )
    if not is_module(model):
        raise InputError(f"{model.name} has no network that could be made lighter: its denoiser is known by a formula")
    network_folder(folder)
    return folder


def stored_dtype(model: Model) -> torch.dtype:
    """What the weights are stored in, which a light network's are, too; float32 of a model that has no folder."""
    folder = None if model.loaded is None else folder_of_name(model.loaded.model)
    if folder is None:
        return torch.float32
    with safe_open(next(iter(sorted(network_folder(folder).glob("*.safetensors")))), "pt") as opened:
        first = next(iter(opened.keys()))
        return DTYPES.get(opened.get_slice(first).get_dtype(), torch.float32)


def narrowed_before(model: Model) -> Light | None:
    """What is narrow of a network that was light already when it was loaded; None for another."""
    folder = None if model.loaded is None else folder_of_name(model.loaded.model)
    return None if folder is None else mark_in(network_folder(folder))


def check_out(out: Path, force: bool = False) -> None:
    """Raise InputError where the folder must not, or cannot, be written into."""
    check_own(out, written(out, COMMAND) is not None, force, (EVIDENCE,))


def places(source: Path, out: Path) -> list[Path]:
    """What will be written at the top of the folder `out`, of the model in the folder `source`; but for the evidence."""
    names = {path.relative_to(source).parts[0] for path in _files(source)} | {MARKER, "fewer.json"}
    return [out / name for name in sorted(names - {EVIDENCE})]


@contextmanager
def light_folder(
    source: Path, out: Path, facts: Mapping[str, Any], files: Mapping[str, Any], force: bool = False
) -> Iterator[Path]:
    """Where to write the light network of the model in the folder `source`; `out` then has that and the model's other files.

    facts  further keys of its fewer.json
    files  further JSON files by their names
    force  though `out` has others' files

    `out` changes as a whole or not at all. Raises InputError where it has a stranger's files, is `source`, or cannot be written.
    """
    if out.resolve() == source.resolve():
        raise InputError(f"out folder {out} is the model's own: give another")
    check_out(out, force)
    part = network_folder(source).name
    with filled(out, COMMAND) as stage:
        copy_files(source, stage, part)
        (stage / part).mkdir(exist_ok=True)
        yield stage / part
        write_json(stage / "fewer.json", {**read_if_there(source / "fewer.json"), "name": out.name, **facts})
        for name, content in files.items():
            write_json(stage / name, content)


def save(made: Compressed, out: Path, force: bool = False) -> Path:
    """Write the folder: the model's own files with the light network in place of the full one, and evidence.json."""
    record = made.to_dict()
    with light_folder(source_of(made.full), out, {"compressed": record["choice"]}, {EVIDENCE: record}, force) as part:
        write_network(made.model, part, stored_dtype(made.full), made.narrowed)
    return out


def write_network(model: Model, part: Path, dtype: torch.dtype, light: Light | None) -> None:
    """The network's configuration and weights; marked as narrow where it is said to be."""
    network: Any = copy.deepcopy(network_of(model)).cpu()
    with quiet():
        network.to(dtype).save_pretrained(part)
    if light is not None:
        write_mark(part, light)


def copy_files(source: Path, stage: Path, part: str) -> None:
    """All files of the folder but the network's weights, and what commands left there."""
    for file in _files(source):
        place = stage / file.relative_to(source)
        if file.relative_to(source).parts[0] not in (part, MARKER, EVIDENCE, "fewer.json"):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
