"""`fewer.tune`: searches a plan for each budget, and says on fresh noise whether it is worth having."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.measures.features import Features
from fewer.measures.own_metric import OwnMetric
from fewer.models.model import Model
from fewer.tuning.asked import Asked, budgets, calls_of, check, enough_noises, limited
from fewer.tuning.baselines import Scoring
from fewer.tuning.joint import names_of
from fewer.tuning.results import Result
from fewer.tuning.run import Progress, Run
from fewer.tuning.space import check_keep


def tune(
    model: Model,
    nfe: int | Sequence[int] | None = None,
    *,
    seed: int = 0,
    guidance: float | None = None,
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
    start_from: Sequence[str] = (),
    command: str = "",
    progress: Progress | None = None,
) -> Result:
    """Search a plan of `nfe` network evaluations per sample, or of `macs` multiply-adds, or of `ms` milliseconds.

    Several budgets of one kind give a front.

    Ranks every standard plan, moves the best of them by `strategy`, and compares the outcome with the best standard
    plan on noises that the search never saw. The standard plan is kept unless the other is shown to be not worse.

    guidance  scale of classifier-free guidance that the fine solution has; guided rows cost 2 evaluations. Unless it is
              kept, the scale of each row is searched, and with a budget in nfe which rows make the second pass
    keep      columns that may not change, of steps, solver, guidance, blocks
    margin    by how much of the standard plan's error 'not worse' may be worse
    match     with the pipeline's own scheduler and step count as the standard: the cheapest budget whose plan is not
              worse (nfe then bounds the budgets that are tried; by default 1 to 40)
    macs, ms  budgets in which a plan may have more rows than they pay for in full, with blocks of the network left out:
              milliseconds per sample, 16 at a time, on this machine as it is now; held against the standard plans of as
              many whole calls as the budget pays for
    data      images (N, *shape), for distances to them in the results
    features  that these distances are on, instead of the data's principal components
    metric    one more figure in the results, against the data or else the fine solution
    out       folder for plan.json, results.json, report.html, study.db, front/ and samples.npz
    trials    most candidates after the standard plans, a budget; `time` most seconds of search, all budgets together
    resume    go on with the search in `out`
    noises    starting noises of the search: by default as many as hold 16384 numbers, from 96 to 256;
              `fresh` other ones that the comparison begins with, from 64 to 256, of up to four times as many
    evaluations  most network evaluations of the search (of single samples), all budgets together
    strategy  what moves the plans, of the tuning methods (`fewer methods`): by default times and coefficients together,
              under guidance with the passes too ("guided-rows"), and for macs and ms, unless blocks are kept, "joint"
              besides, or else the one that is named and leaves blocks out
    start_from  strategies that run before it, one after another, each within `trials` and all within `evaluations`: it
              starts from the best of their plans and the standard ones, and the best of what all have chosen is taken

    Raises InputError for budgets, scales and words that make no sense for the model.
    """
    kept = check_keep(keep)
    blocks = names_of(model) if "blocks" not in kept and (macs is not None or ms is not None) else ()
    found = limited(model, blocks, nfe, match, macs, ms)
    calls = calls_of(model, found, guidance) if found else budgets(nfe, match)
    asked = Asked(
        calls, seed, guidance, kept, margin, trials, time, match,
        enough_noises(model, 96) if noises is None else noises, enough_noises(model, 64) if fresh is None else fresh,
        strategy, evaluations, tuple(start_from), found,
    )  # fmt: skip
    check(asked, model)
    scoring = Scoring(data, features, metric)
    scoring.check(asked.fresh)
    folder = None if out is None else _folder(Path(out))
    try:
        return Run(model, asked, scoring, folder, resume, batch or MICRO_BATCH, command, progress).run()
    finally:
        if folder is not None and not any(folder.iterdir()):  # nothing came of it
            folder.rmdir()


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        trial = out / ".writable"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise InputError(f"out folder {out} cannot be written: {error.strerror}") from error
    return out
