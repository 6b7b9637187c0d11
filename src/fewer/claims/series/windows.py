"""Forecasts by models of windows: TSDiff's guidance, refinement and synthesis, exact conditioning, and tuned plans."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer import forecast, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import share
from fewer.claims.series.beds import PAST, VP, Bed, bed, oscillation
from fewer.evaluate.forecasts import crps, forecast_scores
from fewer.evaluate.posteriors import energy_distances
from fewer.evaluate.statistics.jackknife import student
from fewer.models.schedules import Flow, VarianceExploding
from fewer.search.posteriors import tune_posterior
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.series.baselines import Ridge, persistence
from fewer.tasks.series.refine import Refinement
from fewer.tasks.series.state_space import window_law
from fewer.tasks.series.tsdiff import TSDiff
from fewer.tasks.series.windows import observed

WINDOWS, DRAWS, CALLS = 192, 12, 20
CLOSE = 8192  # windows on which two guidances are compared, which are near each other
CHOICE = 48  # windows on which a strength is chosen
STRENGTHS = (0.5, 2.0, 8.0)
BATCH = 4096
TUNED, MANY, MARGIN = 5, 100, 0.005
ROWS = "mixture of three regimes, windows of 16 times of which 8 are the past"


def scores(samples: Tensor, truth: Tensor) -> Tensor:
    """CRPS (B,) of each forecast, mean over its values."""
    return crps(samples, truth).flatten(1).mean(1)


def drawn(case: Bed, pasts: Tensor, method: PosteriorSampler, calls: int, seed: int) -> Tensor:
    """Draws (B, DRAWS, T - p, 1)."""
    return forecast(case.model(), pasts, plan=calls, method=method, n=DRAWS, seed=seed, batch=BATCH).samples


def guided(kind: str, seed: int) -> TSDiff:
    """TSDiff of this guidance at the strength of least CRPS on windows of their own."""
    case = bed()
    pasts, future = case.windows(CHOICE, 30_000 + seed)
    each = [TSDiff(kind, strength) for strength in STRENGTHS]  # type: ignore[arg-type]
    return min(each, key=lambda method: float(scores(drawn(case, pasts, method, CALLS, seed), future).mean()))


@cache
def of_tsdiff(seed: int, sabotage: bool, kind: str, count: int = WINDOWS) -> tuple[Tensor, Tensor, Tensor]:
    """CRPS (B,) of TSDiff, and the pasts and truths. Sabotage: it sees other windows' pasts."""
    case = bed()
    pasts, future = case.windows(count, seed)
    seen = pasts.roll(int(sabotage), 0)
    return scores(drawn(case, seen, guided(kind, seed), CALLS, seed), future), pasts, future


@claim(
    "tsdiff/against-persistence",
    statement=f"Guided by its own prediction of the past, quantile by quantile, an unconditional model of windows forecasts better "
    f"than the last value does: difference of CRPS at {CALLS} calls, at the best of three strengths.",
    baseline=f"persistence; {ROWS}",
    below=0.0,
    tier="full",
)
def against_persistence(seed: int, sabotage: bool) -> Measured:
    """Sabotage: other windows' pasts."""
    mine, pasts, future = of_tsdiff(seed, sabotage, "quantile")
    its = (persistence(pasts, future.shape[1]) - future).abs().flatten(1).mean(1)
    exact = scores(bed().exact(pasts, DRAWS, seed), future)
    beside = {"crps": student(mine.tolist()), "crps of the exact forecast": student(exact.tolist())}
    return Measured(student((mine - its).tolist()), beside)


@claim(
    "tsdiff/against-mmgp",
    statement=f"It forecasts better than a conditional regression that is trained for just this: difference of CRPS at {CALLS} "
    "calls, at the best of three strengths.",
    baseline=f"MMGP's regression (principal components, a Gaussian process each) of the future on the past, from 150 "
    f"windows; {ROWS}",
    below=0.0,
    tier="full",
)
def against_regression(seed: int, sabotage: bool) -> Measured:
    """Sabotage: other windows' pasts."""
    mine, pasts, future = of_tsdiff(seed, sabotage, "quantile")
    its = scores(bed().regressed(pasts, DRAWS, seed), future)
    return Measured(student((mine - its).tolist()), {"crps of the regression": student(its.tolist())})


@claim(
    "tsdiff/quantile-against-square",
    statement=f"Guidance by quantiles forecasts better than guidance by squares: difference of CRPS at {CALLS} calls, each at the "
    "best of three strengths.",
    baseline=f"the same with a Gaussian likelihood of unit variance; {ROWS}",
    below=0.0,
    tier="full",
)
def quantile_against_square(seed: int, sabotage: bool) -> Measured:
    """Sabotage: other windows' pasts, for the quantiles."""
    mine, _, _ = of_tsdiff(seed, sabotage, "quantile", CLOSE)
    its, _, _ = of_tsdiff(seed, False, "square", CLOSE)
    return Measured(student((mine - its).tolist()))


