"""Text-to-image pipeline folders: with its prompts listed, such a pipeline is a class-conditional model of latents.

Label k is prompt k, and the empty label the conditioning of the pipeline's unconditional pass: the negative prompt, the
empty text, or zeros. Pipelines without such a pass (Flux) have no empty label. The pipeline's own `encode_prompt` encodes
each prompt once; its embeddings are kept as tables of network arguments with a row for each label, and the text encoders
are dropped. The safety checker is not run; images and adapters are no inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fewer.errors import InputError, first_line
from fewer.files import read_json
from fewer.models.model import Model
from fewer.models.pipelines import flux
from fewer.models.pipelines.conditioning import Tables, TextNetwork, each
from fewer.models.pipelines.defaults import dynamic_shift
from fewer.models.pipelines.folder import (
    data_range,
    decoder,
    load_autoencoder,
    own_name,
    process,
    read_if_there,
    sample_shape,
)
from fewer.models.pipelines.network_files import hash_of, hashes_of, load_module
from fewer.models.pipelines.prompts import check_negative, check_prompts
from fewer.models.pipelines.scheduler_config import class_named
from fewer.models.pipelines.text_encoders import assembled, check_lengths, class_of, encoders_hash, silence

AT_ONCE = 16  # prompts that are encoded at once

Size = tuple[int, int]
Shape = tuple[int, int, int]
Encode = Callable[[Any, list[str], Tables, Size], tuple[Tables, Tables | None]]


def _stable_diffusion(pipe: Any, prompts: list[str], negative: Tables, size: Size) -> tuple[Tables, Tables]:
    label, empty = pipe.encode_prompt(prompts, pipe.unet.device, 1, True, **negative)
    return {"encoder_hidden_states": label}, {"encoder_hidden_states": empty}


def _stable_diffusion_xl(pipe: Any, prompts: list[str], negative: Tables, size: Size) -> tuple[Tables, Tables]:
    """Its network is also conditioned on the image's size: original size, corner of the crop, requested size."""
    label, empty, pooled, pooled_empty = pipe.encode_prompt(prompts, device=pipe.unet.device, **negative)
    ids = torch.tensor([*size, 0.0, 0.0, *size], dtype=torch.float32, device=label.device).repeat(len(label), 1)
    return (
        {"encoder_hidden_states": label, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}},
        {"encoder_hidden_states": empty, "added_cond_kwargs": {"text_embeds": pooled_empty, "time_ids": ids}},
    )


def _stable_diffusion_3(pipe: Any, prompts: list[str], negative: Tables, size: Size) -> tuple[Tables, Tables]:
    label, empty, pooled, pooled_empty = pipe.encode_prompt(
        prompts, None, None, device=pipe.transformer.device, **negative
    )
    return (
        {"encoder_hidden_states": label, "pooled_projections": pooled},
        {"encoder_hidden_states": empty, "pooled_projections": pooled_empty},
    )


def _pixart(pipe: Any, prompts: list[str], negative: Tables, size: Size) -> tuple[Tables, Tables]:
    """PixArt-alpha's large network, of 128x128 latents, is also conditioned on the image's size."""
    clean = inspect.signature(type(pipe).__call__).parameters["clean_caption"].default
    label, mask, empty, empty_mask = pipe.encode_prompt(
        prompts, device=pipe.transformer.device, clean_caption=clean, **negative
    )
    added: Tables = {"resolution": None, "aspect_ratio": None}
    if type(pipe).__name__ == "PixArtAlphaPipeline" and pipe.transformer.config.sample_size == 128:
        ones = torch.ones(len(label), 1, dtype=torch.float32, device=label.device)
        sides = torch.tensor(size, dtype=ones.dtype, device=label.device)
        added = {"resolution": ones * sides, "aspect_ratio": ones * size[0] / size[1]}
    return (
        {"encoder_hidden_states": label, "encoder_attention_mask": mask, "added_cond_kwargs": added},
        {"encoder_hidden_states": empty, "encoder_attention_mask": empty_mask, "added_cond_kwargs": added},
    )


def _configured(pipe: Any, own: dict[str, Any], part: Path) -> Shape:
    """The size that the network was made for; pipelines of old folders correct it in the configuration."""
    return sample_shape((pipe.unet if part.name == "unet" else pipe.transformer).config, part)


@dataclass(frozen=True)
class Kind:
    """A pipeline class that fewer reads.

    network  class of the network, and `call` the TextNetwork that calls it
    encode   encode(pipe, prompts, negative, (height, width)): network arguments for the prompts, and as many for the empty
             label, None where there is none. `negative` is {} or {"negative_prompt": one for each prompt}
    shape    shape(pipe, content of fewer.json, the network's folder) of the latents
    patch    latents of a token's side, where the network's configuration does not say
    guides   whether the pipeline guides by a second pass; else its scale is an input of the network, if anything
    """

    network: str
    encode: Encode
    call: type[TextNetwork] = TextNetwork
    shape: Callable[[Any, dict[str, Any], Path], Shape] = _configured
    patch: int | None = None
    guides: bool = True

    @property
    def part(self) -> str:
        """The network's folder."""
        return "unet" if self.network == "UNet2DConditionModel" else "transformer"

    def tokens(self, shape: Shape, config: Any) -> int:
        """Tokens of latents of a shape, by which some pipelines shift their levels."""
        return shape[1] * shape[2] // (self.patch or config.get("patch_size") or 1) ** 2


