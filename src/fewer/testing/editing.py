"""Promises of methods of editing."""

from __future__ import annotations

import torch

from fewer.guidance import guide
from fewer.noise import unit_noise
from fewer.samplers import standard
from fewer.tasks.editing import Editor
from fewer.tasks.editing.edit import edit
from fewer.testing import demand
from fewer.testing.models import CLASSES, counted, transformer

N, ROWS = 2, 5


def check(editor: Editor) -> None:
    """Edits are finite, each its own in any batch and towards its own label; calls are those that are said; what a mask keeps is
    kept; and nothing of the network stays changed.
    """
    model = transformer()
    images = 0.5 * unit_noise(1, range(N), model.shape)
    mask = torch.zeros(model.shape[1:])
    mask[2:6, 2:6] = 1
    labels = torch.arange(N) % CLASSES
    plan = guide(standard("ddim", model, ROWS, "uniform"), 1.5)
    given = {"source": 0, "avoid": 1, "mask": mask, "plan": plan, "method": editor, "seed": 5}
    before = model.velocity(images, 0.5, labels)
    with counted(model) as calls:
        found = edit(model, images, labels, **given)  # type: ignore[arg-type]
    demand(
        sum(calls) == N * found.nfe, f"{found.method} says {found.nfe} network evaluations and makes {sum(calls) / N:g}"
    )
    demand(
        found.images.shape == images.shape and bool(found.images.isfinite().all()),
        f"edits have shape {tuple(found.images.shape)}, or are not finite",
    )
    demand(bool((model.velocity(images, 0.5, labels) == before).all()), "the network is not what it was")
    kept = (found.images - images).abs().amax((0, 1))[mask == 0]
    demand(float(kept.max()) < 1e-5, "what the mask keeps has changed")
    demand(float((found.images - images).abs().max()) > 1e-4, "nothing has changed where it may")
    alone = edit(model, images, labels, **given, batch=1).images  # type: ignore[arg-type]
    demand(torch.allclose(found.images, alone, atol=1e-4, rtol=1e-4), "an edit depends on its batch")
    other = edit(model, images, (labels + 1) % CLASSES, **given).images  # type: ignore[arg-type]
    demand(float((other - found.images).abs().max()) > 1e-6, "the labels play no part")