@claim(
    "tsdiff-refine/improves",
    statement="20 calls of refinement improve simple forecasts: difference of CRPS, mean over persistence and a ridge regression "
    "with its errors.",
    baseline=f"the forecasts that it begins with; {ROWS}",
    below=0.0,
    tier="full",
)
def refines(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the model is of other windows, moved by one unit."""
    case = bed()
    pasts, future = case.windows(WINDOWS, seed)
    training = torch.cat(case.windows(500, 40_000 + seed), 1)
    last = persistence(pasts, future.shape[1])[:, None].expand(-1, DRAWS, -1, -1)
    bases = {"persistence": last, "ridge": Ridge.fit(training, PAST).draw(pasts, DRAWS, seed)}
    refinement, gained, beside = Refinement(), [], {}
    for name, base in bases.items():
        move = float(sabotage)
        found = refinement.refine(case.model(), pasts + move, base + move, windows=training, seed=seed)
        before, after = scores(base, future), scores(found, future)
        gained.append(after - before)
        beside[f"{name}: before"], beside[f"{name}: after"] = student(before.tolist()), student(after.tolist())
    return Measured(student(torch.stack(gained).mean(0).tolist()), beside)


@claim(
    "tsdiff/synthesize",
    statement=f"A ridge regression trained on 500 windows that the model drew with {CALLS} calls forecasts as well as "
    "one trained on 500 true ones: difference of mean absolute errors, at most 0.01.",
    baseline=f"the regression trained on true windows; {ROWS}",
    below=0.01,
    of=(("tasks", "tsdiff"),),
)
def synthesize(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the model draws with 1 call."""
    case, model = bed(), bed().model()
    pasts, future = case.windows(2000, seed)
    true = torch.cat(case.windows(500, 50_000 + seed), 1)
    made = sample(model, standard("ddim", model, 1 if sabotage else CALLS, "logsnr"), n=500, seed=seed, batch=500)
    errors = [(Ridge.fit(each, PAST).mean(pasts) - future).abs().flatten(1).mean(1) for each in (made, true)]
    return Measured(student((errors[0] - errors[1]).tolist()), {"trained on true windows": student(errors[1].tolist())})


@claim(
    "forecast/exact-of-gaussians",
    statement="Of a Gaussian process the forecast by MMPS and DPM-Solver++(2M) of 20 calls has the closed-form law, "
    "under VP, VE and flow: energy distance of windows, mean over pasts, at most 0.01.",
    baseline="the closed-form forecast; an oscillation, windows of 16 times of which 8 are the past",
    below=0.01,
)
def exact_of_gaussians(seed: int, sabotage: bool) -> Measured:
    """Sabotage: other windows' pasts."""
    case = Bed(window_law(oscillation(8, 0.97, 0.15), 16), 8)
    pasts, _ = case.windows(12, seed)
    laws, found = case.laws(pasts), list[float]()
    for schedule in (VP, Flow(), VarianceExploding(0.01, 50.0)):
        model = case.model(schedule)
        plan = standard("dpmpp-2m", model, 20, "logsnr")
        given = pasts.roll(int(sabotage), 0)
        samples = forecast(model, given, plan=plan, method=MMPS(8), n=32, seed=seed, batch=BATCH).samples
        found += energy_distances(case.whole(pasts, samples), laws, seed).tolist()
    return Measured(student(found))


@claim(
    "forecast/tuned",
    statement=f"A plan of {TUNED} calls tuned on 64 windows by energy score (levels, noise, strength of MMPS) forecasts as well as "
    f"the usual one of {MANY}: difference of CRPS on other windows, at most {MARGIN}.",
    baseline=f"MMPS on DDIM steps, {MANY} calls; {ROWS}",
    below=MARGIN,
    tier="full",
)
def tuned(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the tuned plan sees other windows' pasts."""
    case, model = bed(), bed().model()
    found = tune_posterior(
        model, observed(model, PAST), nfe=TUNED, method=MMPS(), noise=0.0, data=torch.cat(case.windows(128, 60_000 + seed), 1),
        pairs=64, each=4, trials=16, baseline_calls=TUNED, baselines={"mmps": MMPS()}, seed=seed,
    )  # fmt: skip
    pasts, future = case.windows(WINDOWS, seed)
    made = forecast(
        model, pasts.roll(int(sabotage), 0), plan=found.plan, method=found.method, n=DRAWS, seed=seed, batch=BATCH
    )
    mine, its, usual, regression, exact = (
        scores(each, future)
        for each in (
            made.samples, drawn(case, pasts, MMPS(), MANY, seed), drawn(case, pasts, MMPS(), TUNED, seed),
            case.regressed(pasts, DRAWS, seed), case.exact(pasts, DRAWS, seed),
        )
    )  # fmt: skip
    return Measured(
        student((mine - its).tolist()),
        {
            "tuned": student(mine.tolist()), f"usual, {MANY} calls": student(its.tolist()),
            f"usual, {TUNED} calls": student(usual.tolist()), "MMGP's regression": student(regression.tolist()),
            "tuned less the regression": student((mine - regression).tolist()), "exact": student(exact.tolist()),
        },
    )  # fmt: skip


@claim(
    "forecast-scores/level",
    statement="Of draws of the true forecast the test of calibration says no at level 5 % in 2 to 9 % of 300 sets of 24 pasts.",
    baseline="the level; forecasts N(m, 1) of four values, whose truths depend on each other",
    above=0.02,
    below=0.09,
)
def level(seed: int, sabotage: bool) -> Measured:
    """Sabotage: draws 0.6 times as wide."""
    generator, hits, beds = torch.Generator().manual_seed(seed), 0, 300
    for _ in range(beds):
        common = torch.randn(24, 10, 1, generator=generator)
        x = 0.8 * common + 0.6 * torch.randn(24, 10, 4, generator=generator)
        draws = x[:, 1:] * (0.6 if sabotage else 1.0)
        hits += forecast_scores(draws, x[:, 0], levels=()).p_value < 0.05
    return Measured(share(hits, beds))
