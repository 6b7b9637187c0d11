"""SceneDiffusion: layers that may be moved, from denoising several layouts of one scene together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_number, as_plan, as_tensor
from fewer.engine import Draws, Step, bind, output, play
from fewer.errors import InputError, NotFinite
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import Draw, unit_noise
from fewer.plan import Plan
from fewer.registry import part
from fewer.samplers import standard
from fewer.tasks.editing.task import check_model, check_plan, falling

Offset = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """An object, or the background, of a scene.

    mask   (H, W) of 0 and 1, where it lies before it is moved; a background lies everywhere
    label  what it is; None for the scene's label
    down, right  least and largest move in pixels; (0, 0) stays
    """

    mask: Tensor
    label: int | None = None
    down: tuple[int, int] = (0, 0)
    right: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Placed:
    """A layer in a layout: its number, moved by (down, right) pixels, `scale` times as large about the centre of its mask."""

    layer: int
    offset: Offset = (0, 0)
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers of n scenes, denoised together down to a level, which `render` shows in any layout.

    features  (n, layers, C, H, W) at the level of the first row of `rest`
    rest      rows that are left for a layout
    nfe       network evaluations a scene up to here; a layout costs `rest.nfe` more
    """

    model: Model
    layers: tuple[Layer, ...]
    features: Tensor
    rest: Plan
    nfe: int
    seed: int

    @in_own_precision
    def render(self, layout: Sequence[Placed] | None = None, label: Any = None) -> Tensor:
        """Images (n, *shape) of a layout, the layer in front first; by default all layers unmoved. A layer twice is a clone.

        label  of the whole scene, by default the empty label where the model has one

        Raises InputError for layers that there are not, and for layouts that leave pixels empty.
        """
        shown = [Placed(k) for k in range(len(self.layers))] if layout is None else list(layout)
        for each in shown:
            if not isinstance(each, Placed) or not _fits(each, len(self.layers)):
                raise InputError(
                    f"layout has {each!r:.80}; expected Placed(layer 0 .. {len(self.layers) - 1}, (down, right) in whole pixels, "
                    "scale above 0)"
                )
        if not shown:
            raise InputError("the layout is empty: put a background last")
        x, alphas = composed(self.features, self.layers, shown)
        if not bool((alphas.sum(0) > 0).all()):
            raise InputError("the layout leaves pixels empty: put a background last")
        n = len(x)
        labels = _whole_label(self.model, n, label)

        def unit(draw: Any) -> Tensor:
            return unit_noise(self.seed, range(n), self.model.shape, draw, self.model.device)

        draws = Draws(
            lambda k: unit(Draw.ROW(k)),
            lambda k, size: unit_noise(self.seed, range(n), size, Draw.GUIDANCE(k), self.model.device),
        )
        with torch.inference_mode():
            made = play(self.model, bind(self.model, self.rest), x, labels, draws=draws)
        if not bool(made.isfinite().all()):
            raise NotFinite(f"images of {self.model.name} are not finite under plan {self.rest.name!r}")
        return made


