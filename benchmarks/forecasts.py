"""Forecasts at few calls against baselines and the exact law: docs/forecasts.md and its picture.

    python -m benchmarks.forecasts --out benchmarks/results/forecasts.json      # minutes on one core
    python -m benchmarks.forecasts --draw benchmarks/results/forecasts.json     # docs/forecasts.svg and docs/forecasts.md

The series are of three regimes that the past tells apart only in part (`fewer.claims.series.beds`), so that the law of
what comes is a mixture that is known in closed form. Strengths and plans are chosen on windows of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.posteriors_page import NEUTRAL
from fewer import forecast
from fewer.claims.series.beds import LENGTH, PAST, TRAINING, bed
from fewer.claims.series.windows import DRAWS, drawn, guided
from fewer.evaluate.forecasts import crps, forecast_scores
from fewer.evaluate.statistics.jackknife import student
from fewer.search.posteriors import tune_posterior
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.series.baselines import Ridge, persistence
from fewer.tasks.series.windows import observed

WINDOWS, SEED, LEAST = 128, 11, 3
CALLS = (3, 5, 10, 20, 50)
TUNED = (3, 5, 10)
SHOWN = 5  # windows of the picture are drawn of its first one
LOOKS = {  # colour, line
    "exact": ("#808080", "--"), "tuned": ("#d55e00", "-"), "mmps": ("#0072b2", "-"), "tsdiff": ("#cc79a7", "-"),
    "regression": ("#009e73", ":"), "ridge": ("#e69f00", ":"), "persistence": ("#808080", ":"),
}  # fmt: skip
TITLES = {
    "exact": "exact forecast", "tuned": "`mmps`, tuned", "mmps": "`mmps`, usual plan", "tsdiff": "`tsdiff`, usual plan",
    "regression": "MMGP's regression", "ridge": "ridge regression", "persistence": "persistence",
}  # fmt: skip


def forecasts() -> Iterator[tuple[str, int, Callable[[Tensor], Tensor]]]:
    """Name, calls (0 of what makes none) and a function of pasts that gives draws (B, n, times, 1)."""
    case, model = bed(), bed().model()
    times = LENGTH - PAST
    training = torch.cat(case.windows(TRAINING, 70_000 + SEED), 1)
    yield "exact", 0, lambda pasts: case.exact(pasts, DRAWS, SEED)
    yield "regression", 0, lambda pasts: case.regressed(pasts, DRAWS, SEED)
    yield "ridge", 0, lambda pasts: Ridge.fit(training, PAST).draw(pasts, DRAWS, SEED)
    yield "persistence", 0, lambda pasts: persistence(pasts, times)[:, None].expand(-1, DRAWS, -1, -1)
    guidance = guided("quantile", SEED)
    for calls in CALLS:
        yield "mmps", calls, lambda pasts, calls=calls: drawn(case, pasts, MMPS(), calls, SEED)  # type: ignore[misc]
        yield "tsdiff", calls, lambda pasts, calls=calls: drawn(case, pasts, guidance, calls, SEED)  # type: ignore[misc]
    data = torch.cat(case.windows(128, 60_000 + SEED), 1)
    for calls in TUNED:
        found = tune_posterior(
            model, observed(model, PAST), nfe=calls, method=MMPS(), noise=0.0, data=data, pairs=64, each=4, trials=16,
            baseline_calls=calls, baselines={"mmps": MMPS()}, seed=SEED,
        )  # fmt: skip
        yield (
            "tuned",
            calls,
            lambda pasts, it=found: (
                forecast(  # type: ignore[misc]
                    model, pasts, plan=it.plan, method=it.method, n=DRAWS, seed=SEED, batch=4096
                ).samples
            ),
        )


def measure(out: Path) -> None:
    """Write all figures."""
    pasts, future = bed().windows(WINDOWS, SEED)
    rows: list[dict[str, Any]] = []
    for name, calls, draw in forecasts():
        samples = draw(pasts)
        scores = forecast_scores(samples, future)
        each = crps(samples, future)[..., 0]
        row = {
            "name": name, "calls": calls, "crps": scores.crps.to_dict(), "energy": scores.energy.to_dict(),
            "spread": scores.spread.to_dict(), "coverage": scores.coverage[0.8].to_dict(), "p": scores.p_value,
            "by_time": [student(column.tolist()).to_dict() for column in each.T],
            "first": samples[0, :, :, 0].quantile(torch.tensor([0.1, 0.5, 0.9]), dim=0).tolist(),
        }  # fmt: skip
        rows.append(row)
        print(f"{name} at {calls} calls: CRPS {scores.crps}", flush=True)
    first = {"past": pasts[0, :, 0].tolist(), "future": future[0, :, 0].tolist()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"rows": rows, "first": first}, indent=1) + "\n")


def write_page(found: dict[str, Any], page: Path) -> None:
    """The page, with its picture beside it."""
    draw_picture(found, page.with_suffix(".svg"))
    lines = []
    for row in sorted(found["rows"], key=lambda row: (list(LOOKS).index(row["name"]), row["calls"])):
        figures = " | ".join(_entry(row[key]) for key in ("crps", "energy", "spread", "coverage"))
        lines.append(f"| {TITLES[row['name']]} | {row['calls'] or ''} | {figures} |")
    table = "\n".join(lines)
    page.write_text(
        PAGE.format(
            table=table, says=says(found), windows=WINDOWS, draws=DRAWS, training=TRAINING, times=LENGTH, past=PAST
        )
    )


def says(found: dict[str, Any]) -> str:
    """The tuned plans of few calls beside the usual one of most."""
    value = {(row["name"], row["calls"]): row["crps"]["value"] for row in found["rows"]}
    tuned = ", ".join(f"{value['tuned', calls]:.3f} at {calls}" for calls in TUNED)
    return f"CRPS {tuned} calls,\n  where the usual plan has {value['mmps', CALLS[-1]]:.3f} at {CALLS[-1]}"


def _entry(figure: dict[str, float | None]) -> str:
    value, low, high = (figure[key] for key in ("value", "low", "high"))
    return f"{value:.3f} [{low or 0:.3f}, {'inf' if high is None else format(high, '.3f')}]"


def draw_picture(found: dict[str, Any], svg: Path) -> None:
    """CRPS by calls, CRPS by time ahead, and one forecast."""
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {"svg.hashsalt": "fewer", "svg.fonttype": "none", "font.size": 8} | dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), NEUTRAL
    )
    rows = {(row["name"], row["calls"]): row for row in found["rows"]}
    with plt.rc_context(style):
        figure, (by_calls, by_time, one) = plt.subplots(1, 3, figsize=(10, 3.2), facecolor="none")
        for name, (colour, line) in LOOKS.items():
            own = sorted((calls, row["crps"]) for (other, calls), row in rows.items() if other == name)
            label = TITLES[name].replace("`", "")
            if own[0][0] == 0:
                by_calls.axhline(own[0][1]["value"], color=colour, ls=line, lw=1.2, label=label)
            else:
                values = [each["value"] for _, each in own]
                reach = [
                    [each["value"] - each["low"] for _, each in own],
                    [each["high"] - each["value"] for _, each in own],
                ]
                by_calls.errorbar(
                    [n for n, _ in own], values, reach, color=colour, ls=line, marker="o", ms=3, lw=1.2, label=label
                )
            shown = rows.get((name, 0)) or rows.get((name, SHOWN))
            if shown:
                times = range(1, len(shown["by_time"]) + 1)
                by_time.plot(times, [each["value"] for each in shown["by_time"]], color=colour, ls=line, lw=1.2)
        by_calls.set(xscale="log", xlabel="calls", ylabel="CRPS", title=f"{WINDOWS} forecasts of {LENGTH - PAST} times")
        by_calls.set_xticks(CALLS, map(str, CALLS))
        by_calls.minorticks_off()
        by_time.set(xlabel="times ahead", ylabel="CRPS", title=f"by time, {SHOWN} calls")
        past, future = found["first"]["past"], found["first"]["future"]
        ahead = range(len(past), len(past) + len(future))
        one.plot(range(len(past)), past, color=NEUTRAL, lw=1.2)
        one.plot(ahead, future, "o", color=NEUTRAL, ms=3)
        for key in (("exact", 0), ("tuned", SHOWN)):
            low, middle, high = rows[key]["first"]
            colour = LOOKS[key[0]][0]
            one.fill_between(ahead, low, high, color=colour, alpha=0.25, lw=0)
            one.plot(ahead, middle, LOOKS[key[0]][1], color=colour, lw=1.2)
        one.set(xlabel="time", title="one series: central 80 %")
        for axis in (by_calls, by_time, one):
            axis.set_facecolor("none")
            axis.spines[["top", "right"]].set_visible(False)
        marks, words = by_calls.get_legend_handles_labels()
        figure.legend(marks, words, loc="lower center", ncols=len(words), frameon=False, labelcolor=NEUTRAL)
        figure.tight_layout(rect=(0, 0.08, 1, 1))
        figure.savefig(svg, metadata={"Date": None, "Creator": None}, transparent=True)
        plt.close(figure)


PAGE = """# Forecasts of series and fields

