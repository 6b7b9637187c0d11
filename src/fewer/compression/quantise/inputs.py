"""Grids for what layers are given: fixed ones of the whole tensor, calibrated on all noise levels alike, or one of each token.

A fixed grid reaches over a share c of the range that was seen: c [low, high] with c of least squared error,

    c = argmin  sum over levels of  mean (Q_c(x) - x)^2,        c in 0.5, 0.52 .. 1

so that each level counts the same, whatever its values' size. Layers that are given the state itself keep it as it is: at the
noisiest level an error of what a network of noises sees is multiplied by s = sigma / alpha, and a fixed grid cuts off the rare
values of the noise that calibration has not met. Nagel et al. 2021, arXiv:2106.08295, section 3.1; that ranges of
activations change with the noise level, so that calibration has to see all of it: Shang et al. 2023, arXiv:2211.15736.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from fewer.blocks.find import network_of
from fewer.compression.quantise.states import States
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.quantised.inputs import InputGrid

Per = Literal["tensor", "token"]
SHARES = torch.linspace(0.5, 1.0, 26).tolist()
VALUES = 4096  # of a layer's inputs at a level that are looked at


def inputs_of(model: Model, states: States, layers: Iterable[str]) -> dict[str, list[Tensor]]:
    """Layer -> what it is given at each level, one tensor for each of its calls, in the order of the levels.

    Raises InputError where the network has no such layer, or never calls it.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    there = dict(network_of(model).named_modules())

    def keep(name: str) -> Any:
        return lambda layer, args: seen[name].append(args[0].detach().clone())

    for name in seen:
        if name not in there:
            raise InputError(f"{model.name} has no layer {name!r}")
    hooks = [there[name].register_forward_pre_hook(keep(name)) for name in seen]
    try:
        states.outputs(model)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def calibrated(
    model: Model, states: States, layers: Iterable[str], bits: int = 8, per: Per = "tensor"
) -> dict[str, InputGrid]:  # fmt: skip
    """Layer -> the grid of its inputs; layers that no call reaches, and those that are given the state, have none.

    Raises InputError for bits that there are not, and where `per` is neither tensor nor token.
    """
    if per not in ("tensor", "token"):
        raise InputError(f"inputs share a scale per {per!r:.80}; expected 'tensor' or 'token'")
    seen = {name: x for name, x in inputs_of(model, states, layers).items() if x and not _is_state(model, states, x[0])}
    if per == "token":
        return {name: InputGrid(bits) for name in seen}
    return {name: fitted([_some(x) for x in tensors], bits) for name, tensors in seen.items()}


def _is_state(model: Model, states: States, x: Tensor) -> bool:
    """Whether what a layer is given at the first level is what the network is given."""
    c_in, _, _ = model.affine(states.tau[0])
    return x.shape == states.x[0].shape and torch.allclose(x.float(), float(c_in) * states.x[0], atol=1e-3)


def fitted(levels: list[Tensor], bits: int) -> InputGrid:
    """The fixed grid of least squared error over values (n,) of each level."""
    low, high = (min(float(x.min()) for x in levels), max(float(x.max()) for x in levels))
    grids = [InputGrid.over(c * low, c * high, bits) for c in SHARES]
    return min(grids, key=lambda grid: sum(float((grid(x, ()) - x).square().mean()) for x in levels))


def _some(x: Tensor) -> Tensor:
    """Values of a tensor in regular steps through it, with its ends."""
    flat = x.flatten().float()
    step = max(1, len(flat) // VALUES)
    return torch.cat([flat[::step], flat.amin()[None], flat.amax()[None]])
