"""Selective diffusion distillation: an editing network trained at the levels at which a model's gradient says what to edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fewer.arguments import as_count, as_model, as_number, as_tensor
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.noise import Draw, unit_noise
from fewer.registry import part
from fewer.settings import share
from fewer.tasks.editing.distillation import distil, gradient

CANDIDATES = tuple(0.1 * k for k in range(1, 10))


@dataclass(frozen=True)
class DistilledEditor:
    """A network that edits.

    network    images (n, *shape) -> edited ones, without a call of the model
    levels     at which it was trained
    entropies  of the gradient at each candidate level, in nats
    nfe        network evaluations of the model for all of it
    """

    network: nn.Module
    levels: tuple[float, ...]
    entropies: dict[float, float]
    nfe: int

    def __call__(self, images: Tensor) -> Tensor:
        """Edited images (n, *shape)."""
        with torch.no_grad():
            edited: Tensor = self.network(images)
        return edited


def entropies(
    model: Model, images: Tensor, labels: Tensor | None, levels: Sequence[float], guidance: float = 1.0, seed: int = 0
) -> dict[float, float]:
    """Level -> mean over images (n, *shape) of the entropy of softmax(gradient), the mean over channels at each place, in nats.

    A gradient that points at few places, and so has a low entropy, says what of an image belongs to the label; one call a level
    and image, or two under guidance.
    """
    found = {}
    for k, tau in enumerate(levels):
        noise = unit_noise(seed, range(len(images)), model.shape, Draw.STATE(k), model.device)
        with torch.inference_mode():
            step = gradient(model, images, labels, tau, noise, guidance)
        at = (step.mean(1) if step.ndim > 2 else step).flatten(1).double().softmax(-1)
        found[float(tau)] = float(-(at * at.clamp_min(1e-300).log()).sum(-1).mean())
    return found


class Residual(nn.Module):
    """x + f(x), f of three convolutions with a zero start: the editor that is trained where none is given."""

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        sizes = [channels, width, width, channels]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 5, padding=2) for a, b in pairwise(sizes))
        for weights in self.layers[-1].parameters():
            nn.init.zeros_(weights)

    def forward(self, x: Tensor) -> Tensor:
        """Edited images (n, C, H, W)."""
        y = x
        for layer in self.layers[:-1]:
            y = torch.nn.functional.silu(layer(y))
        return x + self.layers[-1](y)


@part(
    "selective-distillation",
    title="Selective diffusion distillation: an editor in one pass, trained at the levels whose gradients have a low entropy",
    source="Wang et al. 2023, Not All Steps are Created Equal: Selective Diffusion Distillation for Image Manipulation, "
    "arXiv:2307.08448",
    papers=(153,),
    role="procedure",
)
def distil_editor(
    model: Model,
    images: Any,
    label: int | None = None,
    *,
    network: nn.Module | None = None,
    keep: float = 0.1,
    chosen: float = 0.34,
    levels: Sequence[float] = CANDIDATES,
    steps: int = 400,
    batch: int = 16,
    guidance: float = 1.0,
    rate: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> DistilledEditor:
    """Train a network on images (N, *shape), so that one pass of it makes them what the label asks for, by score distillation of

        w(tau) (eps(x, tau) - eps) + keep d|f(y) - y|^2 / 2        at the levels tau that the indicator chooses.

    The indicator is the entropy of the gradient (see `entropies`), of which the lowest share is chosen.

    label     what images shall become; by default the empty label where the model has one
    network   any nn.Module from images to images, trained in place; by default three convolutions beside the image
    keep      weight of what stays, at least 0
    chosen    share of the candidate levels, in (0, 1]
    levels    candidates, in (0, 1)
    steps     each of `batch` images, drawn anew
    guidance, rate  as for `distil`

    Raises InputError for images that do not fit the model or are not finite, and what `distil` refuses.
    """
    model, batch = as_model(model), as_count(batch, "batch")
    given = as_tensor(images, "images").to(model.device, torch.float32)
    if tuple(given.shape[1:]) != tuple(model.shape) or not len(given) or not bool(given.isfinite().all()):
        raise InputError(
            f"images have shape {tuple(given.shape)} or are not finite; {model.name} needs (N, *{model.shape})"
        )
    share("chosen", chosen)
    if not as_number(keep, "keep") >= 0 or chosen == 0:
        raise InputError(f"keep is {keep} and chosen {chosen}; expected keep >= 0 and chosen > 0")
    candidates = sorted({as_number(level, "a level") for level in levels})
    if not candidates or not 0 < candidates[0] <= candidates[-1] < 1:
        raise InputError(f"levels are {levels!r:.60}; expected numbers in (0, 1)")
    if network is None:
        if len(model.shape) != 3:
            raise InputError(f"{model.name} makes samples of shape {model.shape}, no pictures: give network=")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Residual(model.shape[0]).to(model.device)
    editor = network
    some = given[:batch]
    found = entropies(model, some, _labels(model, len(some), label), candidates, guidance, seed)
    best = sorted(candidates, key=lambda tau: found[tau])[: max(1, round(chosen * len(candidates)))]
    draw = torch.Generator().manual_seed(seed)
    at: dict[str, Tensor] = {}

    def render() -> Tensor:
        at["images"] = given[torch.randint(len(given), (batch,), generator=draw)]
        at["edited"] = editor(at["images"])
        return at["edited"]

    def stays() -> Tensor:
        return keep / 2 * (at["edited"] - at["images"]).square().sum()

    done = distil(
        model, [p for p in editor.parameters() if p.requires_grad], render, label, steps=steps, levels=best,
        guidance=guidance, rate=rate, loss=stays, seed=seed, progress=progress,
    )  # fmt: skip
    calls = 1 if guidance == 1 else 2
    return DistilledEditor(editor, tuple(sorted(best)), found, done.nfe * batch + calls * len(candidates) * len(some))


def _labels(model: Model, n: int, label: int | None) -> Tensor | None:
    return model.labels(n, model.empty_label if label is None and model.classes is not None else label)
