"""Claims of races, of seeds and winners, and of scores predicted from the noises that plans disagree on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import torch
from scipy.stats import spearmanr
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, sample
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean, share
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics.disagreement import Disagreement
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import decide, squared_errors
from fewer.evaluate.statistics.racing import ALPHA, Race, looks, race, ratios
from fewer.evaluate.statistics.seeds import SeedScan, rescore, seed_scan
from fewer.models.schedules import Discrete, betas, discrete
from fewer.noise import unit_noise
from fewer.samplers import standard_plans

CORRELATION = 0.5  # of the two plans' log errors
MARGIN = 0.05


def log_normal(ratio: float, spread: tuple[float, float], n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Squared errors of two plans with the true RMSE ratio `ratio`, log-normal of these log-sds."""
    z = torch.randn(2, n, generator=generator, dtype=torch.float64)
    z[1] = CORRELATION * z[0] + math.sqrt(1 - CORRELATION**2) * z[1]
    a, b = ((sd * row - sd**2 / 2).exp() for sd, row in zip(spread, z, strict=True))
    return ratio**2 * a, b


def wrong(decision: str, ratio: float) -> bool:
    """What was said is false of the true ratio."""
    return (
        (decision == "better" and ratio >= 1)
        or (decision == "not worse" and ratio > 1 + MARGIN)
        or (decision == "worse" and ratio <= 1 + MARGIN)
    )


def peeked(a: Tensor, b: Tensor) -> Race:
    """The broken race: the interval of a single look, at 5 %, taken after every 32 samples."""
    for n in range(64, len(a) + 1, 32):
        ratio = ratios(a[None, :n], b[None, :n], ALPHA)[0]
        if decide(ratio, MARGIN) != "cannot tell":
            break
    return Race(decide(ratio, MARGIN), ratio, n)


def raced(ratio: float, spread: tuple[float, float], most: int, generator: torch.Generator, peeking: bool) -> Race:
    """One race on log-normal errors."""
    a, b = log_normal(ratio, spread, most, generator)
    return peeked(a, b) if peeking else race(lambda i, j: (a[i:j], b[i:j]), MARGIN, most)


@claim(
    "racing/level",
    statement="Races of two plans decide wrongly in less than 5 % at the hardest ratios of RMSEs: exact ties, and just "
    "on either side of the margin; log-normal squared errors of log-sd 0.5, 1 and 2, looks from 64 to 486 samples",
    baseline="the 5 % allowed; beside, log-sd 2 in one plan and 1 in the other, where races are not safe",
    below=0.05,
)
def level(seed: int, sabotage: bool) -> Measured:
    """Share of wrong decisions in 360 races. Sabotage: the interval of a single look, taken all the time."""
    generator = torch.Generator().manual_seed(seed)
    hard = (1.0, 1 + MARGIN, (1 + MARGIN) * (1 + 1e-9))

    def among(spreads: tuple[tuple[float, float], ...], each: int) -> Interval:
        cases = [(r, s) for r in hard for s in spreads for _ in range(each)]
        return share(sum(wrong(raced(r, s, 486, generator, sabotage).decision, r) for r, s in cases), len(cases))

    return Measured(among(((0.5, 0.5), (1, 1), (2, 2)), 40), {"unequal tails": among(((2, 1), (1, 2)), 12)})


@claim(
    "racing/samples",
    statement="Over ratios of RMSEs 1 (a tie), 0.9, 1.2 and 1.5 in equal parts, a race needs less than a third of the "
    "samples of the fixed-size test that decides rightly as often (the same number of samples for every pair); "
    "log-normal squared errors of log-sd 0.5",
    baseline="one 95 % interval after a fixed number of samples, chosen so that the power is equal",
    below=1 / 3,
)
def samples(seed: int, sabotage: bool) -> Measured:
    """Mean samples of a race over those of the fixed-size test, 8 groups of 48. Sabotage: races that look once only."""
    generator, most = torch.Generator().manual_seed(seed), 1094
    sizes = [n for n, _ in looks(most)]
    shares = []
    for _ in range(8):
        used, right, fixed = 0, 0, [0] * len(sizes)
        for ratio in (1.0, 0.9, 1.2, 1.5) * 12:
            a, b = log_normal(ratio, (0.5, 0.5), most, generator)
            found = race(lambda i, j, a=a, b=b: (a[i:j], b[i:j]), MARGIN, most, most if sabotage else 64)  # type: ignore[misc]
            used += found.samples
            right += found.decision != "cannot tell" and not wrong(found.decision, ratio)
            a, b = log_normal(ratio, (0.5, 0.5), most, generator)
            for at, n in enumerate(sizes):
                said = decide(ratios(a[None, :n], b[None, :n], ALPHA)[0], MARGIN)
                fixed[at] += said != "cannot tell" and not wrong(said, ratio)
        shares.append(used / 48 / same_power(sizes, fixed, right))
    return Measured(mean(shares))


def same_power(sizes: list[int], fixed: list[int], wanted: int) -> float:
    """Samples at which the fixed-size test is right as often, interpolated; the last size where it is less often."""
    for at, here in enumerate(fixed):
        if here >= wanted:
            before = fixed[at - 1] if at else 0
            start = sizes[at - 1] if at else 0
            return start + (sizes[at] - start) * (wanted - before) / max(here - before, 1)
    return float(sizes[-1])


@cache
def schedule() -> Discrete:
    """The schedule of latent diffusion."""
    return discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")


def mixture(seed: int) -> Model:
    """An exact model: six Gaussians in eight dimensions."""
    return Model.from_mixture(GaussianMixture.random(8, components=6, seed=seed), schedule())


