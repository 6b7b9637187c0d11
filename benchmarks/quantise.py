"""What fewer bits cost and bring on this machine: quality, size, memory and clock of quantised networks.

    python -m benchmarks.quantise [--models digits dit-digits] [--noises 256] [--threads 1]      # docs/quantise.md; minutes

Quality is the paired RMSE of samples of a 10-call plan to the flow of the model, as a ratio to that of the network as it is, with a
verdict at a margin of 5 %. Size is that of the network's tensors in its file, of float32; memory that of the weights that a call
reads. The clock is a paired ratio: one call of a batch of 64, both sides in every round in shuffled order, threads pinned, the
median over rounds with its 95 % interval. Runtimes that are not installed are left out, and the page says so.
Writes benchmarks/results/quantise.json and docs/quantise.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer import Model, load, sample, standard
from fewer.blocks.find import network_of
from fewer.claims.bundled import BEST, reference
from fewer.compression.quantise.by_openvino import OpenVINONetwork, on_openvino
from fewer.compression.quantise.by_torchao import on_torchao
from fewer.compression.quantise.quantise import QuantisedModel, full_bits, quantised
from fewer.compression.quantise.states import States, states_of
from fewer.errors import InputError
from fewer.evaluate.cost.clock import clock_ratio, cpu_threads
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import squared_errors
from fewer.noise import Stream, unit_noise
from fewer.versions import versions

CALLS, BATCH, MARGIN, SEED = 10, 64, 0.05, 0
REPEATS = 15
GROUP = 32
FOUR = {"kind": "asymmetric", "group": GROUP}
RESULTS, PAGE = Path("benchmarks/results/quantise.json"), Path("docs/quantise.md")
Made = tuple[Model, float | None]
"""A model, and the share of its float32 size that its file has; None for one that is not written."""


def variants(model: Model, states: States) -> dict[str, Callable[[], Made]]:
    """Name -> what makes the network that a row of the table is about."""

    def own(**how: Any) -> Made:
        made: QuantisedModel = quantised(model, states=states, **how)
        return made.model, made.share

    uniform = partial(own, bits=4, **FOUR)
    return {
        "W8, weights alone": partial(own, bits=8),
        "W8A8, inputs per tensor": partial(own, bits=8, inputs=8),
        "W8A8, inputs per token": partial(own, bits=8, inputs=8, inputs_per="token"),
        "W4, one scale a channel": partial(own, bits=4),
        f"W4, groups of {GROUP}": uniform,
        f"W4, groups of {GROUP}, GPTQ": partial(own, bits=4, rounding="gptq", **FOUR),
        "mixed, in the size of W4 with one scale a channel": lambda: own(
            bits="mixed", size=quantised(model, 4, states=states).share
        ),
        "OpenVINO, float32": lambda: (on_openvino(model, states), None),
        "OpenVINO and NNCF, W8A8": lambda: (on_openvino(model, states, int8=True), None),
        "torchao, W8 of linear layers": lambda: (on_torchao(model), None),
        "torchao, W8A8 of linear layers": lambda: (on_torchao(model, "int8"), None),
    }


def measured(name: str, noises: int) -> Iterator[dict[str, Any]]:
    """The rows of one model."""
    model, (solver, grid) = load(name), BEST[name]
    plan, states = standard(solver, model, CALLS, grid), states_of(model, seed=SEED)
    fine = reference(name, SEED, noises)
    noise, labels = unit_noise(SEED, Stream.SAMPLES.numbers(noises), model.shape), model.labels(noises)

    def errors(of: Model) -> Tensor:
        return squared_errors(sample(of, plan, noise=noise, labels=labels), fine.samples)

    before = errors(model)
    for label, make in variants(model, states).items():
        try:
            made, share = make()
        except InputError as error:
            yield {"model": name, "network": label, "left out": str(error)}
            continue
        ratio = paired.ratio(errors(made), before)
        yield {
            "model": name, "network": label, "size": share, "memory": memory(made) / (full_bits(model) / 8),
            "error": ratio.to_dict(), "verdict": paired.decide(ratio, MARGIN), "clock": clocked(made, model).to_dict(),
        }  # fmt: skip


def clocked(made: Model, model: Model) -> Interval:
    """Time of a call of a network over that of the network as it is."""
    x, labels = unit_noise(1, range(BATCH), model.shape), model.labels(BATCH)
    t = float(model.schedule.time(model.start))

    def call(of: Model) -> Tensor:
        with torch.inference_mode():
            return of(x, t, labels)

    return clock_ratio(partial(call, made), partial(call, model), repeats=REPEATS, warmup=2)


def memory(model: Model) -> int:
    """Bytes of the weights that a call reads."""
    if isinstance(model.network, OpenVINONetwork):
        constants = (node for node in model.network.graph.get_ops() if node.get_type_name() == "Constant")
        return sum(node.get_byte_size() for node in constants)
    return sum(_bytes(tensor) for tensor in network_of(model).state_dict().values())


def _bytes(tensor: Any) -> int:
    if type(tensor) is not Tensor and hasattr(tensor, "__tensor_flatten__"):  # as torchao's weights are
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()


def page(found: dict[str, Any]) -> str:
    """docs/quantise.md."""
    rows = [row for row in found["rows"] if "left out" not in row]
    lines = [
        "# Fewer bits: quality, size, memory and clock", "",
        "`fewer.compression.quantise` writes weights in 1 to 8 bits, and rounds what layers are given. Its own networks",
        "compute in float32 on the rounded numbers: they are small in a file, not fast. Kernels for int8 are those of OpenVINO",
        "(with NNCF) and of torchao. This page says what each costs and brings on one CPU core; `python -m benchmarks.quantise`",
        "writes it.", "",
        "```sh",
        "fewer compress digits --bits 8 --input-bits 8 --out light-digits        # then: fewer sample light-digits",
        "fewer compress digits --bits 4 --group 32 --rounding flexround --out light-digits",
        "fewer compress dit-digits --bits 2 --rounding ofq --out light-digits           # trained on its grids",
        "fewer compress digits --bits mixed --size 0.1 --out light-digits        # bits by HAWQ-V2 within a tenth of float32",
        "```", "",
        "```python",
        "import fewer",
        "from fewer.compression.quantise.by_openvino import on_openvino  # pip install 'fewer[openvino]'",
        "from fewer.compression.quantise.states import states_of", "",
        'model = fewer.load("digits")',
        "fast = on_openvino(model, states_of(model), int8=True)  # a fewer.Model on OpenVINO's CPU runtime",
        "```", "",
        "What each method brings against its baseline is in the claims (`fewer methods --room compress`).", "",
        "- size: of the network's tensors in its file, scales included, of float32",
        "- memory: of the weights that a call reads, of float32",
        "- error: RMSE of samples of a 10-call plan to the model's own flow, over that of the network as it is (paired)",
        "- verdict: whether the error is at most 5 % larger",
        "- clock: time of a call of 64 samples over that of the network as it is in torch, the median of paired rounds; below 1 is",
        "  faster. Intervals are of 95 %.", "",
    ]  # fmt: skip
    for name in dict.fromkeys(row["model"] for row in rows):
        lines += [
            f"## {name}",
            "",
            "| network | size | memory | error | verdict | clock |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_row(row) for row in rows if row["model"] == name]
        lines.append("")
    left = dict.fromkeys(f"{row['network']}: {row['left out']}" for row in found["rows"] if "left out" in row)
    lines += [*(["Left out here:", "", *(f"- {each}" for each in left), ""] if left else []), "## What it says", ""]
    lines += [*_says(rows), "", f"{found['cpu']}; {', '.join(f'{k} {v}' for k, v in found['versions'].items())}."]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    size = "-" if row["size"] is None else f"{row['size']:.3f}"
    error, clock = (Interval(**row[key]) for key in ("error", "clock"))
    return f"| {row['network']} | {size} | {row['memory']:.3f} | {error} | {row['verdict']} | {clock} |"


def _says(rows: list[dict[str, Any]]) -> list[str]:
    """Sentences that the figures decide."""
    said = []
    for name in dict.fromkeys(row["model"] for row in rows):
        own = {row["network"]: row for row in rows if row["model"] == name}
        full, eight = own.get("OpenVINO, float32"), own.get("OpenVINO and NNCF, W8A8")
        if full and eight:
            apart = eight["clock"]["high"] < full["clock"]["low"]
            word = (
                "faster than"
                if apart
                else "slower than"
                if eight["clock"]["low"] > full["clock"]["high"]
                else "no faster than"
            )
            said.append(
                f"- {name}: int8 through OpenVINO is {word} OpenVINO's float32 here ({eight['clock']['value']:.2f} against "
                f"{full['clock']['value']:.2f} of torch's time); its error is {eight['error']['value']:.2f} times the network's."
            )
        slow = [row["network"] for row in own.values() if row["clock"]["low"] > 1]
        if slow:
            said.append(
                f"- {name}: slower than the network as it is: {'; '.join(slow)}. That is a finding, not a success."
            )
        worse = [row["network"] for row in own.values() if row["verdict"] == "worse"]
        said.append(f"- {name}: worse by more than 5 %: {'; '.join(worse) or 'none'}.")
    return said


def cpu() -> str:
    """The processor, and which of its instructions int8 kernels would use."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    about = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in about.items()}
    flags = known.get("flags", "").split()
    has = [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags]
    return f"{known.get('model name', 'unknown processor')} with {', '.join(has) or 'none of the known instructions'}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["digits", "dit-digits"])
    parser.add_argument("--noises", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draw", action="store_true", help="the page alone, from the results that are there")
    given = parser.parse_args()
    if not given.draw:
        extras = {name: metadata.version(name) for name in ("openvino", "nncf", "torchao") if _there(name)}
        with cpu_threads(given.threads):
            rows = [row for name in given.models for row in measured(name, given.noises)]
        found = {
            "rows": rows, "noises": given.noises, "threads": given.threads, "cpu": cpu(), "versions": {**versions(), **extras},
        }  # fmt: skip
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


def _there(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
