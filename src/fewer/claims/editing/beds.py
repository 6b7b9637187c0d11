"""Pictures of two factors, a style and a layout, with a denoiser that is exact under any label of either.

A picture is a style (a smooth field) plus a layout (a pattern of 2 x 2 blocks) plus noise. Styles come with a layout of their own
more often than with others, so that an edit towards a style may bring that layout in: what a style's content leaking is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fewer import GaussianMixture, Model
from fewer.models.schedules import Flow

SIDE, STYLES, LAYOUTS, VARIANCE, OWN = 8, 4, 6, 0.04, 0.5
EMPTY = STYLES + LAYOUTS


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures with what they are: style and layout (n,)."""

    images: Tensor
    style: Tensor
    layout: Tensor


def _fields() -> tuple[Tensor, Tensor]:
    """Styles (S, 64) and layouts (L, 64)."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE, dtype=torch.float64)] * 2, indexing="ij")
    styles = torch.stack(
        [0.5 * torch.sin(a * x + b * y + c) for a, b, c in ((1, 0, 1), (0, 1, -1), (1, 1, 2), (-1, 1, 0))]
    )
    blocks = torch.randint(0, 2, (LAYOUTS, 1, SIDE // 2, SIDE // 2), generator=generator).double() - 0.5
    layouts = torch.nn.functional.interpolate(blocks, scale_factor=2)[:, 0]
    layouts = layouts - layouts.mean((1, 2), keepdim=True)
    return styles.flatten(1), layouts.flatten(1)


def _weights(label: int) -> Tensor:
    """Of each style with each layout (S, L), under a label: a style 0 .. S - 1, a layout S .. S + L - 1, or the empty one."""
    weights = torch.full((STYLES, LAYOUTS), (1 - OWN) / (LAYOUTS - 1), dtype=torch.float64)
    weights[torch.arange(STYLES), torch.arange(STYLES)] = OWN
    allowed = torch.zeros_like(weights)
    if label < STYLES:
        allowed[label] = 1
    elif label < EMPTY:
        allowed[:, label - STYLES] = 1
    else:
        allowed[:] = 1
    return weights * allowed


@cache
def mixture(label: int = EMPTY) -> GaussianMixture:
    """The law of pictures under a label."""
    styles, layouts = _fields()
    means = (styles[:, None] + layouts).flatten(0, 1)
    weights = _weights(label).flatten()
    some = weights > 0
    k = int(some.sum())
    return GaussianMixture(
        weights[some], means[some], torch.zeros(k, SIDE**2, 0, dtype=torch.float64), torch.zeros(k, 0, dtype=torch.float64),
        torch.full((k,), VARIANCE, dtype=torch.float64), (1, SIDE, SIDE),
    )  # fmt: skip


@cache
def model() -> Model:
    """Exact under each label, straight paths."""
    schedule = Flow()

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        tau = schedule.tau(t[0].double())
        given = torch.full((len(x),), EMPTY) if labels is None else labels
        out = torch.empty_like(x)
        for label in given.unique().tolist():
            rows = given == label
            out[rows] = mixture(int(label)).denoise(x[rows] / schedule.scale(tau).to(x.dtype), tau, None)
        return out

    return Model.from_denoiser(
        network,
        schedule,
        (1, SIDE, SIDE),
        "data",
        EMPTY,
        empty_label=EMPTY,
        name="styles and layouts",
        hash="two factors",
    )


def drawn(n: int, seed: int) -> Pictures:
    """N pictures of styles and layouts drawn evenly, so that a layout says nothing of what a style likes."""
    generator = torch.Generator().manual_seed(seed)
    style = torch.randint(0, STYLES, (n,), generator=generator)
    layout = torch.randint(0, LAYOUTS, (n,), generator=generator)
    styles, layouts = _fields()
    noise = VARIANCE**0.5 * torch.randn(n, SIDE**2, generator=generator, dtype=torch.float64)
    images = (styles[style] + layouts[layout] + noise).float().view(n, 1, SIDE, SIDE)
    return Pictures(images, style, layout)


def seen(images: Tensor) -> tuple[Tensor, Tensor]:
    """The style and the layout (n,) that pictures are nearest to."""
    styles, layouts = _fields()
    flat = images.double().flatten(1)
    means = (styles[:, None] + layouts).flatten(0, 1)
    nearest = torch.cdist(flat, means).argmin(1)
    return nearest // LAYOUTS, nearest % LAYOUTS


def other_styles(style: Tensor) -> Tensor:
    """A style (n,) for each picture that is not its own."""
    return (style + 1 + torch.arange(len(style)) % (STYLES - 1)) % STYLES


OBJECT, KINDS, SHADES = 3, 4, 3  # side of an object, kinds of it, shades of the ground
GROUNDS, SCENE_VARIANCE = (-0.8, -0.2), 0.02


@dataclass(frozen=True, eq=False)
class Seen:
    """What scenes show: kind, shade, and place (row, column) of the object's corner, each (n,)."""

    kind: Tensor
    shade: Tensor
    row: Tensor
    column: Tensor