@cache
def plans(nfe: int) -> tuple[Plan, ...]:
    """The standard plans of a budget: they depend on the schedule alone."""
    return tuple(standard_plans(mixture(0), nfe))


def played(model: Model, some: tuple[Plan, ...], noise: Tensor) -> Tensor:
    """Squared errors (plans, n) against the flow in 96 calls, plans without finite samples left out."""
    fine = sample(model, reference_plan(model, 96), noise=noise, batch=len(noise))
    errors = [squared_errors(sample(model, plan, noise=noise, batch=len(noise)), fine) for plan in some]
    return torch.stack([e for e in errors if e.isfinite().all()])


def scans(seed: int, fixed_noises: bool) -> Iterator[SeedScan]:
    """One plan on each of 6 mixtures, scored under 64 seeds on 128 noises each."""
    for number in range(6):
        model = mixture(7919 * seed + number)
        noise = unit_noise(7919 * seed + number, range(64 * 128), model.shape)
        if fixed_noises:
            noise = noise[:128].repeat(64, 1)
        yield seed_scan(played(model, plans(6)[:1], noise).reshape(64, 128), MARGIN)


@claim(
    "seed-scan/extremes",
    statement="The best of 64 seeds (128 noises each) has an RMSE more than 5 % below the median seed's, for one and "
    "the same plan on exact mixtures: outliers are easily found, so that a gain of 5 % on one seed tells nothing",
    baseline="the median seed of the same plan",
    above=0.05,
)
def extremes(seed: int, sabotage: bool) -> Measured:
    """Mean gain of the best seed over 6 mixtures. Sabotage: a scan whose seeds do not change the noises."""
    found = list(scans(seed, sabotage))
    return Measured(
        mean([scan.best for scan in found]),
        {
            "spread": mean([scan.spread.value for scan in found]),
            "worst": mean([scan.worst for scan in found]),
            "null changes that win by 5 %": mean([scan.null_wins.value for scan in found]),
        },
    )


@claim(
    "seed-scan/winners-curse",
    statement="The winner of all standard plans of 6 calls chosen on 16 noises, scored again on held-out noises, has its "
    "true RMSE on average, within 10 %; its score on the noises of the selection (beside) is too good",
    baseline="the winner's RMSE on the whole population, 2,048 noises from which all are drawn with replacement",
    above=0.9,
    below=1.1,
)
def curse(seed: int, sabotage: bool) -> Measured:
    """Rescored over true RMSE of 12 winners, mean over 5 mixtures. Sabotage: the selection's noises again."""
    fresh_ratio, selected_ratio = [], []
    generator = torch.Generator().manual_seed(seed)
    for number in range(5):
        model = mixture(6007 * seed + number)
        errors = played(model, plans(6), unit_noise(6007 * seed + number, range(2048), model.shape))
        fresh_here, selected_here = [], []
        for _ in range(12):
            chosen_on, fresh_on = (torch.randint(2048, (n,), generator=generator) for n in (16, 1024))
            found = rescore(errors[:, chosen_on], lambda w, e=errors, at=chosen_on if sabotage else fresh_on: e[w, at])  # type: ignore[misc]
            true = errors[found.winner].mean().sqrt().item()
            fresh_here.append(found.fresh.value / true)
            selected_here.append(found.selected / true)
        fresh_ratio.append(sum(fresh_here) / 12)
        selected_ratio.append(sum(selected_here) / 12)
    return Measured(mean(fresh_ratio), {"selection / true": mean(selected_ratio)})


@claim(
    "disagreement/rank",
    statement="Scores predicted from the 8 noises on which known plans disagree most rank held-out plans better than "
    "scores predicted from 8 random noises: difference of Spearman's correlations with the score on all 512, plans "
    "within three times the best RMSE, over exact mixtures",
    baseline="the same ridge regression on as many random noises",
    above=0.0,
)
def rank(seed: int, sabotage: bool) -> Measured:
    """Mean difference over 16 mixtures. Sabotage: each new plan is given another one's signature."""
    k, by_most, by_least, ranks = 8, [], [], []
    generator = torch.Generator().manual_seed(seed)
    for number in range(16):
        model = mixture(4001 * seed + number)
        errors = played(model, plans(6) + plans(8), unit_noise(4001 * seed + number, range(512), model.shape))
        score = errors.mean(1).sqrt()
        errors, score = errors[score <= 3 * score.min()], score[score <= 3 * score.min()]
        found = []
        for _ in range(4):
            order = torch.randperm(len(errors), generator=generator)
            known, new = errors[order[: 2 * len(order) // 3]], errors[order[2 * len(order) // 3 :]]
            full = score[order[2 * len(order) // 3 :]]
            at_random = torch.randperm(errors.shape[1], generator=generator)[:k]
            least = known.log().var(0).argsort()[:k]
            found.append([
                held_out(Disagreement.fit(known, k), new.roll(1, 0) if sabotage else new, full),
                held_out(Disagreement.fit(known, k, chosen=at_random), new, full),
                held_out(Disagreement.fit(known, k, chosen=least), new, full),
            ])  # fmt: skip
        most, other, fewest = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
        by_most.append(most - other)
        by_least.append(fewest - other)
        ranks.append(most)
    return Measured(mean(by_most), {"rank correlation": mean(ranks), "of the least disagreement": mean(by_least)})


def held_out(fitted: Disagreement, errors: Tensor, score: Tensor) -> float:
    """Spearman's correlation of predicted and full scores of plans that the fit has not seen."""
    return float(spearmanr(fitted.predict(errors[:, fitted.chosen]), score).statistic)