You have a diffusion or flow model of whole windows of a series, (times, channels), or of fields, (times, height, width), and
what was observed up to now. `fewer.forecast` draws what may come, p(future | past), at the calls that you allow:

```python
import torch
import fewer
from fewer.evaluate.forecasts import forecast_scores
from fewer.models.schedules import betas, discrete
from fewer.tasks.series.state_space import autoregression, window_law

law = window_law([autoregression([0.9], 0.3), autoregression([-0.6], 0.5, level=1.0)], 12)
model = fewer.Model.from_mixture(law, discrete(betas("linear")))  # or fewer.Model.from_denoiser, of shape (T, C)

windows = law.sample(16, seed=1)[0].float()
past, future = windows[:, :8], windows[:, 8:]
found = fewer.forecast(model, past[0], plan=5, n=50)
found.samples  # (50, 4, 1)
found.mean, found.quantile(0.9)  # (4, 1)
fewer.forecast(model, past[0], plan=5, n=50, horizon=20).samples  # beyond the window: (50, 20, 1)
```

The past is a measurement of the window, so `method=` takes every [posterior sampler](inverse.md) and `plan=` every plan:
steps and calls are tuned as any other. Models with channels first give `time=1`; what was observed with noise gives `noise=`.
A past that leaves nothing to forecast, has gaps, or other channels than the model is refused in a line.