def _scene_means() -> Tensor:
    """Of every kind on every shade at every place (K, H, W)."""
    generator = torch.Generator().manual_seed(3)
    signs = torch.randint(0, 2, (KINDS, OBJECT, OBJECT), generator=generator).double()
    patterns = 0.5 + 0.5 * (2 * signs - 1) * torch.linspace(0.5, 1, KINDS, dtype=torch.float64)[:, None, None]
    places = SIDE - OBJECT + 1
    means = torch.empty(KINDS, SHADES, places, places, SIDE, SIDE, dtype=torch.float64)
    means[:] = torch.linspace(*GROUNDS, SHADES, dtype=torch.float64)[:, None, None, None, None]
    for row in range(places):
        for column in range(places):
            means[:, :, row, column, row : row + OBJECT, column : column + OBJECT] = patterns[:, None]
    return means


@cache
def scenes() -> Model:
    """Exact, straight paths: label 0 is an object of one of four kinds at any place on a ground of one of three shades, 1 the
    ground alone, which is half of all pictures.
    """
    objects = _scene_means().flatten(0, 3)
    grounds = torch.linspace(*GROUNDS, SHADES, dtype=torch.float64)[:, None, None].expand(-1, SIDE, SIDE)
    means = torch.cat([objects, grounds]).flatten(1)
    k = len(means)
    labels = torch.cat([torch.zeros(len(objects)), torch.ones(SHADES)]).long()
    weights = torch.where(labels == 0, 1 / len(objects), 1 / SHADES).double()
    mixture = GaussianMixture(
        weights, means, torch.zeros(k, SIDE**2, 0, dtype=torch.float64), torch.zeros(k, 0, dtype=torch.float64),
        torch.full((k,), SCENE_VARIANCE, dtype=torch.float64), (1, SIDE, SIDE), labels,
    )  # fmt: skip
    return Model.from_mixture(mixture, Flow(), conditional=True, name="objects on a ground")


def shown(images: Tensor) -> Seen:
    """What scenes (n, 1, H, W) are nearest to."""
    means = _scene_means()
    nearest = torch.cdist(images.double().flatten(1), means.flatten(0, 3).flatten(1)).argmin(1)
    places = SIDE - OBJECT + 1
    column, rest = nearest % places, nearest // places
    return Seen(rest // places // SHADES, rest // places % SHADES, rest % places, column)


def means_of(pictures: Pictures) -> Tensor:
    """What pictures show without their noise, (n, 1, H, W)."""
    styles, layouts = _fields()
    return (styles[pictures.style] + layouts[pictures.layout]).float().view_as(pictures.images)


def placed(kind: Tensor, shade: Tensor, row: int, column: int, generator: torch.Generator) -> Tensor:
    """Scenes (n, 1, H, W) with an object at a place."""
    means = _scene_means()[kind, shade, row, column]
    return (means + SCENE_VARIANCE**0.5 * torch.randn(means.shape, generator=generator)).float()[:, None]