@part(
    "scene-diffusion",
    title="SceneDiffusion: layers of a scene from joint denoising of several layouts, by weighted least squares",
    source="Ren et al. 2024, Move Anything with Layered Scene Diffusion, arXiv:2404.07178",
    papers=(109,),
    role="procedure",
)
@in_own_precision
def scene(
    model: Model,
    layers: Sequence[Layer],
    *,
    image: Any = None,
    plan: Plan | int = 20,
    layouts: int = 8,
    below: float = 0.5,
    anchor: float = 10.0,
    n: int = 1,
    label: Any = None,
    seed: int = 0,
) -> Scene:
    """Layers f_k of n scenes, whose layouts are drawn with them: each layer is seen at many places before it is finished.

    At each level above `below` layouts are drawn, composed to views v = sum_k a_k f_k (moved; a_k the mask, less what lies in
    front), and moved a DDIM step by the model, u = sum_k a_k u(v, label of k). Then the layers are

        argmin_f  sum_views |v(f) - v'|^2 + anchor |v_image(f) - v'_image|^2,

    which with masks of 0 and 1 is the mean of what each pixel of a layer has become in the views where it is seen.

    layers  in front first, the background last
    image   a picture (*shape) of the scene with its layers unmoved, a further view that is noised instead of denoised
    plan    whose levels are the steps, and whose rows at and below `below` finish a layout; or a number of calls
    layouts a level
    below   level tau at which layers are finished, and a layout's image begins: low keeps objects, high melts them in
    anchor  weight of the image's view
    label   of layers that have none of their own

    A level costs layouts times labels network calls. Raises InputError for masks that are not of 0 and 1 or of another size, for
    layers that leave pixels empty, and for an image of another shape or not finite.
    """
    model, layouts, n = as_model(model), as_count(layouts, "layouts"), as_count(n, "n")
    seed, weight = as_count(seed, "seed", 0), as_number(anchor, "anchor")
    known = _checked(model, layers)
    given = None if image is None else _image(model, image)
    check_model(model)
    own_plan = isinstance(plan, Plan | str | Path)
    table = as_plan(plan) if own_plan else standard("ddim", model, as_count(plan, "plan"), "uniform")
    check_plan(table, tuple(model.shape))
    if any(row.guidance is not None and row.guidance.draws for row in table.rows):
        raise InputError(f"plan {table.name!r} has guidance that draws noise, which scenes are not denoised with")
    if not 0 < (level := as_number(below, "below")) < 1 or not weight >= 0:
        raise InputError(f"below is {below} and anchor {anchor}; expected below in (0, 1) and anchor at least 0")
    rest = table.from_level(level)
    own = [_whole_label(model, n, label if layer.label is None else layer.label) for layer in known]
    device = model.device
    shape = (len(known), *model.shape)
    features = unit_noise(seed, range(n), shape, Draw.START(), device)
    unmoved = [Placed(k) for k in range(len(known))]
    noise = composed(features, known, unmoved)[0]
    ways = [way for way in falling(table) if way[2] >= float(rest.rows[0].tau)]
    steps = bind(model, table)
    features = features * float(table.rows[0].tau)
    draw = torch.Generator().manual_seed(seed)
    for row, here, there in ways:
        drawn = [_drawn(known, draw) for _ in range(layouts)]
        sums, seen = torch.zeros_like(features), torch.zeros(len(known), *model.shape[1:], device=device)
        for layout in drawn:
            view, alphas = composed(features, known, layout)
            with torch.inference_mode():
                u = _blended(steps[row], view, own, alphas)
            _gather(sums, seen, view + (there - here) * u, alphas, layout, 1.0)
        if given is not None:
            view = (1 - there) * given + there * noise
            _gather(sums, seen, view.expand(n, *model.shape), composed(features, known, unmoved)[1], unmoved, weight)
        mean = sums / seen.clamp_min(1e-30)[:, None]
        features = torch.where(
            seen[:, None] > 0, mean, features * (there / here)
        )  # what no view shows is noise about 0
    kinds = len({_kind(labels) for labels in own})
    calls = sum(table.rows[row].passes for row, _, _ in ways) * layouts * kinds
    return Scene(model, known, features, rest, calls, seed)


def composed(features: Tensor, layers: Sequence[Layer], layout: Sequence[Placed]) -> tuple[Tensor, Tensor]:
    """A layout's view (n, *shape) of features (n, layers, C, H, W), and what each of its parts shows (parts, H, W), 0 or 1."""
    height, width = features.shape[-2:]
    free = torch.ones(height, width, device=features.device)
    view, alphas = torch.zeros_like(features[:, 0]), []
    for each in layout:
        mask = layers[each.layer].mask.to(features.device)
        rows, columns, inside = _places(mask, each, height, width)
        alpha = mask[rows, columns] * inside * free
        view = view + alpha * features[:, each.layer][..., rows, columns]
        free = free * (1 - alpha)
        alphas.append(alpha)
    return view, torch.stack(alphas)