From the command line, with what was observed in a file (`.npy`, or the samples of an `.npz` that fewer wrote):

```sh
fewer forecast my_models:weather --past past.npy --steps 24 --members 50 --nfe 5 --out tomorrow
```

which writes the draws, their mean and spread, and their quantiles in `tomorrow/forecast.npz`. `--plan FILE` plays a plan by the
method that it was tuned for.

How good forecasts are is said by proper scores, of many pasts with what came true:

```python
scores = forecast_scores(fewer.forecast(model, past, plan=10, n=20).samples, future)
scores.crps, scores.energy  # lower is better, and least for the true law
scores.p_value, scores.spread, scores.coverage[0.8]  # calibrated? spread over error is then 1
```

## What was measured

{windows} series of three regimes (two oscillations and a slow wandering, which the past tells apart only in part), {past}
times of which are seen and {times} of which a window has. The true law of what comes is a mixture in closed form. {draws}
draws each.

![CRPS by calls, by times ahead, and one forecast](forecasts.svg)

| forecast | calls | CRPS | energy score | spread over error | true values in central 80 % |
|---|---:|---:|---:|---:|---:|
{table}

**How to read it.** The exact forecast is what no method can beat. MMGP's regression, the baseline to beat, maps the past to
the future by principal components and Gaussian processes; ridge is linear, with its errors for a spread. Both were trained on
{training} windows, for this past and this horizon alone, while one model of windows answers for any. That model is exact here,
as if it had been trained on endless data: a learned one has an error of its own, and regressions of more windows a smaller one.

- `mmps` is the method to begin with. What it lacks to the exact forecast is its guess of the data's law given a noisy state,
  not its steps: more than 10 calls bring little.
- Tuning (`tune_posterior` with the operator `observed(model, times)`) makes few calls count: {says}.
- `tsdiff` guides by a likelihood of fixed width, whatever the level: its draws are too wide, and it stays behind a
  regression.

## Tuned for few calls

```python
from fewer.search.posteriors import tune_posterior
from fewer.tasks.series.windows import observed

tuned = tune_posterior(model, observed(model, 8), nfe=4, noise=0.0, pairs=8, each=2, trials=2, baseline_calls=4)
found = fewer.forecast(model, past[0], plan=tuned.plan)  # by tuned.method, which the plan has
```

(The numbers are for a quick look.) The claim `forecast/tuned` in the [evidence](evidence.md) says what 5 tuned calls are
worth against 100 usual ones.

## Other ways to forecast

- `tsdiff-refine` improves a simple forecast by 20 calls: `fewer.tasks.series.refine.Refinement().refine(model, past, base,
  windows=..)`.
- `rolling` draws any horizon, a frame every few calls, by a network that is told a time for each frame; any plan is the path
  of a frame: `fewer.tasks.series.rolling.rolling(model, past, horizon, plan, every=2)`.
- `dyffusion` needs a forecaster and an interpolator, and no noise levels: `fewer.tasks.series.dyffusion.DYffusion(forecaster,
  interpolator, horizon).draw(start)`. With exact networks the paper's rule, which draws fresh noise for every interpolation,
  makes its draws too wide; `kept=True`, one noise a draw, does better.
- `energy-interpolant` goes from the present state to the next by a drift, and keeps fields without divergence:
  `fewer.tasks.series.interpolants.Interpolant(..).draw(drift, start, horizon, steps=4)`. With an exact drift the usual
  coefficients forecast as well as the exact law at 4 calls; those that keep the energy on the way bend the path, which costs steps.
- `mmgp` predicts fields on meshes of shapes that change: `fewer.tasks.series.mmgp.MMGP.fit(meshes, fields, numbers)`.

What each is worth, also where its paper's claim is not confirmed with exact networks, is on [their page](rooms/tasks.md).

Made by `python -m benchmarks.forecasts`; all figures are in `benchmarks/results/forecasts.json`.
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="measure, and write the figures there")
    parser.add_argument("--draw", type=Path, help="draw the figures of this file, and write the page")
    parser.add_argument("--page", type=Path, default=Path("docs/forecasts.md"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.out:
        measure(given.out)
    if given.draw:
        write_page(json.loads(given.draw.read_text()), given.page)


if __name__ == "__main__":
    main()
