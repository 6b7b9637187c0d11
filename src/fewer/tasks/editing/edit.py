"""Edited images, in micro-batches, the same bits in any process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_number, as_plan, as_tensor
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError, NotFinite, did_you_mean
from fewer.memory import check_room, halving
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import DrawNumber, Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import ROLES, guarded, name_of, parts, resolve
from fewer.samplers import standard
from fewer.tasks.editing import Editor
from fewer.tasks.editing.task import Task, Unit, check_model, check_plan

CALLS = 20  # of the usual plan
ROLE = "editor"


@dataclass(frozen=True, eq=False)
class Edited:
    """Edited images.

    images   of the shape of those that were given, in the model's data range
    method   its name
    plan     whose levels were played, from the level of `strength` on
    nfe      network evaluations an image, up and down
    """

    images: Tensor
    method: str
    plan: Plan
    nfe: int


@in_own_precision
def edit(
    model: Model,
    images: Any,
    labels: Any = None,
    *,
    source: Any = None,
    avoid: Any = None,
    mask: Any = None,
    plan: Plan | int = CALLS,
    method: str | Editor = "rf-inversion",
    strength: float | None = None,
    seed: int = 0,
    batch: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Edited:
    """Images turned into what the labels ask for, keeping the rest, by a method of the role `editor`.

    images    (n, *shape) in the model's data range, or one (*shape)
    labels    what they shall become: integers (n,), or one for all; by default the empty label, of models that have one
    source    what they are, for methods that invert; by default the empty label, or the labels where there is none
    avoid     what they shall keep away from, for methods that guide against it
    mask      1 where an image may change, 0 where it is kept as it is; (H, W) for all, (n, H, W), or of the images' shape
    plan      whose rows are the way down, guided if it is; or a number of calls of DDIM on levels even in the time
    method    its name, or an object of it with settings of one's own
    strength  level tau in (0, 1] up to which images are noised; by default the method's
    seed      image i has the noise of `fewer.sample`'s sample i of this seed, whatever the batch
    batch     images per micro-batch (default 64); halved and tried again where memory is too small
    progress  progress(done images, all images) after each micro-batch

    Raises InputError for images, masks and labels that do not fit the model or are not finite, methods that lack a mask or a label,
    plans that do not fit, and edits that are not finite.
    """
    wanted = asked(
        model, images, labels, source=source, avoid=avoid, mask=mask, plan=plan, method=method, strength=strength
    )
    model, n, seed = wanted.model, len(wanted.images), as_count(seed, "seed", 0)
    check_room(n, math.prod(model.shape), model.device)

    def micro_batch(part: range) -> Tensor:
        numbers, some = Stream.SAMPLES.numbers(len(part), part.start), slice(part.start, part.stop)

        def unit(draw: DrawNumber, shape: Sequence[int]) -> Tensor:
            return unit_noise(seed, numbers, shape, draw, model.device)

        with guarded("tasks", wanted.editor):
            return wanted.editor.edit(wanted.task(some, unit))

    found = []
    with torch.inference_mode():
        for part, some in halving(n, MICRO_BATCH if batch is None else as_count(batch, "batch"), micro_batch):
            found.append(some)
            if progress is not None:
                progress(part.stop, n)
    made = torch.cat(found)
    if not bool(made.isfinite().all()):
        raise NotFinite(f"edits of {wanted.method} are not finite under plan {wanted.plan.name!r}")
    return Edited(made[0] if wanted.single else made, wanted.method, wanted.plan, wanted.nfe)


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be edited, checked: images (n, *shape), or a single one of them, labels (n,) and a mask."""

    model: Model
    images: Tensor
    single: bool
    labels: Tensor | None
    source: Tensor | None
    avoid: Tensor | None
    mask: Tensor | None
    plan: Plan
    editor: Editor
    method: str
    nfe: int

    def task(self, some: slice, unit: Unit) -> Task:
        """Of some of the images, with their noise."""

        def of(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[some].to(self.model.device)

        labels, source, avoid, mask = (of(each) for each in (self.labels, self.source, self.avoid, self.mask))
        return Task(self.model, self.plan, self.images[some].to(self.model.device), labels, source, avoid, mask, unit)


def asked(
    model: Any, images: Any, labels: Any = None, *, source: Any = None, avoid: Any = None, mask: Any = None,
    plan: Any = CALLS, method: Any = "rf-inversion", strength: Any = None,
) -> Asked:  # fmt: skip
    """What arguments of `edit` ask for, of which nothing is computed yet; InputError for what cannot be."""
    model = as_model(model)
    editor = editor_of(method)
    name = name_of("tasks", editor)
    check_model(model)
    given, single = _images(model, images)
    n = len(given)
    table = _plan(model, plan, editor.reach if strength is None else strength)
    target = _labels(model, n, labels, "labels")
    known = target if source is None and model.empty_label is None else _labels(model, n, source, "source")
    against = None if avoid is None else _labels(model, n, avoid, "avoid")
    where = None if mask is None else _mask(model, n, mask, single)
    for need, there, what in (("mask", where, "a mask"), ("avoid", against, "a label to keep away from")):
        if need in editor.needs and there is None:
            raise InputError(f"method {name!r} needs {what}: give {need} (--{need})")
    with guarded("tasks", editor):
        nfe = editor.cost(table)
    return Asked(model, given, single, target, known, against, where, table, editor, name, nfe)


def editors() -> list[str]:
    """The names of all methods."""
    return [each.name for each in parts("tasks") if each.role == ROLE]


def editor_of(given: Any) -> Editor:
    """The method of a name, with its default settings, or the object itself. Raises InputError for what is none."""
    if isinstance(given, str) and given not in editors():
        raise InputError(
            f"method is {given!r:.80}{did_you_mean(given, editors(), 3, 0.4)} methods of editing are {', '.join(editors())}"
        )
    editor = resolve("tasks", given)
    if ROLES[ROLE].missing(editor):
        raise InputError(
            f"method {name_of('tasks', given)!r} is no method of editing; these are {', '.join(editors())}"
        )
    return editor  # type: ignore[no-any-return]


def _images(model: Model, images: Any) -> tuple[Tensor, bool]:
    """(n, *shape) float32 on the CPU or where they are, and whether one was given."""
    given = as_tensor(images, "images").detach().to(torch.float32)
    single = given.ndim == len(model.shape)
    given = given[None] if single else given
    if tuple(given.shape[1:]) != tuple(model.shape) or not len(given):
        raise InputError(
            f"images have shape {tuple(given.shape[single:])}; {model.name} needs (n, {', '.join(map(str, model.shape))})"
        )
    if not bool(given.isfinite().all()):
        raise InputError(f"images hold {int((~given.isfinite()).sum())} values that are not finite")
    return given, single


def _plan(model: Model, plan: Any, strength: Any) -> Plan:
    strength = as_number(strength, "strength")
    if not 0 < strength <= 1:
        raise InputError(f"strength is {strength:g}; expected a number in (0, 1]")
    own = isinstance(plan, Plan | str | Path)
    table = as_plan(plan) if own else standard("ddim", model, as_count(plan, "plan"), "uniform")
    check_plan(table, tuple(model.shape))
    return table.from_level(strength)


def _labels(model: Model, n: int, labels: Any, what: str) -> Tensor | None:
    """Labels (n,) on the model's device; by default the empty label."""
    if labels is None and model.classes is not None:
        if model.empty_label is None:
            raise InputError(f"{model.name} has classes and no empty label: give {what}, 0 .. {model.classes - 1}")
        labels = model.empty_label
    try:
        return model.labels(n, labels)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _mask(model: Model, n: int, mask: Any, single: bool) -> Tensor:
    """(n, 1 or C, ..), numbers in [0, 1], of the images' places; (n, d) of samples that are vectors.

    single  whether one image was given without its axis, whose mask may be so too
    """
    try:
        given = torch.as_tensor(mask).to(torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"mask is {mask!r:.60}; expected 1 where an image may change, 0 where it is kept") from error
    shape = tuple(model.shape)
    places = shape[1:] or shape
    if single and tuple(given.shape) == shape != places:
        given = given[None]
    size = tuple(given.shape)
    of_channels = ((n, 1, *places),) if len(shape) > 1 else ()
    if size not in (places, (n, *places), (n, *shape), *of_channels):
        raise InputError(
            f"mask has shape {size}; {n} images of {model.name} need {places}, {(n, *places)} or {(n, *shape)}"
        )
    if not bool(((given >= 0) & (given <= 1)).all()):
        raise InputError(
            "mask has nan or values outside of [0, 1]; expected 1 where an image may change, 0 where it is kept"
        )
    of_each = given.expand(n, *places) if size == places else given
    return of_each.unsqueeze(1) if len(shape) > 1 and of_each.ndim == len(shape) else of_each
