"""`fewer tune --task`: a plan for measurements, y = A(x) + noise."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewer.cli import options as opt
from fewer.cli.dry_run import print_forecast
from fewer.cli.interrupted import NOTHING, if_interrupted
from fewer.cli.json_output import apart, wrote_json
from fewer.cli.progress import progress
from fewer.cli.tables import console, figure
from fewer.errors import InputError, one_line

if TYPE_CHECKING:
    from fewer.search.posterior_results import TunedTask

USUAL_NOISE = 0.05
FILES = ("plan.json", "baseline.json", "results.json", "report.html", "study.db", "front/", "samples.npz")


@dataclass(frozen=True)
class TaskOptions:
    """The options of a task, as they were given."""

    task: str
    method: str | None
    noise: float | None
    against: str | None
    nfe: str | None
    trials: int | None
    time: float | None
    evaluations: int | None


@dataclass(frozen=True)
class TunePlaces:
    """Where the results go."""

    out: Path | None
    resume: bool
    force: bool
    dry_run: bool
    json_file: Path | None


def noise_of(given: float | None, usual: float = USUAL_NOISE) -> float:
    """The deviation of the noise. Raises InputError unless it is above 0: what no noise leaves open is no density."""
    noise = usual if given is None else given
    if not 0 < noise < float("inf"):
        raise InputError(
            f"--noise is {noise:g}; expected a standard deviation above 0 in the data's unit (that of rounding to 8 bits is 0.002)"
        )
    return noise


def of_task(
    common: opt.Guided, measures: opt.Figures, asked: TaskOptions, places: TunePlaces, others: Mapping[str, Any]
) -> None:
    """Search, and say what came out; `others` are the options that a task has no use for, by whether they were given."""
    beside = {"--features": measures.features, "--metric": measures.metric, "--negative-prompt": common.negative_prompt,
              "--with": common.other}  # fmt: skip
    for name, given in {**others, **beside}.items():
        if given:
            raise InputError(f"{name} does not go with --task, whose plans are for measurements: leave it out")
    calls = _one(asked.nfe)
    noise = noise_of(asked.noise)
    opt.writable(places.json_file, ("model", "budget", "verdict"))
    from fewer.cli.loading import load_model
    from fewer.engine import MICRO_BATCH
    from fewer.evaluate.cost.pace import Forecast, batch_memory, timed_pace
    from fewer.files import file_name
    from fewer.images import read_images
    from fewer.search.outfolder import check_folder
    from fewer.search.posterior_arguments import BASELINE_CALLS, arguments
    from fewer.search.posterior_results import tune_task
    from fewer.search.study import STUDY
    from fewer.tasks.inverse.given_operators import as_operator
    from fewer.tasks.inverse.named import sampler_of

    against, baseline_calls = _against(asked.against, BASELINE_CALLS)
    for name in filter(None, (asked.method, against)):
        sampler_of(name)
    if places.out is not None:
        check_folder(places.out, places.resume, places.force)
    network, _ = load_model(common, None)
    operator = as_operator(asked.task, network.shape)
    data = None if measures.data is None else read_images(measures.data, network)
    size = common.batch or MICRO_BATCH
    request = arguments(
        network, operator, nfe=calls, method=asked.method, noise=noise, data=data, pairs=_pairs(data), each=8,
        trials=asked.trials or 40, baseline_calls=baseline_calls, baselines=None, exact=True, margin=measures.margin,
        time=asked.time, evaluations=asked.evaluations, seed=common.seed, batch=size, against=against,
    )  # fmt: skip
    folder = places.out or Path(f"fewer-{file_name(network.name)}-{file_name(asked.task)}")
    apart(places.json_file, *(folder / name for name in FILES if name != "results.json"))
    if places.dry_run:
        memory = batch_memory(network, None, min(size, request.effort.pairs * request.effort.each))
        notes = ("derivatives through the network, which most methods take, come on top", *request.notes)
        pace = timed_pace(network, None, size)
        print_forecast(
            Forecast(request.effort.evaluations, pace, memory, most=asked.time, limit=asked.evaluations, notes=notes),
            [folder / name for name in FILES],
            places.json_file,
        )
        return
    kept = f"the candidates found so far are kept in {folder}: --resume goes on with them"
    with if_interrupted(lambda: kept if (folder / STUDY).exists() else NOTHING), progress(asked.time) as report:
        found = tune_task(
            request, asked.task, folder, resume=places.resume, force=places.force,
            command=one_line(f"fewer {' '.join(sys.argv[1:])}")[:4000],
            progress=lambda done, total: report(f"candidates for {asked.task}", done, total),
        )  # fmt: skip
    if not wrote_json(found.record.to_dict(), places.json_file):
        print_task(found, folder)


def print_task(tuned: TunedTask, folder: Path) -> None:
    """The verdict, figures of the tuned plan and of the baseline, and the files."""
    from fewer.report.task_words import settings, task_sentence

    record, task = tuned.record, tuned.record.task
    assert task is not None
    out = console()
    out.print(record.summary, soft_wrap=True)
    out.print(task_sentence(record), soft_wrap=True)
    out.print(f"settings of {task.method}: {settings(task)}", soft_wrap=True)
    for p in (50, 80, 95):
        if (share := record.quality.get(f"coverage_{p}")) is not None:
            out.print(f"its central {p} % of samples hold {figure(share)} of the true values")
    for note in record.notes:
        out.print(f"note: {note}", soft_wrap=True)
    names = ("plan.json", task.baseline, "results.json", "report.html")
    out.print("  ".join(str(folder / name) for name in names), soft_wrap=True)


def _one(nfe: str | None) -> int:
    """The number of calls of a task, which has one budget."""
    if nfe is None:
        raise InputError("--task needs a budget: --nfe N")
    found = opt.budgets(nfe)
    if len(found) > 1:
        raise InputError(f"--nfe is {nfe!r}; a task is tuned for one number of calls at a time, such as 20")
    return found[0]


def _pairs(data: Any) -> int:
    """Pairs of the search: 48, or half of the data."""
    return 48 if data is None else max(8, min(48, len(data) // 2))


def _against(text: str | None, usual: int) -> tuple[str | None, int]:
    """The method and calls of METHOD or METHOD:CALLS."""
    if text is None:
        return None, usual
    name, _, calls = text.partition(":")
    if calls and not (calls.isdecimal() and 2 <= int(calls) <= opt.MOST):
        raise InputError(f"--against is {text!r:.80}; expected METHOD or METHOD:CALLS, such as dps:200")
    return name, int(calls) if calls else usual
