"""Milliseconds of a plan before it is run, from network calls measured once and a linear model of the engine's overhead.

With n samples of d numbers each, the time of `fewer.sample` on one micro-batch is

    T(plan, n) = sum_rows (C(passes, n) - sum_blocks S(block, passes n)) + c . f
                                                      f = run, row, term, draw and guided, each alone and times n d

C is the time of a row's network call, measured for each number of passes and each batch size, never interpolated.
S is what a block saves that the row leaves out: its share of the time of a call in which all modules are clocked, times C.
The cost of the shortcut itself (a look-up, an addition) is neglected. f counts what the engine does around the calls
(`fewer.evaluate.cost.engine_overhead`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.cost import price
from fewer.evaluate.cost.clock import Side, clock, cpu_threads
from fewer.evaluate.cost.engine_overhead import NAMES, coefficients, overhead, passes_of, plans
from fewer.evaluate.statistics.interval import Interval
from fewer.files import read_as, write_json
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.registry import part

SCHEMA: Literal[1] = 1
LARGEST = 2**20
AT_ONCE = 3  # calls in one reading of the clock


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class LatencyTable:
    """Measured times from which plans of one model on one machine are predicted, and the content of their file.

    model    hash of the model; `numbers` of one of its samples, d = C H W
    machine  what the times depend on besides: processor, device, dtype, threads, version of torch
    calls    passes -> batch size n -> milliseconds of one row's network call
    engine   coefficients of the engine's overhead in milliseconds, by the names in `engine_overhead`
    blocks   block -> samples in a call -> milliseconds saved by a row that leaves it out
    """

    model: str
    machine: dict[str, str]
    numbers: Annotated[int, Field(ge=1)]
    calls: dict[int, dict[int, Annotated[float, Field(gt=0)]]]
    engine: dict[str, Annotated[float, Field(ge=0)]]
    blocks: dict[str, dict[int, float]] = field(default_factory=dict)
    schema: Literal[1] = SCHEMA

    def predict(self, plan: Plan, batch: int) -> float:
        """Milliseconds of `fewer.sample(model, plan, n=batch, batch=batch)`.

        Raises InputError for a batch size, a number of passes or a block that the table was not measured for.
        """
        if plan.networks != [0]:
            raise InputError(f"plan {plan.name!r} calls a second network; the table was measured for one")
        network = 0.0
        for row in plan.rows:
            if row.passes not in self.calls:
                raise InputError(
                    f"plan {plan.name!r} has a row of {row.passes} passes; measured: {_listed(self.calls)}"
                )
            by_batch = self.calls[row.passes]
            if batch not in by_batch:
                raise InputError(f"batch is {batch}; the table was measured for {_listed(by_batch)}")
            network += by_batch[batch] - sum(self._saved(name, row.passes * batch) for name in row.blocks)
        return network + sum(self.engine[name] * count for name, count in overhead(plan, batch, self.numbers).items())

    def _saved(self, name: str, size: int) -> float:
        if size not in self.blocks.get(name, {}):
            raise InputError(
                f"block is {name!r}; measured for calls of {size} samples: {_listed(self.blocks) or 'none'}"
            )
        return self.blocks[name][size]

    def save(self, path: str | Path) -> Path:
        """Write the table as JSON; returns the path. Raises InputError where it cannot be written."""
        write_json(Path(path), asdict(self))
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> LatencyTable:
        """Read and check a table. Raises InputError with one line that says what is wrong with the file."""
        table = read_as(LatencyTable, Path(path), "latency table", LARGEST)
        if set(table.engine) != set(NAMES):
            raise InputError(f"latency table {path}: engine must name {', '.join(NAMES)}")
        return table


@part(
    "latency-table",
    title="Milliseconds of any plan from calls measured once",
    source="Wu et al. 2019, FBNet (a lookup table of measured latencies), arXiv:1812.03443; Kim et al. 2023, "
    "arXiv:2301.12187",
    papers=(18,),
    role="procedure",
)
def latency_table(
    model: Model,
    batches: Sequence[int] = (64,),
    *,
    blocks: Sequence[str] = (),
    repeats: int = 15,
    threads: int | None = None,
    cache: bool = False,
) -> LatencyTable:
    """Measure the table of a model on this machine, for the given batch sizes.

    blocks   names of the blocks that plans to be predicted may leave out
    repeats  rounds of the clock, whose medians count (see `fewer.evaluate.cost.clock.clock`)
    threads  torch's CPU threads meanwhile; None leaves them
    cache    read the table from the user's cache folder where it is there, else measure and keep it; nothing is read
             or written otherwise

    On CUDA the engine's overhead partly hides behind the network's, so that the prediction is from above.
    Raises InputError for batch sizes below 1, fewer than 6 repeats, or a model without a hash where `cache` is set.
    """
    batches = _checked(batches)
    where = machine(model, threads)
    path = cached(model, batches, where) if cache else None
    if path is not None and path.exists():
        table = LatencyTable.load(path)
        if table.model == model.hash and table.machine == where and set(blocks) <= set(table.blocks):
            return table
    seconds = clock(sides(model, batches), repeats=repeats, threads=threads)
    sizes = sorted({passes * batch for passes in passes_of(model) for batch in batches}) if blocks else []
    shares = {size: block_shares(model, size, blocks, repeats, threads) for size in sizes}
    table = fit(model, batches, seconds, where, shares)
    if path is not None:
        table.save(path)
    return table


def sides(model: Model, batches: Sequence[int]) -> dict[str, Side]:
    """The callables that `fit` needs timed: the network's calls, and plans with a network that costs nothing."""
    timed: dict[str, Side] = {}
    for batch in _checked(batches):
        for passes in passes_of(model):
            timed[f"call {passes} {batch}"] = _calls(model, passes * batch)
    free = replace(model, network=lambda x, t, labels: x, decode=None)
    for batch in _shown(batches):
        for name, plan in plans(model).items():
            timed[f"plan {name} {batch}"] = partial(sample, free, plan, batch, batch=batch)
    return timed


