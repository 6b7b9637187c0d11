"""The race on held-out noise that ends in a verdict, and the race that ranks the standard plans."""

import math
from dataclasses import replace

import pytest
import torch

import fewer
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.held_out import HeldOut, Source
from fewer.evaluate.reference import Reference
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.endings import typical, typical_ratio
from fewer.models.schedules import Flow
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.samplers import standard_plans
from fewer.search.choice import LONGEST, Terms, judge
from fewer.search.objective import Objective
from fewer.search.ranking import FIRST, Ranking
from fewer.search.strategies.standards import Standards
from fewer.search.strategy import Candidate
from fewer.search.verdict import luck

FRESH = 64


@pytest.fixture(scope="module")
def model() -> fewer.Model:
    mixture = fewer.GaussianMixture.random((3,), components=4, seed=1, classes=2)
    return fewer.Model.from_mixture(mixture, Flow(), conditional=True, hash="exact")


@pytest.fixture(scope="module")
def fine() -> Plan:
    mixture = fewer.GaussianMixture.random((3,), components=4, seed=1, classes=2)
    return fewer.standard("dpmpp-3m", fewer.Model.from_mixture(mixture, Flow()), 64, "logsnr")


class Counted(Source):
    """A source that remembers how many noises were asked for."""

    def draw(self, first, n):
        if first:
            self.plan.evidence["asked"].append(n)
        return super().draw(first, n)


class Court:
    """An evaluator of `FRESH` held-out noises; `asked` are the numbers that it was brought to."""

    def __init__(self, model: fewer.Model, fine: Plan) -> None:
        self.asked: list[int] = []
        self.source = Counted(model, 3, replace(fine, evidence={"asked": self.asked}))
        self.evaluator = self.noises(FRESH)

    def noises(self, n: int) -> HeldOut:
        return HeldOut.of(self.source, n, Reference(torch.empty(0), 64, 64, 0.0, 0, 64), Scoring())

    def of(self, tuned: Plan | None, standards: list[Plan], margin: float = 0.05):
        candidate = None if tuned is None else Candidate(tuned, 0.1, "made")
        ranked = [Candidate(plan, 0.1 * (1 + at), "standard") for at, plan in enumerate(standards)]
        return judge(self.evaluator, tuned.nfe if tuned else 5, candidate, ranked, Terms(FRESH, margin))


def standard(model, name, nfe=5, steps="logsnr") -> Plan:
    return fewer.standard(name, model, nfe, steps)


def test_a_clear_verdict_takes_no_further_noise(model, fine):
    court = Court(model, fine)
    outcome = court.of(standard(model, "dpmpp-2m", 12), [standard(model, "ddim", 3), standard(model, "euler", 3)])
    assert outcome.verdict.decision == "better"
    assert outcome.verdict.recommended == "tuned"
    assert court.asked == []
    assert outcome.verdict.ratio.n == len(outcome.chosen.samples) == FRESH
    court = Court(model, fine)
    outcome = court.of(standard(model, "ddim", 3), [standard(model, "dpmpp-2m", 12)])
    assert (outcome.verdict.decision, outcome.verdict.recommended) == ("worse", "standard")
    assert court.asked == []


def test_noise_is_drawn_until_it_is_clear_and_no_more_than_four_times(model, fine):
    court = Court(model, fine)
    near = [standard(model, "deis", 6), standard(model, "ipndm", 6)]
    outcome = court.of(standard(model, "dpmpp-2m", 6), near, margin=0.3)
    n = outcome.verdict.ratio.n
    assert FRESH <= n <= LONGEST * FRESH
    assert court.asked == sorted(court.asked)
    assert max(court.asked, default=FRESH) == n == len(court.evaluator)
    for measured in (outcome.chosen, *outcome.standards):
        assert len(measured.samples) == n
        assert measured.quality.figures["paired_rmse"].n == n


def test_the_same_plan_is_not_worse_at_once_and_its_interval_a_point(model, fine):
    court = Court(model, fine)
    plan = standard(model, "dpmpp-2m", 6)
    verdict = court.of(plan, [plan]).verdict
    assert (verdict.decision, verdict.ratio.value, court.asked) == ("not worse", 1.0, [])


def test_further_noises_are_those_that_an_evaluator_of_more_would_have_had(model, fine):
    court = Court(model, fine)
    court.evaluator.extend(100)
    whole = court.noises(100)
    assert torch.equal(court.evaluator.noise, whole.noise)
    assert torch.equal(court.evaluator.labels, whole.labels)
    assert torch.allclose(court.evaluator.target, whole.target, atol=1e-5)
    assert court.evaluator.evaluations == whole.evaluations
    plan = standard(model, "ddim")
    assert torch.allclose(court.evaluator.samples(plan)[FRESH:], court.evaluator.samples(plan, FRESH), atol=1e-5)
    assert court.evaluator.evaluations == whole.evaluations + 5 * (100 + 36)


def test_the_opponent_is_the_best_on_the_first_noises(model, fine):
    court = Court(model, fine)
    good, bad = standard(model, "dpmpp-2m", 8), standard(model, "ddim", 3)
    outcome = court.of(standard(model, "unipc", 8), [bad, good])
    assert outcome.verdict.against == good.name == outcome.standards[0].plan.name


