"""What the blocks of a network cost, and a plan with a blocks column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch
from torch import nn

from fewer.measures.cost import macs, median
from fewer.measures.interval import Interval
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.shortcuts.find import Block, block, blocks, is_module, network_of


def call_macs(model: Model) -> int:
    """Multiply-accumulates of one network evaluation of one sample."""
    x = torch.zeros(1, *model.shape, device=model.device)
    with torch.inference_mode():
        return macs(lambda: model(x, float(model.schedule.time(model.start)), model.labels(1)))


def plan_macs(model: Model, plan: Plan, call: int | None = None) -> int:
    """Multiply-accumulates of one sample: each row's passes of its own network, less the blocks that it leaves out.

    `call` is what `call_macs` says of the model, where it is known. Additions of branches are elementwise work and not
    counted, like all of that (see `fewer.measures.cost.macs`).
    """
    full = {k: call if k == 0 and call is not None else call_macs(model.called(k)) for k in plan.networks}
    saved = {(row.network, name) for row in plan.rows for name in row.blocks}
    of = {(k, name): block(model.called(k), name).macs for k, name in saved}
    return sum(
        row.passes * (full[row.network] - sum(of[row.network, name] for name in row.blocks)) for row in plan.rows
    )


def seconds(
    model: Model, batch: int, repeats: int = 9, warmup: int = 2, names: Sequence[str] | None = None
) -> dict[str, Interval]:
    """Seconds that blocks take of one call of `batch` samples (all that are found, or those named), and "" the whole call.

    The clock is read before and after each module, in every one of `repeats` calls: all blocks share one call, so
    that a slow spell touches them alike. On CUDA the device is waited for at each reading, which adds to small blocks.
    Raises InputError as `blocks`, `block` and `median` do.
    """
    found = blocks(model) if names is None else {name: block(model, name) for name in names}
    network = network_of(model)
    modules = {name: network.get_submodule(name) for each in found.values() for name in each.modules}
    x = unit_noise(0, range(batch), model.shape, device=model.device)
    t, labels = float(model.schedule.time(model.start)), model.labels(batch)
    taken: dict[str, list[float]] = {name: [] for name in ("", *modules)}
    with _clocked({"": network} | modules, taken, model.device), torch.inference_mode():
        for _ in range(warmup + repeats):
            model(x, t, labels)
    calls = {name: values[warmup:] for name, values in taken.items()}
    return {"": median(calls[""])} | {name: median(_together(each, calls)) for name, each in found.items()}


def _together(each: Block, calls: dict[str, list[float]]) -> list[float]:
    return [sum(one) for one in zip(*(calls[name] for name in each.modules), strict=True)]


@contextmanager
def _clocked(modules: dict[str, nn.Module], taken: dict[str, list[float]], device: torch.device) -> Iterator[None]:
    """Meanwhile every call of a module adds its seconds to its list."""
    began: dict[str, float] = {}
    hooks: list[Any] = []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter()

    def watch(name: str, module: nn.Module) -> None:
        def before(module: nn.Module, args: Any) -> None:
            began[name] = now()

        def after(module: nn.Module, args: Any, output: Any) -> None:
            taken[name].append(now() - began[name])

        hooks.extend((module.register_forward_pre_hook(before), module.register_forward_hook(after)))

    try:
        for name, module in modules.items():
            watch(name, module)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def shares(model: Model, batch: int, repeats: int = 9) -> list[dict[str, Any]]:
    """The found blocks in the order of the network: name, kind, and their shares of a call's MACs and milliseconds.

    Blocks that lie in others count in these, too. Empty where none is found, as in a network that is no module.
    """
    found = blocks(model) if is_module(model) else {}
    if not found:
        return []
    full, taken = call_macs(model), seconds(model, batch, repeats)
    return [
        {
            "name": name, "kind": each.kind, "macs": each.macs, "macs_share": each.macs / full if full else None,
            "ms_share": taken[name].value / taken[""].value,
        }
        for name, each in found.items()
    ]  # fmt: skip
