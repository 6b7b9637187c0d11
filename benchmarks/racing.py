"""How often races decide wrongly, and how many samples they save.

    python -m benchmarks.racing [--pairs 250] [--wilcoxon 100] [--most 16384] [--seed 0]

The pairs. On each of five exact Gaussian mixtures every standard plan of 6 and 8 calls is played on a pool of noises,
and those within three times the smallest RMSE are kept. A race draws noises from the pool with replacement, so that the
pool's ratio of RMSEs is exactly the true one. Four effect sizes, `pairs` pairs each: exact ties (two plans whose errors
change places by a coin at every draw), and real pairs whose larger RMSE is up to 1.1, 1.1 to 1.35, and 1.35 to 3 times
the smaller, in either order.

A wrong decision is "better" where the true ratio is 1 or more, "not worse" where it is above 1 + margin, or "worse"
where it is at most 1 + margin; "cannot tell" is none. The power is the share of decisions that are made and right. The
fixed-size test asks the 95 % interval once, after N samples, the same N for every pair, since it does not know which
are far apart; N is where its power over all pairs is that of the races (interpolated in log N, `most` if it has less
power there). Both are asked on the same draws, so that what they have in common does not blur their ratio. The saving
is the mean number of samples of a race over that N, with a 95 % interval by resampling pairs within each effect size,
of which there are equally many by design. Beside: the same interval asked at every look ("peeking"), and optuna's
WilcoxonPruner asked at the same looks of the first `wilcoxon` pairs of an effect size, which only ever says "worse"
(wrong where the true ratio is at most 1). Last, races of 16 candidates of a mixture: how often the best was kept, and
the share of 16 x `most` samples spent. Writes benchmarks/results/racing.json. It needs optuna: pip install 'fewer[racing]'.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from torch import Tensor

import fewer
from fewer.claims.repeated import mean, share
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import decide, squared_errors
from fewer.evaluate.statistics.racing import ALPHA, looks, race, race_all, ratios
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.samplers import standard_plans

MIXTURES, POOL, WITHIN, FIELDS, CANDIDATES = 5, 16384, 3.0, 20, 16
Row = dict[str, float | str | bool]
EFFECTS = {"tie": (1.0, 1.0), "to 1.1": (1.0, 1.1), "1.1 to 1.35": (1.1, 1.35), "1.35 to 3": (1.35, 3.0)}


def pool(seed: int) -> Tensor:
    """Squared errors (plans, POOL) of the standard plans within three times the best on a random mixture."""
    schedule = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
    model = fewer.Model.from_mixture(fewer.GaussianMixture.random(8, components=6, seed=seed), schedule)
    noise = unit_noise(seed, range(POOL), model.shape)
    fine = fewer.sample(model, reference_plan(model, 128), noise=noise, batch=2048)
    plans = [plan for nfe in (6, 8) for plan in standard_plans(model, nfe)]
    errors = [squared_errors(fewer.sample(model, plan, noise=noise, batch=2048), fine) for plan in plans]
    usable = torch.stack([e for e in errors if e.isfinite().all()])
    return usable[usable.mean(1) <= WITHIN**2 * usable.mean(1).min()]


@dataclass(frozen=True)
class Pair:
    """Two plans' errors on the pool, the true ratio of their RMSEs, and whether a coin swaps them at every draw."""

    a: Tensor
    b: Tensor
    ratio: float
    tie: bool

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Errors of both on n noises of the pool."""
        at = torch.randint(POOL, (n,), generator=generator)
        a, b = self.a[at], self.b[at]
        if self.tie:
            heads = torch.rand(n, generator=generator) < 0.5
            a, b = torch.where(heads, a, b), torch.where(heads, b, a)
        return a, b


def pairs_of(errors: Tensor, effect: str, count: int, generator: torch.Generator) -> list[Pair]:
    """Random pairs of an effect size; a tie is made of any two plans."""
    low, high = EFFECTS[effect]
    rmse = errors.mean(1).sqrt()
    apart = (rmse[:, None] / rmse[None]).log().abs()
    fits = apart > 0 if effect == "tie" else (apart > math.log(low)) & (apart <= math.log(high))
    found = fits.nonzero()
    chosen = found[torch.randint(len(found), (count,), generator=generator)].tolist()
    return [Pair(errors[i], errors[j], 1.0 if effect == "tie" else float(rmse[i] / rmse[j]), effect == "tie")
            for i, j in chosen]  # fmt: skip


def is_wrong(decision: str, ratio: float, margin: float) -> bool:
    """Whether what was said is false."""
    return (
        (decision == "better" and ratio >= 1)
        or (decision == "not worse" and ratio > 1 + margin)
        or (decision == "worse" and ratio <= 1 + margin)
    )


def is_right(decision: str, ratio: float, margin: float) -> bool:
    """Whether something was said, and true."""
    return decision != "cannot tell" and not is_wrong(decision, ratio, margin)


def wilcoxon(a: Tensor, b: Tensor, sizes: list[int], p: float) -> tuple[bool, int]:
    """Whether optuna's pruner drops a against the finished b, and after how many samples."""
    study = optuna.create_study()
    done = {i: float(e) for i, e in enumerate(b)}
    study.add_trial(optuna.trial.create_trial(value=float(b.mean()), intermediate_values=done))
    pruner = optuna.pruners.WilcoxonPruner(p_threshold=p)
    for n in sizes:
        so_far = {i: float(e) for i, e in enumerate(a[:n])}
        trial = optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, intermediate_values=so_far)
        if pruner.prune(study, trial):
            return True, n
    return False, sizes[-1]


