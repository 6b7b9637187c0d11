"""How often the two figures of a verdict hold the truth, and how often a verdict is reached, on plans of an exact model.

    python -m benchmarks.verdicts [--repeats 1000] [--pool 8192] [--draw]

Standard plans of 5, 8 and 10 calls of the 16x16 image mixture are played on a pool of noises, from which verdicts on n = 20,
48, 64, 128 and 256 of them are drawn again and again, each as of a last look, but for the energy distance; the truth of a pair is
its figure on the whole pool. Beside each verdict stands the one by the ratio of RMSEs on the same noises, as it was before.
Writes benchmarks/results/verdicts.json and the tables and the picture of docs/evidence.md; `--draw` writes these from the stored
figures. One thread, about half an hour.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

import fewer
from benchmarks.coverage import ends, percent
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import Endings, endings
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.verdict import settled
from fewer.noise import Stream, unit_noise

ROOT = Path(__file__).parent.parent
STORED, PAGE = ROOT / "benchmarks" / "results" / "verdicts.json", ROOT / "docs" / "evidence.md"
PICTURE = ROOT / "docs" / "evidence.svg"
BUDGETS = (5, 8, 10)
PLANS = ("unipc logsnr", "dpmpp-3m logsnr", "dpmpp-2m karras", "unipc exponential")
SIZES, FEW = (64, 128, 256), (20, 48)  # noises of a verdict, the latter where evaluations are few
SEED, MARGIN = 11, 0.05
BY_ITSELF = 0.1  # alpha at which each of the two intervals of a comparison has the level of 95 %
APART = 1.2  # true ratio of errors, from which on two plans should be told apart
DRAWN, SHOWN = ("8 unipc logsnr", "8 dpmpp-2m karras"), 512  # plans of the picture, and how many samples of theirs
BEGIN, END = "<!-- figures: made by `python -m benchmarks.verdicts --draw` -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Pool:
    """One plan on all noises: squared errors (N,), and which samples end in another mode than the reference."""

    errors: Tensor
    apart: Tensor


@dataclass(frozen=True)
class Row:
    """A pair of plans at n noises: its truth, and how many of `repeats` intervals hold it and verdicts are reached.

    undecided, wrong          verdicts that cannot tell, and that say the contrary of the truth
    rmse_undecided, .._wrong  the same of verdicts by the ratio of RMSEs, whose truth is that of the whole pool, too
    rmse_covered              intervals of that ratio that hold it
    """

    pair: str
    n: int
    repeats: int
    error: float
    shares: tuple[float, float]
    rmse: float
    error_covered: int
    share_covered: int
    rmse_covered: int
    undecided: int
    wrong: int
    rmse_undecided: int
    rmse_wrong: int

    @property
    def contrary(self) -> bool:
        """Whether one plan has the smaller error and the other fewer samples that end elsewhere: then neither is better."""
        return (self.error < 1) != (self.shares[0] < self.shares[1])

    @property
    def clear(self) -> bool:
        """Whether one plan is truly the better one by a fifth of the error or more."""
        return not self.contrary and max(self.error, 1 / self.error) >= APART


def pools(n: int) -> dict[str, Pool]:
    """Every plan on the pool, by its calls and name."""
    model = fewer.load("mixture16")
    noise = unit_noise(SEED, Stream.HELD_OUT.numbers(n), model.shape)
    evaluator = Evaluator(model, noise, batch=512)
    plans = {}
    for nfe, name in itertools.product(BUDGETS, PLANS):
        solver, grid = name.split()
        plans[f"{nfe} {name}"] = fewer.standard(solver, model, nfe, grid)
    samples = {name: evaluator.samples(plan) for name, plan in plans.items()}
    evaluator = evaluator.with_reference(list(samples.values()))
    found = {}
    for name, x in samples.items():
        apart = evaluator.elsewhere(x)
        assert apart is not None  # the mixture's components are modes
        found[name] = Pool(evaluator.errors(x), apart)
    return found


def compared(a: Pool, b: Pool, rows: Tensor | slice = slice(None), alpha: float = 0.05) -> Endings:
    """Two plans on some of the noises."""
    return endings(a.errors[rows], b.errors[rows], (a.apart[rows], b.apart[rows]), alpha)


def truth_of(error: float, share: float) -> set[str]:
    """The decisions that are right where the figures are these."""
    says = {
        "better": (error < 1 and share <= MARGIN) or (share < 0 and error <= 1 + MARGIN),
        "not worse": error <= 1 + MARGIN and share <= MARGIN,
        "worse": error > 1 + MARGIN or share > MARGIN,
    }
    return {decision for decision, right in says.items() if right}


def measured(plans: dict[str, Pool], repeats: int, sizes: Sequence[int]) -> Iterator[Row]:
    """The rows of all pairs of plans of as many calls, at these numbers of noises."""
    generator = torch.Generator().manual_seed(SEED)
    for nfe in BUDGETS:
        names = [name for name in plans if name.startswith(f"{nfe} ")]
        for one, other in itertools.combinations(names, 2):
            a, b = plans[one], plans[other]
            whole = compared(a, b)
            assert whole.error is not None
            error, share = whole.error.value, whole.elsewhere.value
            rmse = math.exp(float(paired.log_ratio(a.errors, b.errors)[0]))
            right, by_rmse = truth_of(error, share), truth_of(rmse, 0.0)
            for n in sizes:
                tied = Interval(0.0, -math.inf, math.inf, n)  # energy distances, which are not measured here
                counts = dict.fromkeys(
                    ("error", "share", "rmse", "undecided", "wrong", "rmse_undecided", "rmse_wrong"), 0
                )
                for _ in range(repeats):
                    rows = torch.randperm(len(a.errors), generator=generator)[:n]
                    found, ratio = compared(a, b, rows, BY_ITSELF), paired.ratio(a.errors[rows], b.errors[rows])
                    verdict, before = settled(compared(a, b, rows), MARGIN, tied), paired.decide(ratio, MARGIN)
                    counts["error"] += found.error is not None and found.error.low <= error <= found.error.high
                    counts["share"] += found.elsewhere.low <= share <= found.elsewhere.high
                    counts["rmse"] += ratio.low <= rmse <= ratio.high
                    counts["undecided"] += verdict == "cannot tell"
                    counts["wrong"] += verdict not in right | {"cannot tell"}
                    counts["rmse_undecided"] += before == "cannot tell"
                    counts["rmse_wrong"] += before not in by_rmse | {"cannot tell"}
                shares = whole.shares[0].value, whole.shares[1].value
                yield Row(
                    f"{one} / {other.split(' ', 1)[1]}", n, repeats, error, shares, rmse, counts["error"], counts["share"],
                    counts["rmse"], *(counts[key] for key in ("undecided", "wrong", "rmse_undecided", "rmse_wrong")),
                )  # fmt: skip


def page(rows: list[Row]) -> str:
    """The tables."""
    lines = [
        "| noises | error's interval holds the truth, % | share's, % | RMSE ratio's, % | no verdict on clear pairs, % "
        "| the same by RMSE, % | no verdict on contrary pairs, % | by RMSE, % | wrong verdicts, % | by RMSE, % |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for n in (*FEW, *SIZES):
        some = [row for row in rows if row.n == n]
        clear, contrary = [row for row in some if row.clear], [row for row in some if row.contrary]
        lines.append(f"| {n} | " + " | ".join([
            *(rate(some, key) for key in ("error_covered", "share_covered", "rmse_covered")),
            *(rate(which, key) for which in (clear, contrary) for key in ("undecided", "rmse_undecided")),
            *(rate(some, key) for key in ("wrong", "rmse_wrong")),
        ]) + " |")  # fmt: skip
    pairs = len(rows) // len((*FEW, *SIZES))
    clear, contrary = (sum(getattr(row, key) for row in rows) // len((*FEW, *SIZES)) for key in ("clear", "contrary"))
    lines += [
        "",
        f"{pairs} pairs of standard plans of {', '.join(map(str, BUDGETS))} calls on the 16x16 image mixture, whose components are "
        f"known modes, {rows[0].repeats} repetitions each; {clear} pairs are clear: one plan is better by a fifth "
        f"of the error or more, and not worse elsewhere. {contrary} are contrary: one plan has the smaller error, the other fewer "
        "other images. Brackets are exact binomial intervals.",
    ]  # fmt: skip
    return "\n".join(lines)


def rate(rows: list[Row], key: str) -> str:
    """Per cent of all repetitions of these rows."""
    return ends(percent(sum(getattr(row, key) for row in rows), sum(row.repeats for row in rows))) if rows else "–"


def draw(a: Pool, b: Pool) -> str:
    """The picture as SVG: distances of two plans to the reference, sample by sample, on logarithmic axes."""
    x, y = (plan.errors.clamp(min=1e-30).sqrt().log10() for plan in (b, a))
    low, high = float(torch.cat([x, y]).min()) - 0.05, float(torch.cat([x, y]).max()) + 0.05
    away = (a.apart | b.apart).tolist()

    def place(value: float) -> float:
        return 320 * (value - low) / (high - low)

    dots = [
        f'<circle cx="{60 + place(u):.1f}" cy="{340 - place(v):.1f}" r="2" class="{"away" if other else "here"}"/>'
        for u, v, other in zip(x.tolist(), y.tolist(), away, strict=True)
    ]
    ticks = [value for value in (0.003, 0.01, 0.03, 0.1, 0.3) if low < math.log10(value) < high]
    marks = [
        f'<text x="{60 + place(math.log10(value)):.1f}" y="358" text-anchor="middle">{value:g}</text>'
        f'<text x="54" y="{344 - place(math.log10(value)):.1f}" text-anchor="end">{value:g}</text>'
        for value in ticks
    ]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 390" width="560" height="390" role="img">
<title>Distances of the samples of two plans to the reference, one dot a noise</title>
<style>
text {{ font: 12px sans-serif; fill: #666 }} line {{ stroke: #888 }} .here {{ fill: #0f766e }} .away {{ fill: #c2410c }}
</style>
<line x1="60" y1="340" x2="380" y2="340"/><line x1="60" y1="340" x2="60" y2="20"/>
<line x1="60" y1="340" x2="380" y2="20" stroke-dasharray="3 4"/>
{chr(10).join(marks + dots)}
<text x="220" y="380" text-anchor="middle">distance to the reference, {DRAWN[1]}</text>
<text x="16" y="180" text-anchor="middle" transform="rotate(-90 16 180)">{DRAWN[0]}</text>
<circle cx="402" cy="36" r="4" class="here"/>
<text x="412" y="40">ends where the reference</text><text x="412" y="55">does under both plans</text>
<circle cx="402" cy="76" r="4" class="away"/>
<text x="412" y="80">another image under</text><text x="412" y="95">one of them</text>
</svg>
"""


def write(rows: list[Row]) -> None:
    """The tables into the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{page(rows)}\n{END}{rest.split(END)[1]}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="repetitions of a pair and size")
    parser.add_argument("--pool", type=int, default=8192, help="noises that stand for all")
    parser.add_argument("--draw", action="store_true", help="write the page from the stored figures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.draw:
        write([Row(**{**row, "shares": tuple(row["shares"])}) for row in json.loads(STORED.read_text())["rows"]])
        return
    plans = pools(given.pool)
    rows = []
    for row in itertools.chain(*(measured(plans, given.repeats, sizes) for sizes in (FEW, SIZES))):
        print(row, flush=True)
        rows.append(row)
    STORED.write_text(json.dumps({"pool": given.pool, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    a, b = (Pool(plans[name].errors[:SHOWN], plans[name].apart[:SHOWN]) for name in DRAWN)
    PICTURE.write_text(draw(a, b))
    write(rows)


if __name__ == "__main__":
    main()
