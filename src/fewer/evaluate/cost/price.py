"""Multiply-accumulates of a plan, and the cost of the blocks of a network in multiply-accumulates and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch
from torch import nn

from fewer.blocks.find import block, blocks, is_module, network_of
from fewer.evaluate.cost.clock import macs, median
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model
from fewer.models.pipelines.cut.network import PipelineNetwork
from fewer.noise import unit_noise
from fewer.plan import Plan


def call_macs(model: Model) -> int:
    """Multiply-accumulates of one network evaluation of one sample; of a pipeline, whose call has several, their mean."""
    n = model.network.size if isinstance(model.network, PipelineNetwork) else 1
    x = torch.zeros(n, *model.shape, dtype=torch.float32, device=model.device)
    with torch.inference_mode():
        return macs(lambda: model(x, float(model.schedule.time(model.start)), model.labels(n))) // n


def plan_macs(model: Model, plan: Plan, call: int | None = None) -> int:
    """Multiply-accumulates of one sample: each row's passes of its own network, less the blocks that it leaves out.

    `call` is what `call_macs` says of the model, where it is known. Additions of branches are elementwise work and not
    counted, like all of that (see `fewer.evaluate.cost.clock.macs`).
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
    measured = blocks(model) if names is None else {name: block(model, name) for name in names}
    network = network_of(model)
    modules = {name: network.get_submodule(name) for each in measured.values() for name in each.modules}
    x = unit_noise(0, range(batch), model.shape, device=model.device)
    t, labels = float(model.schedule.time(model.start)), model.labels(batch)
    clocked: dict[str, list[float]] = {name: [] for name in ("", *modules)}
    with clocked_modules({"": network} | modules, clocked, model.device), torch.inference_mode():
        for _ in range(warmup + repeats):
            model(x, t, labels)
    calls = {name: values[warmup:] for name, values in clocked.items()}
    of_modules = {
        name: zip(*(calls[module] for module in each.modules), strict=True) for name, each in measured.items()
    }
    return {"": median(calls[""])} | {name: median(list(map(sum, each))) for name, each in of_modules.items()}


@contextmanager
def clocked_modules(
    modules: dict[str, nn.Module], times: dict[str, list[float]], device: torch.device
) -> Iterator[None]:
    """Meanwhile every call of a module adds its seconds to its list; a CUDA device is waited for at each reading."""
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
            times[name].append(now() - began[name])

        hooks.extend((module.register_forward_pre_hook(before), module.register_forward_hook(after)))

    try:
        for name, module in modules.items():
            watch(name, module)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def shares(model: Model, batch: int, repeats: int = 9) -> list[dict[str, Any]]:
    """The blocks of a network in its order: name, kind, and their shares of a call's MACs and milliseconds.

    Blocks that lie in others count in these, too. Empty where there is none, as in a network that is no module.
    """
    each_block = blocks(model) if is_module(model) else {}
    if not each_block:
        return []
    full, times = call_macs(model), seconds(model, batch, repeats)
    return [
        {
            "name": name, "kind": each.kind, "macs": each.macs, "macs_share": each.macs / full if full else None,
            "ms_share": times[name].value / times[""].value,
        }
        for name, each in each_block.items()
    ]  # fmt: skip