def block_shares(
    model: Model, size: int, names: Sequence[str], repeats: int, threads: int | None = None
) -> dict[str, float]:
    """Block -> its share of the time of a call of `size` samples."""
    with cpu_threads(threads):
        times = price.seconds(model, size, repeats, names=names)
    return {name: times[name].value / times[""].value for name in names}


def fit(
    model: Model, batches: Sequence[int], seconds: Mapping[str, Interval], where: Mapping[str, str] | None = None,
    shares: Mapping[int, Mapping[str, float]] | None = None,
) -> LatencyTable:  # fmt: skip
    """The table from the clock's seconds of `sides(model, batches)`; other sides among them are passed over.

    shares  samples in a call -> block -> its share of the call's time, see `block_shares`
    """
    calls = {
        passes: {batch: 1e3 * seconds[f"call {passes} {batch}"].value / AT_ONCE for batch in batches}
        for passes in passes_of(model)
    }
    shown = {
        (name, batch): 1e3 * seconds[f"plan {name} {batch}"].value for batch in _shown(batches) for name in plans(model)
    }
    engine = coefficients(model, shown)
    by_size = {passes * batch: ms for passes, by_batch in calls.items() for batch, ms in by_batch.items()}
    blocks: dict[str, dict[int, float]] = {}
    for size, by_block in (shares or {}).items():
        for name, share in by_block.items():
            blocks.setdefault(name, {})[size] = share * by_size[size]
    return LatencyTable(
        model.hash, dict(machine(model) if where is None else where), math.prod(model.shape), calls, engine, blocks
    )


def machine(model: Model, threads: int | None = None) -> dict[str, str]:
    """Properties of the machine that a model's times depend on: processor, device, dtype, threads, version of torch."""
    on_cuda = model.device.type == "cuda"
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name(model.device) if on_cuda else model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads() if threads is None else threads),
        "torch": torch.__version__,
    }


def cached(model: Model, batches: Sequence[int], where: Mapping[str, str]) -> Path:
    """The table's file in the user's cache folder: $XDG_CACHE_HOME or ~/.cache, `fewer/latency`."""
    if not model.hash:
        raise InputError(f"cache needs a model with a hash, by which its table is found again; {model.name} has none")
    key = json.dumps([SCHEMA, model.hash, sorted(where.items()), list(batches)])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "fewer" / "latency" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _processor() -> str:
    """The processor's name; Python itself does not tell it on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _checked(batches: Sequence[int]) -> list[int]:
    if not batches or any(not isinstance(b, int) or isinstance(b, bool) or b < 1 for b in batches):
        raise InputError(f"batches is {list(batches)!r}; expected whole numbers of samples, each at least 1")
    return sorted(set(batches))


def _listed(values: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, sorted(values)))


def _calls(model: Model, size: int) -> Side:
    """`AT_ONCE` calls of the network on `size` samples, in the middle of its levels."""
    x = unit_noise(0, range(size), model.shape, device=model.device).to(model.dtype)
    t = model.schedule.time(model.start / 2).to(model.device)
    labels = model.labels(size)

    def side() -> None:
        with torch.inference_mode():
            for _ in range(AT_ONCE):
                model.output(x, t, labels)

    return side


def _shown(batches: Sequence[int]) -> list[int]:
    """Batch sizes at which the engine's overhead is timed: one sample too, so that the fixed part shows."""
    return sorted({1, *batches})