def size_of_power(power: Tensor, sizes: list[int], asked: float) -> float:
    """Where the fixed-size test has this power, interpolated in log N; the last size where it has less throughout."""
    for at, here in enumerate(power.tolist()):
        if here >= asked:
            if at == 0:
                return float(sizes[0])
            before = float(power[at - 1])
            return sizes[at - 1] * (sizes[at] / sizes[at - 1]) ** ((asked - before) / (here - before))
    return float(sizes[-1])


def saving(
    samples: Tensor, raced: Tensor, fixed: Tensor, sizes: list[int], strata: Tensor, seed: int
) -> tuple[Interval, float]:
    """Mean samples of a race over N of the fixed-size test of its power, and N; pairs are resampled within strata."""

    def figure(rows: Tensor) -> tuple[float, float]:
        n = size_of_power(fixed[rows].mean(0), sizes, float(raced[rows].mean()))
        return float(samples[rows].mean()) / n, n

    generator, count = torch.Generator().manual_seed(seed), len(samples)
    members = [(strata == stratum).nonzero().squeeze(1) for stratum in strata.unique()]

    def resampled() -> Tensor:
        return torch.cat([rows[torch.randint(len(rows), (len(rows),), generator=generator)] for rows in members])

    value, n = figure(torch.arange(count))
    again = sorted(figure(resampled())[0] for _ in range(2000))
    return Interval(value, min(value, again[49]), max(value, again[1949]), count), n


def said_at(a: Tensor, b: Tensor, sizes: list[int], margin: float) -> list[list[str]]:
    """What the fixed-size interval says of pairs (R, most) after each of these sizes, by pair."""
    by_size = [[decide(ratio, margin) for ratio in ratios(a[:, :n], b[:, :n], ALPHA)] for n in sizes]
    return [list(said) for said in zip(*by_size, strict=True)]


def fields(pools: list[Tensor], most: int, seed: int) -> dict[str, object]:
    """Races of many."""
    kept, settled_well, settled, spent = 0, 0, 0, []
    for number in range(FIELDS * len(pools)):
        errors, generator = pools[number % len(pools)], torch.Generator().manual_seed(seed + number)
        errors = errors[torch.randperm(len(errors), generator=generator)[:CANDIDATES]]
        at = torch.randint(POOL, (most,), generator=generator)
        rmse = errors.mean(1).sqrt()
        found = race_all(lambda rows, i, j, e=errors, at=at: e[list(rows)][:, at[i:j]], len(errors), most=most)
        kept += int(rmse.argmin()) in found.kept
        settled += found.settled
        settled_well += found.settled and float(rmse[found.leader] / rmse.min()) <= 1.05
        spent.append(sum(found.samples) / (len(errors) * most))
    races = FIELDS * len(pools)
    return {
        "races": races, "best kept": share(kept, races).to_dict(), "settled": share(settled, races).to_dict(),
        "settled with a leader within the margin": share(settled_well, max(settled, 1)).to_dict(),
        "samples, share of all": mean(spent).to_dict(),
    }  # fmt: skip


