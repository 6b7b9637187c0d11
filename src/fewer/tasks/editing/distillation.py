"""Score distillation: parameters of any differentiable picture, moved to where a model finds their renders likely."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_number
from fewer.errors import InputError, NotFinite
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import Draw, unit_noise
from fewer.registry import part
from fewer.tasks.editing.task import check_model

Window = tuple[float, float]
TOP = 0.999  # above this level a state tells nothing of the render


@dataclass(frozen=True)
class Distillation:
    """What a distillation has done.

    levels     tau of each step
    gradients  root mean square of each step's gradient by the renders
    nfe        network evaluations a render
    """

    levels: tuple[float, ...]
    gradients: tuple[float, ...]
    nfe: int


def gradient(
    model: Model, renders: Tensor, labels: Tensor | None, tau: float, noise: Tensor, guidance: float = 1.0
) -> Tensor:
    """w (eps(x) - eps) (n, *shape) at x = (1 - tau) g + tau eps of renders g, w = sigma^2 of the variance-preserving process.

    With D the data prediction at x and s = tau / (1 - tau) it is s / (1 + s^2) (g - D). One call, or two under guidance (a scale
    other than 1).
    """
    s = tau / (1 - tau)
    x = (1 - tau) * renders + tau * noise
    u = model.velocity(x, tau, labels)
    if guidance != 1:
        if labels is None or model.empty_label is None:
            raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
        without = model.velocity(x, tau, torch.full_like(labels, model.empty_label))
        u = without + guidance * (u - without)
    return s / (1 + s**2) * (renders - (x - tau * u))


@part(
    "score-distillation",
    title="Score distillation of any differentiable picture, by levels drawn from a window that may shrink",
    source="Poole et al. 2023, DreamFusion: Text-to-3D using 2D Diffusion, arXiv:2209.14988",
    role="procedure",
)
@in_own_precision
def distil(
    model: Model,
    parameters: Iterable[Tensor],
    render: Callable[[], Tensor],
    labels: Any = None,
    *,
    steps: int = 300,
    window: Window = (0.02, 0.98),
    until: Window | None = None,
    levels: Sequence[float] | None = None,
    guidance: float = 1.0,
    rate: float = 0.02,
    loss: Callable[[], Tensor] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Distillation:
    """Move parameters, in place, so that what they render becomes likely under a model: Adam on

        E[w(tau) (eps(x, tau) - eps) dg/dtheta] + d loss / dtheta,      x = (1 - tau) g(theta) + tau eps.

    parameters  leaves that ask for gradients, as an optimiser takes them
    render      render() is (n, *shape) in the model's data range, differentiable by them; several views of one scene are one
                sample of a model of all views
    labels      integers (n,), or one for all; by default the empty label where the model has one
    steps       each a call of the network, or two under guidance
    window      levels (low, high) in (0, 1) that a step's is drawn from, evenly
    until       the window of the last step, to which it moves evenly; high levels find the layout, low ones the details
    levels      instead of a window: the levels that are drawn from
    guidance    classifier-free scale
    rate        Adam's
    loss        a further loss in data units, such as of a measurement

    Raises InputError for windows and levels outside of (0, 1), renders of another shape or without derivative, a loss that is no
    number, and NotFinite where parameters are not finite: they are then what they were.
    """
    model, steps, seed = as_model(model), as_count(steps, "steps"), as_count(seed, "seed", 0)
    check_model(model)
    leaves = list(parameters)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.is_leaf and leaf.requires_grad for leaf in leaves):
        raise InputError("parameters hold no leaves that ask for gradients: give tensors with requires_grad_()")
    guidance, rate = as_number(guidance, "guidance"), as_number(rate, "rate")
    if not rate > 0:
        raise InputError(f"rate is {rate:g}; expected a positive number")
    drawn = _levels(steps, window, until, levels, seed)
    before = [leaf.detach().clone() for leaf in leaves]
    optimiser = torch.optim.Adam(leaves, lr=rate, betas=(0.9, 0.99))
    sizes: list[float] = []
    for k, tau in enumerate(drawn):
        renders = _rendered(render, model)
        given = model.labels(len(renders), _usual(model) if labels is None else labels)
        noise = unit_noise(seed, range(len(renders)), model.shape, Draw.MOVE(k), model.device)
        with torch.no_grad():
            step = gradient(model, renders.detach(), given, tau, noise, guidance)
        sizes.append(float(step.square().mean().sqrt()))
        optimiser.zero_grad()
        total = (step * renders).sum()
        if loss is not None:
            further = loss()
            if isinstance(further, Tensor) and further.numel() != 1:
                raise InputError(f"loss() gives shape {tuple(further.shape)}; expected one number")
            total = total + further
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if not all(bool(leaf.isfinite().all()) for leaf in leaves):
            with torch.no_grad():
                for leaf, own in zip(leaves, before, strict=True):
                    leaf.copy_(own)
            raise NotFinite(
                f"parameters are not finite after step {k + 1}; they are what they were: take a smaller rate"
            )
        if progress is not None:
            progress(k + 1, steps)
    optimiser.zero_grad()
    return Distillation(tuple(drawn), tuple(sizes), steps * (1 if guidance == 1 else 2))


def _usual(model: Model) -> int | None:
    if model.classes is not None and model.empty_label is None:
        raise InputError(f"{model.name} has classes and no empty label: give labels, 0 .. {model.classes - 1}")
    return model.empty_label


def _rendered(render: Callable[[], Tensor], model: Model) -> Tensor:
    renders = render()
    if not isinstance(renders, Tensor) or tuple(renders.shape[1:]) != tuple(model.shape) or not len(renders):
        shape = tuple(getattr(renders, "shape", ()))
        raise InputError(f"render() gives shape {shape}; {model.name} needs (n, {', '.join(map(str, model.shape))})")
    if not renders.requires_grad:
        raise InputError("render() gives no tensor that depends on the parameters")
    return renders.to(model.device, torch.float32)


def _levels(steps: int, window: Window, until: Window | None, levels: Sequence[float] | None, seed: int) -> list[float]:
    """The level of each step."""
    draw = random.Random(seed)
    if levels is not None:
        if until is not None:
            raise InputError("levels and until: a window moves, and levels that are given do not")
        known = [as_number(level, "a level") for level in levels]
        if not known or not all(0 < level < 1 for level in known):
            raise InputError(f"levels are {known!r:.80}; expected numbers in (0, 1)")
        return [min(draw.choice(known), TOP) for _ in range(steps)]
    first, last = (_window(each) for each in (window, window if until is None else until))
    shares = [k / max(steps - 1, 1) for k in range(steps)]
    ends = [tuple((1 - c) * a + c * b for a, b in zip(first, last, strict=True)) for c in shares]
    return [min(draw.uniform(low, high), TOP) for low, high in ends]


def _window(given: Window) -> Window:
    try:
        low, high = (as_number(end, "an end of a window") for end in given)
    except (TypeError, ValueError) as error:
        raise InputError(f"window is {given!r:.60}; expected two levels (low, high)") from error
    if not 0 < low <= high < 1:
        raise InputError(f"window is ({low:g}, {high:g}); expected 0 < low <= high < 1")
    return low, high
