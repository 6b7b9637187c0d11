"""`fewer.large`: a model of larger samples, from one of smaller samples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from fewer.arguments import as_count, as_model
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.models.denoiser import LONGEST_NAME
from fewer.models.model import Model
from fewer.models.pipelines.cut.network import PipelineNetwork
from fewer.registry import part
from fewer.tasks.large.rolled import LargeNetwork, Layout

LARGEST_SEED = 2**63 - 1
PACKS = "_pack_latents"  # a method of diffusers' pipelines whose loops have tokens (Flux, LTX and others)
BLENDS = ("tent", "mean")


@part(
    "rolled",
    title="Rolled sampling: the network's windows over a larger state, at a random offset in every row; tileable",
    source="Vecchio et al. 2023, ControlMat: A Controlled Generative Approach to Material Capture, arXiv:2309.01700; without "
    "rolling Bar-Tal et al. 2023, MultiDiffusion, arXiv:2302.08113",
    papers=(110,),
    role="procedure",
)
def large(
    model: Model, size: Sequence[int], *, overlap: int = 0, blend: str = "tent", roll: bool = True,
    tileable: bool | Sequence[bool] = True, seed: int = 0, batch: int = MICRO_BATCH,
) -> Model:  # fmt: skip
    """A model of samples of `size` from one of smaller samples, for `fewer.sample`, `solve`, `tune` and all else that takes one.

    A call of its network is one of the model on each of its `network.windows` windows: `nfe` evaluations a sample are nfe times
    as many of the model. What a window shows is all that the network sees, so that samples are of one texture, and larger things
    than a window come by chance alone; begin from a small sample enlarged (`fewer.sample(.., init=x, strength=0.6)`) for those.

    size      of a sample after its channels, in the model's own places (latents where it works on those): (H, W), or one number
              for each axis of other shapes, at least the model's own
    overlap   places that neighbouring windows share at least, for more calls. With 0 they meet edge to edge, where the size allows
    blend     of outputs where windows share places: "tent", a mean weighted by how far a place is from a window's ends, or "mean",
              which with overlaps and without rolling is MultiDiffusion (Bar-Tal et al. 2023, eq. 5)
    roll      whether windows lie elsewhere at each time, so that no seam stays in one place (Vecchio et al. 2023, rolled diffusion)
    tileable  whether opposite edges fit to each other: windows lie across them; one for all axes, or one each, as
              (False, True) of a panorama
    seed      of the offsets, which are a function of it and of the network's time alone
    batch     windows in a network call at most; halved where memory is too small

    Guidance, labels, prompts, a weaker network and others go with it; a classifier, which sees whole samples, does not. Latents
    are decoded by windows, too, blended into each other.

    Raises InputError for sizes below the model's, an overlap of a whole window, values that are none of these, and models that
    begin with data of their own size.
    """
    model, tile = as_model(model), as_model(model).shape[1:]
    sizes, overlap = _sizes(model, size), as_count(overlap, "overlap", 0)
    if overlap >= min(tile):
        raise InputError(f"overlap is {overlap}; expected less than the {min(tile)} places of a window of {model.name}")
    wraps = (tileable,) * len(tile) if isinstance(tileable, bool) else tuple(tileable)
    if len(wraps) != len(tile) or not all(isinstance(each, bool) for each in wraps):
        raise InputError(
            f"tileable is {tileable!r:.80}; expected True or False, or one of them for each of {len(tile)} axes"
        )
    if model.beginning is not None:
        raise InputError(f"{model.name} begins with noised data of its own size, and no larger samples")
    if not isinstance(roll, bool):
        raise InputError(f"roll is {roll!r:.80}; expected True or False")
    if blend not in BLENDS:
        raise InputError(f"blend is {blend!r:.80}; expected {' or '.join(BLENDS)}")
    seed, batch = as_count(seed, "seed", 0), as_count(batch, "batch")
    if seed > LARGEST_SEED:
        raise InputError(f"seed is {seed}; expected at most {LARGEST_SEED}")
    return _of(model, Layout(sizes, tuple(tile), overlap, blend, roll, wraps, seed), batch)


def _sizes(model: Model, size: Sequence[int]) -> tuple[int, ...]:
    own = "x".join(map(str, model.shape[1:]))
    if isinstance(model.network, PipelineNetwork) and hasattr(model.network.cut.pipe, PACKS):
        raise InputError(
            f"{model.name} is a loop whose states are tokens, and not places of an image: its windows are not known"
        )
    if len(model.shape) < 2:
        raise InputError(f"{model.name} makes samples of shape {model.shape}; larger ones need axes after the channels")
    if isinstance(size, str) or not isinstance(size, Sequence) or len(size) != len(model.shape) - 1:
        raise InputError(
            f"size is {size!r:.80}; expected {len(model.shape) - 1} whole numbers, of {model.name} at least {own}"
        )
    sizes = tuple(as_count(each, "a number of size") for each in size)
    if any(a < b for a, b in zip(sizes, model.shape[1:], strict=True)):
        raise InputError(
            f"size is {'x'.join(map(str, sizes))}; {model.name} makes samples of {own}, and no smaller ones"
        )
    return sizes


def _of(model: Model, layout: Layout, batch: int) -> Model:
    network = LargeNetwork(model, layout, batch)
    own = f"{layout} {model.hash}".encode()
    return replace(
        model,
        network=network,
        shape=(model.shape[0], *layout.size),
        name=f"{model.name} {'x'.join(map(str, layout.size))}"[:LONGEST_NAME],
        hash=hashlib.sha256(own).hexdigest() if model.hash else "",
        known_as=lambda: (model.hash, *model.known_as()),
        decode=None if model.decode is None else network.decode,
        exact=None,
        classifier=None,
        experts=None,
        loaded=None,
        distilled=model.distilled and replace(model.distilled, teacher=None),
        weaker=model.weaker and _of(model.weaker, layout, batch),
        others=tuple(_of(other, layout, batch) for other in model.others),
    )
