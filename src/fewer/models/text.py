"""Text-to-image pipeline folders: with its prompts listed, such a pipeline is a class-conditional model of latents.

Label k is prompt k, and the empty label is what the pipeline tells its network in place of a prompt when it guides: the
negative prompt, the empty one, or zeros. Pipelines that make no second pass (Flux) have none. Every prompt is encoded
once, by the pipeline's own `encode_prompt`; the text encoders are dropped then, and what they gave is kept as tables, a
row a label, of the arguments that the network takes.

What a pipeline does besides is not done here: its safety checker is not run, images and adapters are no inputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from fewer.errors import InputError, first_line
from fewer.models import flux
from fewer.models.diffusers import (
    data_range,
    decoder,
    hash_of,
    load_autoencoder,
    load_module,
    process,
    read_json,
    sample_shape,
)
from fewer.models.encoders import assembled, check_lengths, class_of, encoders_hash, silence
from fewer.models.from_pipeline import told_levels
from fewer.models.model import Model
from fewer.models.prompts import check_negative, check_prompts
from fewer.models.told import TextNetwork, Told, each

AT_ONCE = 16  # prompts that are encoded at once

Size = tuple[int, int]
Shape = tuple[int, int, int]
Tell = Callable[[Any, list[str], Told, Size], tuple[Told, Told | None]]


def _stable_diffusion(pipe: Any, prompts: list[str], negative: Told, size: Size) -> tuple[Told, Told]:
    label, empty = pipe.encode_prompt(prompts, pipe.unet.device, 1, True, **negative)
    return {"encoder_hidden_states": label}, {"encoder_hidden_states": empty}


def _stable_diffusion_xl(pipe: Any, prompts: list[str], negative: Told, size: Size) -> tuple[Told, Told]:
    """Its network is told the image's size too: original size, corner of the crop, wanted size."""
    label, empty, pooled, pooled_empty = pipe.encode_prompt(prompts, device=pipe.unet.device, **negative)
    ids = torch.tensor([*size, 0.0, 0.0, *size], device=label.device).repeat(len(label), 1)
    return (
        {"encoder_hidden_states": label, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}},
        {"encoder_hidden_states": empty, "added_cond_kwargs": {"text_embeds": pooled_empty, "time_ids": ids}},
    )


def _stable_diffusion_3(pipe: Any, prompts: list[str], negative: Told, size: Size) -> tuple[Told, Told]:
    label, empty, pooled, pooled_empty = pipe.encode_prompt(
        prompts, None, None, device=pipe.transformer.device, **negative
    )
    return (
        {"encoder_hidden_states": label, "pooled_projections": pooled},
        {"encoder_hidden_states": empty, "pooled_projections": pooled_empty},
    )


def _pixart(pipe: Any, prompts: list[str], negative: Told, size: Size) -> tuple[Told, Told]:
    """Of the first version the large network, of 128x128 latents, is told the image's size too."""
    clean = inspect.signature(type(pipe).__call__).parameters["clean_caption"].default
    found = pipe.encode_prompt(prompts, device=pipe.transformer.device, clean_caption=clean, **negative)
    label, mask, empty, empty_mask = found
    added: Told = {"resolution": None, "aspect_ratio": None}
    if type(pipe).__name__ == "PixArtAlphaPipeline" and pipe.transformer.config.sample_size == 128:
        ones = torch.ones(len(label), 1, device=label.device)
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
    """A pipeline class that is read.

    network  its network's class, called as `call` does
    tell     tell(pipe, prompts, negative, (height, width)): the network's arguments for prompts and, as many times, for
             none, or None. `negative` is {} or {"negative_prompt": one a prompt}
    shape    shape(pipe, content of fewer.json, the network's folder) of its latents
    patch    latents of a token's side, where the network's configuration does not say
    guides   whether the pipeline guides by a second pass, of none; else its scale is an input of the network, if anything
    """

    network: str
    tell: Tell
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
    "FluxPipeline": Kind("FluxTransformer2DModel", flux.tell, flux.FluxNetwork, flux.shape, flux.PATCH, guides=False),
}


