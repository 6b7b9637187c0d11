"""`fewer.tune`: searches a plan for each budget, and says on fresh noise whether it is worth having."""

from __future__ import annotations

import time as clock_time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.measures.features import Features
from fewer.measures.own_metric import OwnMetric
from fewer.models.model import Model
from fewer.tuning.asked import Asked, budgets, calls_of, check, enough_noises, limited
from fewer.tuning.baselines import Scoring
from fewer.tuning.free_scale import AUTO, NOISES, PLACEHOLDER, FreeRun, check_auto, free_scale
from fewer.tuning.joint import names_of
from fewer.tuning.kept_scale import kept_scale, scale_identity
from fewer.tuning.outfolder import claimed
from fewer.tuning.results import Result
from fewer.tuning.run import Progress, Run
from fewer.tuning.space import check_keep
from fewer.tuning.starts import From, check_starts, split
from fewer.tuning.study import STUDY, check_free


def tune(
    model: Model,
    nfe: int | Sequence[int] | None = None,
    *,
    seed: int = 0,
    guidance: float | Literal["auto"] | None = None,
    keep: Iterable[str] = (),
    margin: float = 0.05,
    match: bool = False,
    macs: float | Sequence[float] | None = None,
    ms: float | Sequence[float] | None = None,
    data: Tensor | None = None,
    features: Features | None = None,
    metric: OwnMetric | None = None,
    out: str | Path | None = None,
    trials: int | None = None,
    time: float | None = None,
    resume: bool = False,
    batch: int | None = None,
    noises: int | None = None,
    fresh: int | None = None,
    evaluations: int | None = None,
    strategy: str = "gauss-newton",
    start_from: From = (),
    command: str = "",
    progress: Progress | None = None,
) -> Result:
    """Search a plan of `nfe` network evaluations per sample, or of `macs` multiply-adds, or of `ms` milliseconds.

    Several budgets of one kind give a front.

    Ranks every standard plan, moves the best of them by `strategy`, and compares the outcome with the best standard
    plan on noises that the search never saw. The standard plan is kept unless the other is shown to be not worse.

    guidance  scale of classifier-free guidance that the fine solution has; guided rows cost 2 evaluations. Unless it is
              kept, the scale of each row is searched, and with a budget in nfe or macs which rows make the second pass.
              "auto": the scale whose samples are nearest to `data`, by `metric` or else the Frechet distance; it is
              searched first
    keep      columns that may not change, of steps, solver, guidance, blocks
    margin    by how much of the standard plan's error 'not worse' may be worse
    match     with the pipeline's own scheduler and step count as the standard: the cheapest budget whose plan is not
              worse (nfe then bounds the budgets that are tried; by default 1 to 40)
    macs, ms  budgets in which a plan may have more rows than they pay for in full, with blocks of the network left out:
              milliseconds per sample, 16 at a time, on this machine as it is now; held against the standard plans of as
              many whole calls as the budget pays for. Where the model comes with another (`others`), rows call that one
              instead, and no blocks are left out
    data      images (N, *shape), for distances to them in the results
    features  that these distances are on, instead of the data's principal components
    metric    one more figure in the results, against the data or else the fine solution
    out       folder for plan.json, results.json, report.html, study.db, front/ and samples.npz; one search at a time has
              it, and what it writes there comes whole
    trials    most candidates after the standard plans, a budget; `time` most seconds of search, all budgets together
    resume    go on with the search in `out`
    noises    starting noises of the search: by default as many as hold 16384 numbers, from 96 to 256;
              `fresh` other ones that the comparison begins with, from 64 to 256, of up to four times as many
    evaluations  most network evaluations of the search (of single samples), all budgets together
    strategy  what moves the plans, of the tuning methods (`fewer methods`): by default times and coefficients together,
              under guidance with the passes too ("guided-rows"), and for macs and ms, unless blocks are kept, "joint"
              besides, from rows of the passes that were found and from rows that all make both, or else the one that is
              named and leaves blocks out; with a second network "networks" besides
    start_from  strategies that run before it, one after another, each within `trials` and all within `evaluations`: it
              starts from the best of their plans and the standard ones, and the best of what all have chosen is taken.
              And plans (`fewer.Plan`, or their files, by a path or a word that ends in .json) of as many evaluations as a
              budget, such as one tuned before this model was fine-tuned: Gauss-Newton begins with them, too

    Raises InputError for budgets, scales and words that make no sense for the model, and for a folder that cannot be
    written or that another search has.
    """
    kept = check_keep(keep)
    free = "blocks" not in kept and not model.others and (macs is not None or ms is not None)
    blocks = names_of(model) if free else ()
    found = limited(model, blocks, nfe, match, macs, ms)
    first, plans = split(start_from, model)

    def asking(scale: float | None) -> Asked:
        calls = calls_of(model, found, scale) if found else budgets(nfe, match)
        asked = Asked(
            calls, seed, scale, kept, margin, trials, time, match,
            enough_noises(model, 96) if noises is None else noises, enough_noises(model, 64) if fresh is None else fresh,
            strategy, evaluations, first, plans, found,
        )  # fmt: skip
        check(asked, model)
        check_starts(asked, model)
        return asked

    scoring = Scoring(data, features, metric)
    if isinstance(guidance, str):
        check_auto(guidance, model, scoring)
    asked = asking(PLACEHOLDER if isinstance(guidance, str) else guidance)
    scoring.check(asked.fresh)
    with nullcontext() if out is None else claimed(Path(out)) as folder:
        if folder is not None:
            names = [f"nfe-{calls}" for calls in asked.budgets[: 1 if match else None]]
            check_free(folder / STUDY, names, resume)
        size, began = batch or MICRO_BATCH, clock_time.monotonic()
        if guidance != AUTO:
            return Run(model, asked, scoring, folder, resume, size, command, progress).run()
        scales = kept_scale(
            folder, resume, scale_identity(model, scoring, seed, NOISES),
            lambda: free_scale(model, scoring, seed, size, progress),
        )  # fmt: skip
        asked = asking(scales.scale)
        return FreeRun(model, asked, scoring, folder, resume, size, command, progress).start(scales, began).run()
