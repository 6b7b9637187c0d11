"""`fewer.load`: a model from a folder, a bundled name, a function of the user's, or a hub id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fewer.errors import InputError, first_line, foreign
from fewer.files import read_json
from fewer.functions import NAME, user_function
from fewer.models import bundled
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Loaded, Model
from fewer.models.pipelines.folder import load_folder, own_name
from fewer.models.pipelines.prompts import check_prompts
from fewer.models.pipelines.text_to_image import is_text_pipeline, load_text
from fewer.models.pipelines.whole import load_whole, only_whole
from fewer.models.schedules import betas, discrete

FUNCTION = r"[\w.]+:\w+"
HUB_ID = r"\w[\w.-]*/\w[\w.-]*"  # owner/name
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


def load(
    model: str | Path,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    *,
    empty_label: int | None = None,
    prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
    hash: str | None = None,
    call: Mapping[str, Any] | None = None,
) -> Model:
    """Load a pretrained model.

    model        a folder in diffusers format, the name of a bundled model, `package.module:function` (runs that
                 function, which returns a `fewer.Model`, or the pipe and call of `Model.from_pipeline`), or a hub id `owner/name`
    device       where it runs; `dtype` what its network runs in (float32, float16, bfloat16)
    empty_label  the label trained as 'no class', where the folder does not say
    prompts      of a text-to-image pipeline, whose label k is then prompt k: 1 to 1000 texts
    negative_prompt  of such a pipeline: text that guidance leads away from, instead of the pipeline's default
    call         arguments of the pipeline's call, by name: numbers, texts, true, false or null. The model is then
                 `Model.from_pipeline` of the folder's pipeline, with the prompts as `prompt`; so it is, too, of pipelines whose
                 network fewer cannot call alone. Of a function that returns (pipe, call) they replace the call's own
    hash         of the network that such a function returns, where fewer cannot tell it (see `Model.from_denoiser`)

    Raises InputError when it is none of these or cannot be read, and ForeignError where the function raises.
    """
    device = _device(device)
    dtype = _dtype(dtype)
    name = str(model)
    if hash is not None and not re.fullmatch(FUNCTION, name):
        raise InputError(
            f"a hash was given for {name!r}, which is known by its files; it is for package.module:function"
        )
    if NAME.fullmatch(name) and not _is_folder(Path(name)):
        made = _from_function(name, prompts, negative_prompt, call)
        made = _with_empty_label(made.to(device, dtype), empty_label)
        made = made if hash is None else replace(made, hash=hash)
    else:
        folder, name = _folder(name)
        made = _from_folder(folder, device, dtype, empty_label, prompts, negative_prompt, call)
    texts = None if prompts is None else tuple(prompts)
    values = None if call is None else dict(call)
    return replace(made, loaded=Loaded(name, empty_label, texts, negative_prompt, hash, values))


def _folder(name: str) -> tuple[Path, str]:
    """Where the model's files are, and what it is loaded by again: a folder's absolute path, or the name."""
    if name and _is_folder(Path(name)):
        return Path(name), str(Path(name).absolute())
    if name in bundled.names():
        return bundled.folder(name), name
    if re.fullmatch(HUB_ID, name) and not Path(name).exists():
        return _from_hub(name), name
    raise InputError(
        f"{name!r} is no folder, no bundled model ({', '.join(bundled.names())}), no module:function and no hub id"
    )


def folder_of_name(name: str) -> Path | None:
    """The folder that `fewer.load` reads for this name, where one is here: none of a function's, and nothing is fetched."""
    if name and _is_folder(Path(name)):
        return Path(name)
    return bundled.folder(name) if name in bundled.names() else None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise InputError(f"model {str(path)[:80]!r} cannot be read: {error.strerror}") from error


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise InputError(f"device {str(device)[:80]!r} cannot be used: {first_line(error).split('. ')[0]}") from error
    return found


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _from_folder(
    folder: Path, device: torch.device, dtype: torch.dtype | None, empty_label: int | None,
    prompts: Sequence[str] | None, negative_prompt: str | None, call: Mapping[str, Any] | None = None,
) -> Model:  # fmt: skip
    if call is not None or only_whole(folder):
        _guides_itself(str(folder), empty_label, negative_prompt)
        return load_whole(folder, device, dtype, prompts, call or {})
    if is_text_pipeline(folder):
        if empty_label is not None:
            raise InputError(f"an empty label was given for {folder}, whose labels are prompts")
        return load_text(folder, device, dtype, prompts, negative_prompt)
    _take_no_text(folder.name, prompts, negative_prompt)
    path = folder / "mixture.safetensors"
    if not path.exists():
        return load_folder(folder, device, dtype, empty_label)
    table = str(read_json(folder / "fewer.json").get("beta_schedule"))
    schedule, mixture = discrete(betas(table), name=table), GaussianMixture.load(path)
    digest = hashlib.sha256(table.encode() + path.read_bytes()).hexdigest()
    model = Model.from_mixture(
        mixture, schedule, name=own_name(folder, {}), hash=digest, device=device, dtype=dtype or torch.float32
    )
    return _with_empty_label(model, empty_label)


def _guides_itself(name: str, empty_label: int | None, negative_prompt: str | None) -> None:
    if empty_label is not None:
        raise InputError(f"an empty label was given for {name}, whose pipeline is called as it guides by itself")
    if negative_prompt is not None:
        raise InputError(
            f"the pipeline of {name} guides by itself: --set negative_prompt=TEXT, in place of --negative-prompt"
        )


def _take_no_text(name: str, prompts: Sequence[str] | None, negative_prompt: str | None) -> None:
    if negative_prompt is not None:
        raise InputError(f"{name} takes no text: leave out negative_prompt (--negative-prompt)")
    if prompts is not None:
        raise InputError(f"{name} takes no text: leave out prompts (--prompt, --prompts)")


def _with_empty_label(model: Model, empty_label: int | None) -> Model:
    """The model with its empty label named; a network without classes has none."""
    if empty_label is None:
        return model
    if model.classes is None:
        raise InputError(f"an empty label was given for {model.name}, which has no classes")
    if empty_label < 0:
        raise InputError(f"empty label {empty_label} is out of range; labels count from 0")
    return replace(model, empty_label=empty_label)


def _from_function(
    name: str, prompts: Sequence[str] | None, negative_prompt: str | None, call: Mapping[str, Any] | None
) -> Model:
    make = user_function(name, "model")
    with foreign(f"model {name!r}"):
        made = make if isinstance(make, Model) else make()
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping):
        _guides_itself(name, None, negative_prompt)
        texts = {} if prompts is None else {"prompt": list(check_prompts(prompts))}
        return Model.from_pipeline(made[0], {**made[1], **(call or {}), **texts})
    _take_no_text(name, prompts, negative_prompt)
    if not isinstance(made, Model):
        raise InputError(f"{name!r} returned {type(made).__name__}; expected a fewer.Model, or (pipe, call)")
    if call is not None:
        raise InputError(f"values of a pipeline's call are set (--set), and {name!r} returned a fewer.Model")
    return made


def _from_hub(name: str) -> Path:
    """The folder of a repository, fetched once: of a pipeline what diffusers itself would load of it."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json"]))
        if not (folder / "model_index.json").exists():
            return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
        from diffusers import DiffusionPipeline

        return Path(DiffusionPipeline.download(name))
    except Exception as error:  # the hub's client raises many types, for names, networks and permissions
        raise InputError(f"{name!r} is no folder here and cannot be fetched: {first_line(error)}") from error
