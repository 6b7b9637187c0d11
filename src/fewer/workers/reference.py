"""The reference of a model: by what a worker loads the same one, and how it sees that it is the same."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fewer.errors import InputError
from fewer.models.load import load
from fewer.models.model import Model

SAME = ("fewer", "torch", "diffusers")  # packages whose versions workers must share


@dataclass(frozen=True)
class Reference:
    """How a model was loaded, and what the loaded one is like.

    loaded  arguments of `fewer.load`
    device  where it runs, such as cuda, which is each worker's own; `dtype` what its network runs in
    scale   guidance scale that its network takes as an input
    code    SHA-256 of the file of a model's function, which no hash of weights covers
    facts   what the model says of itself
    others  of the further networks that its plans call
    """

    loaded: dict[str, Any]
    device: str
    dtype: str
    scale: float | None
    code: str | None
    facts: dict[str, str]
    others: tuple[Reference, ...] = ()

    @classmethod
    def of(cls, model: Model) -> Reference:
        """Raises InputError for a model that was made in this process, which no other can load."""
        if model.loaded is None:
            raise InputError(
                f"{model.name} was made in this process, where workers cannot load it: give tune what fewer.load takes (a folder, "
                "a bundled name, or package.module:function that returns it), or leave out workers"
            )
        dtype = str(model.dtype).removeprefix("torch.")
        others = tuple(map(cls.of, model.others))
        loaded = asdict(model.loaded)
        return cls(
            loaded, str(model.device), dtype, model.embedded_guidance, code_of(loaded["model"]), facts(model), others
        )

    @classmethod
    def read(cls, content: dict[str, Any]) -> Reference:
        """The reference that `asdict` has made a message's dict of."""
        return cls(**{**content, "others": tuple(map(cls.read, content["others"]))})

    def load(self) -> Model:
        """The model, loaded in this process. Raises InputError where it is another than the one that was referred to."""
        name = self.loaded["model"]
        if code_of(name) != self.code:
            raise InputError(f"the file of {name!r} is another one here, or is missing: copy it to where workers run")
        model = load(device=self.device, dtype=self.dtype, **self.loaded)
        if self.scale is not None and self.scale != model.embedded_guidance:
            model = model.with_guidance(self.scale)
        model = replace(model, others=tuple(other.load() for other in self.others))
        found = facts(model)
        other = [key for key in self.facts if found[key] != self.facts[key]]
        if other:
            changed = "; it was changed after it was loaded" if other != ["hash"] else ""
            raise InputError(f"the model {name!r} that is loaded here has another {', '.join(other)}{changed}")
        return model


def facts(model: Model) -> dict[str, str]:
    """What a model says of itself, by which another of the same name is told from it."""
    known = {
        "shape": tuple(model.shape), "predicts": model.predicts, "schedule": model.schedule.describe(), "clip": model.clip,
        "sigma_data": model.sigma_data, "start": model.start, "classes": model.classes, "empty_label": model.empty_label,
        "prompts": model.prompts, "negative_prompt": model.negative_prompt, "text encoders": model.encoders_hash,
        "guidance": model.embedded_guidance, "classifier": model.classifier is not None,
        "weaker": model.weaker and model.weaker.hash, "others": len(model.others), "hash": model.hash,
    }  # fmt: skip
    return {key: repr(value) for key, value in known.items()}


def code_of(name: str) -> str | None:
    """SHA-256 of the file that holds the function of `package.module:function`; None for other names."""
    if ":" not in name or Path(name).exists():
        return None
    try:
        spec = importlib.util.find_spec(name.split(":")[0])
    except (ImportError, ValueError):  # a package that is missing, or __main__
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Of the packages that plays depend on."""
    return {name: metadata.version(name) for name in SAME}


def numerics() -> dict[str, Any]:
    """What decides, beside model and inputs, which bits torch computes: threads, and the precision of products."""
    return {
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": torch.backends.cudnn.allow_tf32,
    }


def set_numerics(given: dict[str, Any]) -> None:
    """Have this process compute as the one whose `numerics` these are."""
    torch.set_num_threads(given["threads"])
    torch.set_float32_matmul_precision(given["matmul"])
    torch.backends.cudnn.allow_tf32 = given["cudnn"]