def _places(mask: Tensor, placed: Placed, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel of a view the layer's pixel (rows, columns) that lies there, and whether it has one."""
    at = mask.nonzero().float()
    centre = (at.amin(0) + at.amax(0)) / 2
    found = []
    for axis, size in enumerate((height, width)):
        here = torch.arange(size, device=mask.device) - placed.offset[axis]
        found.append(torch.floor((here - centre[axis]) / placed.scale + centre[axis] + 0.5).long())
    inside = [(where >= 0) & (where < size) for where, size in zip(found, (height, width), strict=True)]
    rows = found[0].clamp(0, height - 1)[:, None].expand(height, width)
    columns = found[1].clamp(0, width - 1)[None].expand(height, width)
    return rows, columns, (inside[0][:, None] & inside[1][None]).float()


def _gather(sums: Tensor, seen: Tensor, view: Tensor, alphas: Tensor, layout: Sequence[Placed], weight: float) -> None:
    """Add a view to what each pixel of each layer has become in it, moved back; of layouts whose layers are not scaled."""
    height, width = view.shape[-2:]
    for alpha, each in zip(alphas, layout, strict=True):
        back = Placed(each.layer, (-each.offset[0], -each.offset[1]))
        rows, columns, inside = _places(torch.ones_like(alpha), back, height, width)
        shown = weight * alpha[rows, columns] * inside
        sums[:, each.layer] += shown * view[..., rows, columns]
        seen[each.layer] += shown


def _blended(step: Step, view: Tensor, labels: Sequence[Tensor | None], alphas: Tensor) -> Tensor:
    """u (n, *shape) of a view, at each pixel under the label of the layer that is seen there; the row's passes for each label."""
    kinds: dict[tuple[int, ...] | None, tuple[Tensor | None, Tensor]] = {}
    for own, alpha in zip(labels, alphas, strict=True):
        before = kinds.get(key := _kind(own))
        kinds[key] = (own, alpha if before is None else before[1] + alpha)
    u = torch.zeros_like(view)
    for own, where in kinds.values():
        u = u + where * output(step, view, own)
    return u


def _kind(labels: Tensor | None) -> tuple[int, ...] | None:
    """Labels (n,) of a layer in all scenes, by which layers share a pass."""
    return None if labels is None else tuple(labels.tolist())


def _fits(placed: Placed, layers: int) -> bool:
    """Whether its numbers are those of one of so many layers, moved by whole pixels, of a finite size."""
    offset, scale = placed.offset, placed.scale
    sized = isinstance(scale, int | float) and 0 < scale < math.inf
    return isinstance(placed.layer, int) and 0 <= placed.layer < layers and _two_whole(offset) and sized


def _two_whole(numbers: Any) -> bool:
    return isinstance(numbers, Sequence) and len(numbers) == 2 and all(isinstance(each, int) for each in numbers)


def _drawn(layers: Sequence[Layer], draw: torch.Generator) -> list[Placed]:
    def one(ends: tuple[int, int]) -> int:
        return int(torch.randint(ends[0], ends[1] + 1, (1,), generator=draw))

    return [Placed(k, (one(layer.down), one(layer.right))) for k, layer in enumerate(layers)]


def _checked(model: Model, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    if len(model.shape) != 3:
        raise InputError(f"{model.name} makes samples of shape {model.shape}; scenes need pictures (C, H, W)")
    size, found = tuple(model.shape[1:]), []
    for k, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise InputError(f"layer {k} is {layer!r:.60}; expected a Layer")
        mask = torch.as_tensor(layer.mask).float()
        if tuple(mask.shape) != size or not bool(((mask == 0) | (mask == 1)).all()) or not bool(mask.any()):
            raise InputError(f"mask of layer {k} has shape {tuple(mask.shape)}; expected {size} of 0 and 1, not all 0")
        for name in ("down", "right"):
            ends = getattr(layer, name)
            if not _two_whole(ends) or ends[0] > ends[1]:
                raise InputError(
                    f"{name} of layer {k} is {ends!r:.60}; expected the least and the largest move in pixels"
                )
        found.append(Layer(mask, layer.label, layer.down, layer.right))
    still = [layer.mask for layer in found if layer.down == layer.right == (0, 0)]
    if not still or not bool(torch.stack(still).amax(0).all()):
        raise InputError("layers leave pixels empty: the last is a background, of mask 1 everywhere, that stays")
    return tuple(found)


def _image(model: Model, image: Any) -> Tensor:
    given = as_tensor(image, "image").to(model.device, torch.float32)
    if tuple(given.shape) != tuple(model.shape) or not bool(given.isfinite().all()):
        raise InputError(
            f"image has shape {tuple(given.shape)}, or is not finite; {model.name} needs {tuple(model.shape)}"
        )
    return given


def _whole_label(model: Model, n: int, label: Any) -> Tensor | None:
    if label is None and model.classes is not None:
        if model.empty_label is None:
            raise InputError(f"{model.name} has classes and no empty label: give label")
        label = model.empty_label
    return model.labels(n, label)