def test_without_a_tuned_plan_the_standard_one_is_kept(model, fine):
    outcome = Court(model, fine).of(None, [standard(model, "dpmpp-2m")])
    assert outcome.verdict.recommended == "standard"
    assert outcome.verdict.ratio is None
    assert outcome.plan.name.startswith("dpmpp-2m")


def test_the_verdict_tells_what_luck_of_the_seed_does(model, fine):
    verdict = Court(model, fine).of(standard(model, "dpmpp-2m"), [standard(model, "ddim")]).verdict
    told = verdict.to_dict()["seeds"]
    assert (told["seeds"], told["samples"]) == (8, verdict.ratio.n // 8)
    assert told["spread"]["low"] <= told["spread"]["value"] <= told["spread"]["high"]
    assert told["best"] >= 0 <= told["worst"]
    errors = torch.rand(67, generator=torch.Generator().manual_seed(0))
    scores = errors[:64].reshape(8, 8).double().mean(1).sqrt()
    assert luck(errors, 0.05).best == pytest.approx(float(1 - scores.min() / scores.median()))
    assert luck(errors[:63], 0.05) is None
    assert luck(torch.zeros(64), 0.05) is None


def problem(model: fewer.Model, fine: Plan, n: int = 64) -> Objective:
    noise, labels = unit_noise(0, range(n), model.shape), model.labels(n)
    return Objective(model, noise, labels, fewer.sample(model, fine, noise=noise, labels=labels))


def test_a_ranking_finds_the_best_with_fewer_evaluations(model, fine):
    task = problem(model, fine)
    plans = standard_plans(model, 6)[::4]
    exact = {plan.name: float(task.squared_errors(plan).mean().sqrt()) for plan in plans}
    all_of_it = task.evaluations
    task.counter.reset()
    found = list(Standards(tuple(plans)).search(task, None, [], 0))
    assert [candidate.plan.name for candidate in found] == [plan.name for plan in plans]
    assert task.evaluations < 0.7 * all_of_it
    best = min(found, key=lambda candidate: candidate.error)
    assert exact[best.plan.name] <= 1.05 * min(exact.values())
    for candidate in found:
        figure = candidate.state["paired_rmse"]
        assert figure["low"] <= candidate.error <= figure["high"]
        if figure["n"] == len(task):
            assert candidate.error == pytest.approx(exact[candidate.plan.name], rel=1e-5)
        else:
            assert FIRST <= figure["n"] < len(task)
            assert exact[candidate.plan.name] > min(exact.values())


def test_an_interrupted_ranking_goes_on_where_it_stopped(model, fine):
    task, plans = problem(model, fine), standard_plans(model, 4)[:12]
    whole = list(Standards(tuple(plans)).search(task, None, [], 0))
    rest = list(Standards(tuple(plans)).search(task, None, whole[:7], 0))
    assert [(c.plan.name, c.error) for c in rest] == [(c.plan.name, c.error) for c in whole[7:]]


def test_a_plan_that_was_stopped_is_placed_by_the_ratio_estimate(model, fine):
    task = problem(model, fine)
    race = Ranking(task)
    good, bad = standard(model, "dpmpp-2m", 12), standard(model, "ddim", 3)
    first, second = race.score(good), race.score(bad)
    of_good, of_bad = task.squared_errors(good), task.squared_errors(bad)[: second.rmse.n]
    assert first.rmse.value == pytest.approx(paired.rmse(of_good).value, rel=1e-5)
    assert first.typical.value == pytest.approx(typical(of_good).value, rel=1e-5)
    n = second.rmse.n
    assert n == second.typical.n < len(task)
    estimate = of_good.mean().sqrt() * (of_bad.mean() / of_good[:n].mean()).sqrt()
    assert second.rmse.value == pytest.approx(float(estimate), rel=1e-5)
    estimate = typical(of_good).value * typical_ratio(of_bad, of_good[:n]).value
    assert second.typical.value == pytest.approx(estimate, rel=1e-5)
    assert race.score(good) == first  # the best itself is never stopped


def test_a_plan_without_finite_samples_is_ranked_last(model, fine):
    task = problem(model, fine, 16)
    task.target[12] = math.nan
    found = list(Standards((standard(model, "ddim"),)).search(task, None, [], 0))
    assert found[0].error == math.inf


def test_figures_of_pairs_are_left_out_for_samples_that_are_not_paired(model, fine):
    court = Court(model, fine)

    def gap(x, y):
        return (x - y).square().mean()

    gap.paired = True
    data = torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
    court.evaluator.scoring = Scoring(data, None, OwnMetric("gap", gap))
    court.evaluator.scoring.check(FRESH)
    samples = court.evaluator.samples(standard(model, "ddim"))
    quality = court.evaluator.quality(samples).figures
    assert quality["gap"].value == pytest.approx(quality["paired_rmse"].value ** 2, rel=1e-5)
    assert "gap" not in court.evaluator.quality(samples, pairs=False).figures


def test_what_a_paired_network_is_goes_on_record(model, fine):
    court = Court(model, fine)

    class Told:
        paired = True

        def __call__(self, x, y):
            return 0.5, 0.4, 0.6

        def describe(self):
            return {"name": "told", "hash": "aa"}

    court.evaluator.scoring = Scoring(None, None, OwnMetric("told", Told()))
    court.evaluator.quality(court.evaluator.samples(standard(model, "ddim")))
    assert court.evaluator.described["told"]["hash"] == "aa"
