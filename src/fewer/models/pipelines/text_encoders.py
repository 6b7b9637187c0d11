"""The text encoders of a pipeline folder, put together with the rest as the pipeline whose `encode_prompt` uses them.

Only classes that are listed here are ever made, whatever model_index.json names, and weights are read from safetensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fewer.errors import InputError, first_line
from fewer.models.pipelines.folder import scheduler_of
from fewer.models.pipelines.network_files import NETWORKS, check_weights, digest_of, variant_of
from fewer.models.pipelines.scheduler_config import class_named, quiet

ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast")
DECIDING = (".json", ".safetensors", ".txt", ".model")  # files of encoders and tokenizers, by how their names end
APART = ("vae", "safety_checker", "feature_extractor", "image_encoder")  # no prompt needs them


def assembled(folder: Path, index: dict[str, Any], network: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline that `index` (model_index.json) names: network, scheduler, tokenizers and text encoders, no VAE.

    Raises InputError where transformers is missing, for parts that are not known or damaged, and where they do not fit.
    """
    transformers = transformers_for(folder)
    with silence():  # importing a pipeline warns of what is not installed
        own = class_named(index["_class_name"])
    parts: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(own.__init__).parameters.items())[1:]:
        known = class_of(index, name)
        if name in NETWORKS:
            parts[name] = network
        elif name == "scheduler":
            parts[name] = scheduler_of(folder)
        elif name.startswith("text_encoder") and known is not None:
            parts[name] = _text_encoder(transformers, known, folder / name, device, dtype)
        elif name.startswith("tokenizer") and known is not None:
            parts[name] = _tokenizer(transformers, known, folder / name)
        elif name in ("requires_safety_checker", "add_watermarker"):
            parts[name] = False
        elif name in index and not isinstance(index[name], list):
            parts[name] = index[name]
        elif parameter.default is inspect.Parameter.empty:
            parts[name] = None
    for name in index:
        if class_of(index, name) is not None and name not in (*parts, *APART):
            raise InputError(f"{folder} is a {own.__name__} with {name!r}, which fewer does not read so far")
    try:
        with silence():
            return own(**parts)
    except Exception as error:  # pipelines raise many types for parts that do not fit
        raise InputError(f"{folder} cannot be put together as a {own.__name__}: {first_line(error)}") from error


def transformers_for(folder: Path) -> Any:
    """The library transformers. Raises InputError where it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"{folder} takes text, and transformers, which encodes it, is missing: pip install 'fewer[prompts]'"
        ) from error
    return transformers


def class_of(index: dict[str, Any], part: str) -> str | None:
    """The class of a part of the pipeline; None for what is no part, or is left out."""
    value = index.get(part)
    return value[1] if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str) else None


def _text_encoder(library: Any, name: str, part: Path, device: torch.device, dtype: torch.dtype) -> Any:
    _check(name, ENCODERS, part)
    return load_encoder(getattr(library, name), part, device, dtype)


def load_encoder(kind: Any, part: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The transformers model of a folder in eval mode, with all of its weights from safetensors."""
    check_weights(part)
    try:
        with silence():
            encoder, info = kind.from_pretrained(
                part, use_safetensors=True, local_files_only=True, variant=variant_of(part, "model"),
                output_loading_info=True,
            )  # fmt: skip
            encoder = encoder.to(device=device, dtype=dtype)
    except Exception as error:  # transformers and safetensors raise many types for damaged folders
        raise InputError(f"cannot load {kind.__name__} from {part}: {first_line(error)}") from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"the weights of {part} lack {', '.join(missing[:3])} ({len(missing)})")
    return encoder.eval().requires_grad_(False)


def _tokenizer(library: Any, name: str, part: Path) -> Any:
    _check(name, TOKENIZERS, part)
    try:
        with silence():
            return getattr(library, name).from_pretrained(part, local_files_only=True)
    except Exception as error:  # as above
        raise InputError(f"cannot load {name} from {part}: {first_line(error)}") from error


def _check(name: str, known: Sequence[str], part: Path) -> None:
    if name not in known:
        raise InputError(f"{part} is a {name}; fewer reads {', '.join(known)}")
    if not part.is_dir():
        raise InputError(f"{part} is missing, and model_index.json names it")


def encoders_hash(folder: Path, index: dict[str, Any]) -> str:
    """sha256 of what decides the encoded prompts: the files of the pipeline's text encoders and tokenizers."""
    parts = [part for part in sorted(index) if part.startswith(("text_encoder", "tokenizer")) and class_of(index, part)]
    return digest_of(path for part in parts for path in sorted((folder / part).iterdir()) if path.suffix in DECIDING)


def check_lengths(pipe: Any, prompts: Sequence[str], negative: str | None = None) -> None:
    """InputError for a prompt that every tokenizer of the pipeline would cut off."""
    rooms = _rooms(pipe)
    if not rooms:
        raise InputError(f"the {type(pipe).__name__} has no tokenizer with a text encoder, which prompts need")
    named = [(f"prompt {i}", prompt) for i, prompt in enumerate(prompts, 1)]
    for name, prompt in [*named, *([] if negative is None else [("negative prompt", negative)])]:
        lengths = [(len(tokenizer(prompt, verbose=False).input_ids), room) for tokenizer, room in rooms]
        if all(tokens > room for tokens, room in lengths):
            tokens, room = max(lengths, key=lambda pair: pair[1])
            raise InputError(
                f"{name}, {prompt[:40]!r}, has {tokens} tokens with those of its ends; {type(pipe).__name__} takes "
                f"{room}"
            )


def _rooms(pipe: Any) -> list[tuple[Any, int]]:
    """The pipeline's tokenizers, each with its largest number of tokens."""
    longest = inspect.signature(pipe.encode_prompt).parameters.get("max_sequence_length")
    rooms = []
    for end in ("", "_2", "_3"):
        tokenizer, encoder = (getattr(pipe, name + end, None) for name in ("tokenizer", "text_encoder"))
        if tokenizer is not None and encoder is not None:
            t5 = type(tokenizer).__name__.startswith("T5")
            rooms.append((tokenizer, longest.default if longest is not None and t5 else tokenizer.model_max_length))
    return rooms


@contextmanager
def silence() -> Iterator[None]:
    """Silence warnings and progress bars of diffusers and transformers."""
    from transformers.utils import logging

    with quiet(), quiet(logging):
        yield