def row_of(pair: Pair, a: Tensor, b: Tensor, said: list[str], sizes: list[int], margin: float) -> Row:
    """One race, and what peeking at the fixed-size interval would have said: its first word."""
    found = race(lambda i, j: (a[i:j], b[i:j]), margin, sizes[-1])
    peeking = next((one for one in said if one != "cannot tell"), "cannot tell")
    return {
        "samples": found.samples, "missed": found.decision == "cannot tell",
        "wrong": is_wrong(found.decision, pair.ratio, margin), "right": is_right(found.decision, pair.ratio, margin),
        "peeking wrong": is_wrong(peeking, pair.ratio, margin),
    }  # fmt: skip


def pruned(pair: Pair, a: Tensor, b: Tensor, sizes: list[int]) -> Row:
    """What optuna's pruner does, at two thresholds."""
    row: Row = {}
    for p in (0.1, 0.05):
        dropped, n = wilcoxon(a, b, sizes, p)
        row |= {f"wilcoxon {p} drops": dropped, f"wilcoxon {p} samples": n,
                f"wilcoxon {p} wrong": dropped and pair.ratio <= 1}  # fmt: skip
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=250, help="of each effect size, a multiple of 5")
    parser.add_argument("--wilcoxon", type=int, default=100, help="of these, that the pruner is asked of: it is slow")
    parser.add_argument("--most", type=int, default=16384)
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    pools = [pool(given.seed + number) for number in range(MIXTURES)]
    spreads = torch.cat([errors.log().std(1) for errors in pools])
    sizes = [n for n, _ in looks(given.most)]
    rows: list[Row] = []
    fixed: list[list[bool]] = []
    for stratum, effect in enumerate(EFFECTS):
        for number in range(MIXTURES):
            generator = torch.Generator().manual_seed(1000 * given.seed + 10 * number + stratum)
            pairs = pairs_of(pools[number], effect, given.pairs // MIXTURES, generator)
            a, b = (
                torch.stack(side) for side in zip(*(pair.draw(given.most, generator) for pair in pairs), strict=True)
            )
            for at, (pair, said) in enumerate(zip(pairs, said_at(a, b, sizes, given.margin), strict=True)):
                rows.append(row_of(pair, a[at], b[at], said, sizes, given.margin) | {"effect": effect})
                if at < given.wilcoxon // MIXTURES:
                    rows[-1] |= pruned(pair, a[at], b[at], sizes)
                fixed.append([is_right(one, pair.ratio, given.margin) for one in said])
        print(effect, "done", flush=True)
    samples, right = (torch.tensor([float(row[key]) for row in rows]) for key in ("samples", "right"))
    strata = torch.tensor([list(EFFECTS).index(str(row["effect"])) for row in rows])
    ratio, n = saving(samples, right, torch.tensor(fixed).double(), sizes, strata, given.seed)

    def counted(key: str, among: list[Row]) -> dict[str, float | int]:
        asked = [bool(row[key]) for row in among if key in row]
        return share(sum(asked), len(asked)).to_dict()

    keys = ("wrong", "right", "missed", "peeking wrong", "wilcoxon 0.1 wrong", "wilcoxon 0.05 wrong",
            "wilcoxon 0.1 drops")  # fmt: skip
    found_all = {
        "pairs": len(rows), "most": given.most, "margin": given.margin, "looks": sizes,
        "log-sd of errors, 5 to 95 % of plans": spreads.quantile(torch.tensor([0.05, 0.5, 0.95]).double()).tolist(),
        "samples of the fixed-size test of equal power": ratio.to_dict(), "that test's N": n,
        **{key: counted(key, rows) for key in keys},
        "by effect": {
            effect: {
                **{key: counted(key, some) for key in keys},
                "samples": mean([float(row["samples"]) for row in some]).to_dict(),
                "wilcoxon 0.1 samples": mean(
                    [float(row["wilcoxon 0.1 samples"]) for row in some if "wilcoxon 0.1 samples" in row]
                ).to_dict(),
            }
            for effect in EFFECTS
            for some in [[row for row in rows if row["effect"] == effect]]
        },
        "fields": fields(pools, given.most, given.seed),
    }  # fmt: skip
    print(json.dumps(found_all, indent=1))
    (Path(__file__).parent / "results" / "racing.json").write_text(json.dumps(found_all, indent=1) + "\n")


if __name__ == "__main__":
    main()
