"""The plan that is saved is never one that the table of its search clearly beats."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fewer
from fewer.engine import sample
from fewer.errors import NotFinite
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.held_out import held_out_noise
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.scoring import Quality
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import Endings, endings, typical
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.verdict import of_ratio, tells
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.plan import Plan
from fewer.search.choice import LONGEST, Terms, contenders, judge
from fewer.search.strategy import Candidate

FIRST = 16


def mixture(seed: int) -> Model:
    components = fewer.GaussianMixture.random((3,), components=4, seed=seed)
    return Model.from_mixture(components, Flow(), hash=f"exact {seed}")


class Scores:
    """An evaluator whose plans have given squared errors, by their names; infinite ones are not finite samples.

    The samples (n, 1) are their roots, and the reference's are 0.
    """

    def __init__(self, errors: dict[str, torch.Tensor]) -> None:
        self.given, self.model = errors, mixture(0)
        self.image_errors = None

    def extend(self, n: int) -> None:
        assert n <= LONGEST * FIRST

    def samples(self, plan: Plan, first: int = 0, last: int | None = None) -> torch.Tensor:
        found = self.given[plan.name][first:last]
        if not found.isfinite().all():
            raise NotFinite(f"{plan.name} is not finite")
        return found.sqrt()[:, None]

    def errors(self, samples: torch.Tensor) -> torch.Tensor:
        return samples[:, 0].square()

    def compared(self, a: torch.Tensor, b: torch.Tensor, alpha: float = 0.05) -> Endings:
        return endings(self.errors(a), self.errors(b), None, alpha)

    def pair_figures(self, samples: torch.Tensor) -> dict[str, Interval]:
        errors = self.errors(samples)
        return {"paired_rmse": paired.rmse(errors), "typical_error": typical(errors)}

    def quality(self, samples: torch.Tensor) -> Quality:
        return Quality(self.pair_figures(samples))

    @property
    def target(self) -> torch.Tensor:
        return torch.zeros(LONGEST * FIRST, 1, dtype=torch.float64)


def outcomes(draw: st.DrawFn) -> tuple[dict[str, torch.Tensor], list[str]]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    names = ["tuned", *(f"standard {i}" for i in range(draw(st.integers(1, 12))))]
    spread = draw(st.sampled_from([0.1, 1.0, 3.0]))  # of log errors: the last have tails that few noises carry
    common = torch.randn(LONGEST * FIRST, generator=generator, dtype=torch.float64)
    errors = {}
    for name in names:
        own = torch.randn(LONGEST * FIRST, generator=generator, dtype=torch.float64)
        shift = draw(st.sampled_from([-1.0, -0.05, 0.0, 0.05, 1.0]))
        errors[name] = (shift + spread * (common + own) / 2).exp()
        if draw(st.integers(0, 9)) == 0:
            errors[name][0] = math.inf
    return errors, names


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_no_table_beats_the_plan_that_is_taken(data: st.DataObject) -> None:
    errors, (tuned, *standards) = data.draw(st.composite(outcomes)())
    plan = fewer.standard("ddim", mixture(0), 2, "logsnr")
    searched = {name: data.draw(st.floats(0.01, 10.0)) for name in standards}  # says nothing of the held-out noises
    ranked = [Candidate(plan.named(name), searched[name], "standard") for name in sorted(standards, key=searched.get)]
    finite = [c for c in contenders(ranked) if errors[c.plan.name].isfinite().all()]
    if not finite:
        with pytest.raises(NotFinite):
            judge(Scores(errors), 2, Candidate(plan.named(tuned), 0.1, "made"), ranked, Terms(FIRST))
        return
    scores = Scores(errors)
    outcome = judge(scores, 2, Candidate(plan.named(tuned), 0.1, "made"), ranked, Terms(FIRST))
    own = outcome.chosen.samples
    assert own.isfinite().all()
    for other in outcome.standards:
        assert scores.compared(other.samples, own).decision(0.05) != "better"
    if outcome.verdict.recommended == "standard" and errors[tuned].isfinite().all():
        again = endings(errors[tuned][: len(own)], scores.errors(own))
        assert again.decision(0.05) != "better" or outcome.verdict.decision in ("cannot tell", "better", "not worse")
    if outcome.verdict.ratio is not None and not tells(outcome.verdict.ratio):
        assert outcome.verdict.decision == "cannot tell"


def test_a_standard_plan_that_the_search_missed_is_played_where_its_figure_says_so() -> None:
    """The figure that a table shows of a plan is from the search's noises until the plan is played on fresh ones."""
    good = torch.full((LONGEST * FIRST,), 1e-4, dtype=torch.float64)
    names = [f"standard {i}" for i in range(9)]
    nowhere = torch.full_like(good, math.inf)
    errors = {name: 100 * good * (1 + i) for i, name in enumerate(names)} | {"missed": good, "nowhere": nowhere}
    plan = fewer.standard("ddim", mixture(0), 2, "logsnr")
    ranked = [
        Candidate(plan.named(name), 0.005, "standard", {"typical_error": {"n": 32, "high": 0.006}}) for name in names
    ]
    ranked.append(Candidate(plan.named("missed"), 0.01, "standard", {"typical_error": {"n": 8, "high": 0.02}}))
    ranked.append(Candidate(plan.named("nowhere"), 0.01, "standard", {"typical_error": {"n": 8, "high": 0.02}}))
    outcome = judge(Scores(errors), 2, None, ranked, Terms(FIRST))
    assert outcome.plan.name == "missed 2"


