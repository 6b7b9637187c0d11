"""Promises of roundings, and of allocations of bits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch

from fewer.blocks.find import network_of
from fewer.compression.quantise import BitAllocation, Rounding, Task
from fewer.compression.quantise.states import states_of
from fewer.errors import InputError
from fewer.models.quantised.grid import Codes, Format
from fewer.models.quantised.network import layers_of
from fewer.noise import unit_noise
from fewer.testing import demand, models

FOUR = Format(4, "asymmetric", group=5)


def check(rounding: Rounding, format: Format = FOUR) -> None:
    """Codes of every weight that is asked for and of no other, on grids of the format, in no more bits than rounding to nearest
    takes; the same again for the same seed; the model, and torch's own random numbers, are left as they were. Of attentions whose
    keys are merged into their queries the weights are those of the merged network.
    """
    task = _task(format)
    before, state = copy.deepcopy(network_of(task.model).state_dict()), torch.random.get_rng_state()
    found = rounding.rounded(task)
    same = all(torch.equal(t, before[name]) for name, t in network_of(task.model).state_dict().items())
    demand(same, "the rounding changes the model that it is given")
    demand(torch.equal(state, torch.random.get_rng_state()), "the rounding draws from torch's own random numbers")
    merged = {f"{name}.to_k.weight" for name in found.merged}
    demand(found.weights.keys() == task.formats.keys() - merged, "codes are of other weights than those asked for")
    parameters = dict(found.network(task.network).named_parameters())
    for name, codes in found.weights.items():
        plain = Codes.nearest(parameters[name], format)
        demand(codes.shape == tuple(parameters[name].shape), f"{name} has codes of shape {codes.shape}")
        demand(codes.grid.kind == format.kind, f"{name} lies on a {codes.grid.kind} grid; asked for {format.kind}")
        demand(codes.size <= plain.size, f"{name} takes {codes.size} bits; the format has {plain.size}")
        demand(bool((codes.codes.float() <= codes.grid.top).all()), f"{name} has codes beyond its grid's last")
        demand(bool(torch.isfinite(codes.weight).all()), f"{name} has weights that are not finite")
    _same(found.weights, rounding.rounded(_task(format)).weights)


def check_allocation(allocation: BitAllocation) -> None:
    """Formats of every weight, within each budget, the task's own in all but bits; what does not fit is refused."""
    task = _task(Format(8))
    parameters = dict(task.network.named_parameters())

    def size(formats: Mapping[str, Format]) -> int:
        return sum(Codes.nearest(parameters[name], how).size for name, how in formats.items())

    for bits in (3, 4, 6):
        budget = size(dict.fromkeys(task.formats, Format(bits)))
        found = allocation.formats(task, budget)
        demand(found.keys() == task.formats.keys(), "formats are of other weights than those asked for")
        demand(size(found) <= budget, f"a budget of {budget} bits is exceeded: {size(found)}")
        demand(
            all(replace(how, bits=8) == task.formats[name] for name, how in found.items()), "more than bits is changed"
        )
    try:
        allocation.formats(task, len(parameters))
    except InputError:
        return
    demand(False, "a budget that nothing fits into is not refused")


def _task(format: Format) -> Task:
    model = models.transformer()
    names = [name for name in layers_of(network_of(model)) if "transformer_blocks.0.attn1" in name]
    data = unit_noise(1, range(16), model.shape)  # samples of the model would do, and take longer
    return Task(model, dict.fromkeys(names, format), states_of(model, 2, 3), data=data, labels=model.labels(16))


def _same(one: Mapping[str, Codes], other: Mapping[str, Codes]) -> None:
    for name, codes in one.items():
        again = other[name]
        equal = torch.equal(codes.codes, again.codes) and torch.equal(codes.grid.scale, again.grid.scale)
        demand(equal, f"the same task gives other codes of {name} the second time")