def is_text_pipeline(folder: Path) -> bool:
    """Whether the folder is of a pipeline that takes text. Raises InputError where it is, and of a class that is not read."""
    path = folder / "model_index.json"
    index = read_json(path) if path.exists() else {}
    name = index.get("_class_name")
    if isinstance(name, str) and name in KINDS:
        return True
    if any(part.startswith("text_encoder") and class_of(index, part) is not None for part in index):
        raise InputError(f"{folder} is a {name}; of pipelines that take text, fewer reads {', '.join(KINDS)}")
    return False


def load_text(
    folder: Path, device: torch.device, dtype: torch.dtype | None = None, prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
) -> Model:  # fmt: skip
    """The model of a text-to-image pipeline folder, conditional on these prompts, or on those that its fewer.json lists.

    Samples are latents, of the size that the pipeline makes when it is not told one; `decode` is the pipeline's VAE. With
    `negative_prompt` the empty label is that text. Raises InputError where prompts are missing, or longer than every one of
    the pipeline's tokenizers takes, for a negative prompt of a pipeline that makes no second pass, for networks that take
    more than noise and a prompt, and for damaged folders.
    """
    index = read_json(folder / "model_index.json")
    own = read_json(folder / "fewer.json") if (folder / "fewer.json").exists() else {}
    name, kind = index["_class_name"], KINDS[index["_class_name"]]
    if prompts is None and "prompts" not in own:
        raise InputError(
            f"{folder} is a text-to-image pipeline: give --prompts FILE, one prompt a line (in Python prompts=[..])"
        )
    where = f"{folder / 'fewer.json'}: prompts" if prompts is None else "prompts"
    listed = check_prompts(own["prompts"] if prompts is None else prompts, where)
    if check_negative(negative_prompt) is not None and not kind.guides:
        raise InputError(f"a negative prompt was given for a {name}, which makes no second pass to be told it")
    if not (folder / kind.part / "config.json").exists():
        raise InputError(f"{folder} is a {name} without {kind.part}/config.json")
    dtype = dtype or torch.float32
    module = load_module(getattr(diffusers, kind.network), folder / kind.part, device, dtype)
    _check_network(module, folder / kind.part)
    vae = load_autoencoder(folder / "vae", device) if (folder / "vae").is_dir() else None
    pipe = assembled(folder, index, module, device, dtype)
    shape = kind.shape(pipe, own, folder / kind.part)
    told = _encoded(pipe, kind, listed, negative_prompt, _pixels(shape, vae))
    facts = process(name, pipe.scheduler, told_levels(name, pipe.scheduler.config, kind.tokens(shape, module.config)))
    scale = None
    if not kind.guides:
        told, scale = flux.guided(told, module.config, facts["pipeline"]["guidance"])
        facts["pipeline"]["guidance"] = scale
    return Model(
        network=kind.call(module, told),
        shape=shape,
        classes=len(listed),
        empty_label=len(listed) if kind.guides else None,
        data_range=data_range(own),
        decode=None if vae is None else decoder(vae),
        name=str(own.get("name") or folder.resolve().name),
        hash=hash_of(folder),
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


def _encoded(pipe: Any, kind: Kind, prompts: tuple[str, ...], negative: str | None, size: Size) -> Told:
    """The tables of the network's arguments: a row for each prompt, and where the pipeline guides a last one for none."""
    rows: list[Told] = []
    try:
        with silence(), torch.no_grad():
            check_lengths(pipe, prompts, negative)
            for start in range(0, len(prompts), AT_ONCE):
                some = list(prompts[start : start + AT_ONCE])
                told = {} if negative is None else {"negative_prompt": [negative] * len(some)}
                labels, empty = kind.tell(pipe, some, told, size)
                rows.append(labels)
            if kind.guides:
                rows.append(each(lambda table: table[:1], empty))
    except InputError:
        raise
    except Exception as error:  # text encoders and tokenizers raise many types where their parts do not fit together
        raise InputError(f"{type(pipe).__name__} cannot encode the prompts: {first_line(error)}") from error
    return each(lambda *tables: torch.cat(tables), *rows)