@pytest.mark.parametrize("standards", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_plan_that_is_no_better_than_the_best_of_many_is_hardly_ever_said_to_be(standards: int) -> None:
    """The baseline is chosen on the noises that compare it; 5 % of the verdicts may be wrong, of 30 no more than 6 then."""
    plan = fewer.standard("ddim", mixture(0), 2, "logsnr")
    names = [f"standard {i}" for i in range(standards)]
    ranked = [Candidate(plan.named(name), 0.1, "standard") for name in names]
    wrong = 0
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        spread = torch.randn(standards + 1, LONGEST * FIRST, generator=generator, dtype=torch.float64)
        errors = dict(zip(["tuned", *names], spread.exp(), strict=True))
        outcome = judge(
            Scores(errors), 2, Candidate(plan.named("tuned"), 0.1, "made"), ranked, Terms(FIRST, 0.0, most=2 * FIRST)
        )
        wrong += outcome.verdict.decision == "better"
    assert wrong <= 6


def test_the_last_look_is_where_the_evaluations_end() -> None:
    """With one look the whole chance of error is that look's, so that more is decided by as few noises."""
    plan = fewer.standard("ddim", mixture(0), 2, "logsnr")
    noise = torch.randn(2, LONGEST * FIRST, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = {"tuned": (noise[0] - 1).exp(), "standard": noise[1].exp()}
    ranked = [Candidate(plan.named("standard"), 0.1, "standard")]
    intervals = []
    for most in (None, FIRST, FIRST - 1):
        terms = Terms(FIRST, late=lambda: True, most=most)
        outcome = judge(Scores(errors), 2, Candidate(plan.named("tuned"), 0.1, "made"), ranked, terms)
        assert len(outcome.chosen.samples) == FIRST
        intervals.append(outcome.verdict.ratio)
    spent, whole, least = intervals
    assert spent is not None
    assert whole is not None
    assert whole == least
    assert spent.low < whole.low < whole.high < spent.high


def test_so_few_samples_that_a_share_cannot_show_are_not_the_last_where_more_can_be_had() -> None:
    """A clearly smaller error on 16 noises, none of which ends elsewhere: 17 % might, so that more are played."""
    plan = fewer.standard("ddim", mixture(0), 2, "logsnr")
    noise = torch.randn(2, LONGEST * FIRST, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = {"tuned": (0.1 * noise[0] - 4).exp(), "standard": (0.1 * noise[1]).exp()}
    ranked = [Candidate(plan.named("standard"), 0.1, "standard")]
    for most, played in ((None, LONGEST * FIRST), (3 * FIRST, 3 * FIRST), (FIRST, FIRST)):
        outcome = judge(Scores(errors), 2, Candidate(plan.named("tuned"), 0.1, "made"), ranked, Terms(FIRST, most=most))
        assert (outcome.verdict.decision, len(outcome.chosen.samples)) == ("better", played)
        assert ("at most" in outcome.verdict.reason) == (played < 59)


def test_where_evaluations_are_for_one_plan_it_is_the_best_standard_one() -> None:
    """Whatever else competes, such as the pipeline as it is at these calls, which may be a far weaker baseline."""
    plan = fewer.standard("ddim", mixture(0), 2, "logsnr")
    errors = {name: torch.full((LONGEST * FIRST,), 1.0 + i, dtype=torch.float64) for i, name in enumerate("abc")}
    ranked = [Candidate(plan.named(name), 0.1, "standard") for name in "ab"]
    terms = Terms(FIRST, fits=lambda evaluations: False)
    outcome = judge(Scores(errors), 2, None, ranked, terms, cheaper=[plan.named("c")])
    assert [each.plan.name for each in outcome.standards] == ["a"]


def test_an_interval_that_says_nothing_is_put_into_words() -> None:
    wide = Interval(0.3, 1e-9, 432560718.964, 64)
    assert not tells(wide)
    assert "432560718" not in of_ratio(wide, "ddim logsnr")
    assert tells(Interval(0.01, 0.001, 0.5, 64))
    assert of_ratio(Interval(0.7, 0.64, 0.77, 64), "ddim") == "0.700 [0.640, 0.770] of that of ddim"


def gap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.mean(0) - y.mean(0)).square().mean()


@pytest.mark.parametrize(
    ("seed", "metric", "options"),
    [
        pytest.param(0, None, {"nfe": 3, "noises": 8, "fresh": 16}, marks=pytest.mark.slow),
        pytest.param(1, OwnMetric("gap", gap), {"nfe": 4, "noises": 16, "fresh": 16}, marks=pytest.mark.slow),
        pytest.param(2, None, {"nfe": [2, 3], "noises": 8, "fresh": 16}, marks=pytest.mark.slow),
        (3, OwnMetric("gap", gap), {"nfe": 2, "noises": 16, "fresh": 32, "time": 5.0}),
        (4, None, {"nfe": 4, "noises": 16, "fresh": 16, "evaluations": 2500}),
    ],
)
def test_no_small_search_saves_a_plan_that_another_of_its_table_clearly_beats(
    seed: int, metric: OwnMetric | None, options: dict[str, object]
) -> None:
    model = mixture(seed)
    result = fewer.tune(model, seed=seed, trials=1, metric=metric, **options)  # type: ignore[arg-type]
    saved = result.results["quality"]["typical_error"]
    played = {}
    for outcome in result.front:
        played |= {f"{each.plan.name} {each.plan.nfe}": each for each in outcome.standards}
    last = result.front[-1]
    n = len(last.chosen.samples)
    noise = held_out_noise(model, n, seed)
    target = sample(model, reference_plan(model, result.results["reference"]["nfe"]), noise=noise, batch=64)
    own = paired.squared_errors(last.chosen.samples, target)
    for row in result.table:
        if row["nfe"] > result.plan.nfe:
            continue
        figure = row["quality"].get("typical_error")
        assert row["kind"] != "standard" or row["fresh"] or not figure or figure["high"] >= saved["low"], row["name"]
        same = played.get(f"{row['name']} {row['nfe']}")
        if same is not None and row["fresh"]:
            m = min(n, len(same.samples))
            assert endings(paired.squared_errors(same.samples[:m], target[:m]), own[:m]).decision(0.05) != "better", (
                row["name"]
            )