KINDS = {
    "StableDiffusionPipeline": Kind("UNet2DConditionModel", _stable_diffusion),
    "StableDiffusionXLPipeline": Kind("UNet2DConditionModel", _stable_diffusion_xl),
    "StableDiffusion3Pipeline": Kind("SD3Transformer2DModel", _stable_diffusion_3),
    "PixArtAlphaPipeline": Kind("PixArtTransformer2DModel", _pixart),
    "PixArtSigmaPipeline": Kind("PixArtTransformer2DModel", _pixart),
    "FluxPipeline": Kind("FluxTransformer2DModel", flux.encode, flux.FluxNetwork, flux.shape, flux.PATCH, guides=False),
}


def is_text_pipeline(folder: Path) -> bool:
    """Whether the folder is of a pipeline that takes text. Raises InputError where it is, and of no class that is known."""
    index = read_if_there(folder / "model_index.json")
    name = index.get("_class_name")
    if isinstance(name, str) and name in KINDS:
        return True
    if any(part.startswith("text_encoder") and class_of(index, part) is not None for part in index):
        raise InputError(f"{folder} is a {name}; expected {', '.join(KINDS)} or another pipeline class of diffusers")
    return False


def load_text(
    folder: Path, device: torch.device, dtype: torch.dtype | None = None, prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
) -> Model:  # fmt: skip
    """The model of a text-to-image pipeline folder, conditional on these prompts, or on those that its fewer.json lists.

    Samples are latents, of the size that the pipeline makes when no size is given; `decode` is the pipeline's VAE. With
    `negative_prompt` the empty label is that text. Raises InputError where prompts are missing, or longer than every one of
    the pipeline's tokenizers takes, for a negative prompt of a pipeline that makes no second pass, for networks that take
    more than noise and a prompt, and for damaged folders.
    """
    index, own = read_json(folder / "model_index.json"), read_if_there(folder / "fewer.json")
    name, kind = index["_class_name"], KINDS[index["_class_name"]]
    if prompts is None and "prompts" not in own:
        raise InputError(
            f"{folder} is a text-to-image pipeline: give --prompts FILE, one prompt a line (in Python prompts=[..])"
        )
    where = f"{folder / 'fewer.json'}: prompts" if prompts is None else "prompts"
    listed = check_prompts(own["prompts"] if prompts is None else prompts, where)
    if check_negative(negative_prompt) is not None and not kind.guides:
        raise InputError(f"a negative prompt was given for a {name}, which makes no second pass that would take it")
    if not (folder / kind.part / "config.json").exists():
        raise InputError(f"{folder} is a {name} without {kind.part}/config.json")
    dtype = dtype or torch.float32
    module = load_module(class_named(kind.network), folder / kind.part, device, dtype)
    _check_network(module, folder / kind.part)
    vae = load_autoencoder(folder / "vae", device) if (folder / "vae").is_dir() else None
    pipe = assembled(folder, index, module, device, dtype)
    shape = kind.shape(pipe, own, folder / kind.part)
    tables = _encoded(pipe, kind, listed, negative_prompt, _pixels(shape, vae))
    facts = process(name, pipe.scheduler, dynamic_shift(name, pipe.scheduler.config, kind.tokens(shape, module.config)))
    scale = None
    if not kind.guides:
        tables, scale = flux.guided(tables, module.config, facts["pipeline"].guidance)
        facts["pipeline"] = replace(facts["pipeline"], guidance=scale)
    return Model(
        network=kind.call(module, tables),
        shape=shape,
        classes=len(listed),
        empty_label=len(listed) if kind.guides else None,
        data_range=data_range(own),
        decode=None if vae is None else decoder(vae),
        name=own_name(folder, own),
        hash=hash_of(folder),
        known_as=partial(hashes_of, module),
        device=device,
        dtype=dtype,
        prompts=listed,
        negative_prompt=negative_prompt,
        encoders_hash=encoders_hash(folder, index),
        embedded_guidance=scale,
        **facts,
    )


def _pixels(shape: Shape, vae: Any) -> Size:
    """Height and width of the images; without a VAE as of those that these pipelines have, which halve three times."""
    factor = 8 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
    return shape[1] * factor, shape[2] * factor


def _check_network(module: Any, part: Path) -> None:
    config = module.config
    made, taken = config.get("out_channels") or config["in_channels"], config["in_channels"]
    if made not in (taken, 2 * taken):
        raise InputError(f"{part} makes {made} channels of {taken} (an inpainting network?); expected as many")
    if config.get("time_cond_proj_dim") is not None:
        raise InputError(
            f"{part} is guided by an input of its own (time_cond_proj_dim), which fewer does not read so far"
        )


def _encoded(pipe: Any, kind: Kind, prompts: tuple[str, ...], negative: str | None, size: Size) -> Tables:
    """The tables of the network's arguments: a row for each prompt, and where the pipeline guides a last one for none."""
    rows: list[Tables] = []
    try:
        with silence(), torch.no_grad():
            check_lengths(pipe, prompts, negative)
            for start in range(0, len(prompts), AT_ONCE):
                some = list(prompts[start : start + AT_ONCE])
                arguments = {} if negative is None else {"negative_prompt": [negative] * len(some)}
                labels, empty = kind.encode(pipe, some, arguments, size)
                rows.append(labels)
            if kind.guides:
                rows.append(each(lambda table: table[:1], empty))
    except InputError:
        raise
    except Exception as error:  # text encoders and tokenizers raise many types where their parts do not fit together
        raise InputError(f"{type(pipe).__name__} cannot encode the prompts: {first_line(error)}") from error
    tables: Tables = each(lambda *parts: torch.cat(parts), *rows)
    return tables
