"""By what plans are judged: `fewer.tune(objective=...)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.evaluate.by_figure import ByEnergy, ByFigure, ByFrechet, ByMetric
from fewer.evaluate.by_sliced import BySliced
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.distances.energy import energy_distance, energy_of_rows, pairs_by_label, spread
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.features import Pixels
from fewer.evaluate.objectives import OBJECTIVES, criterion_of
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics.jackknife import fieller, student
from fewer.evaluate.verdict import settled
from fewer.models.schedules import Flow
from fewer.plan import Plan
from fewer.search.choice import LONGEST, Terms, judge
from fewer.search.objective import Objective
from fewer.search.ranking import Ranking
from fewer.search.request import Budget, Request, identity
from fewer.search.space import Space
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.standards import LIKELY_BEST, LIKELY_NOISY, Standards, kept_standards
from fewer.search.strategy import Candidate

FIRST = 64
N = LONGEST * FIRST
DIMENSIONS = 3


def exact(seed: int = 0) -> fewer.Model:
    mixture = fewer.GaussianMixture.random((DIMENSIONS,), components=4, seed=seed)
    return fewer.Model.from_mixture(mixture, Flow(), hash=f"exact {seed}")


def spread_out(samples: Tensor, reference: Tensor) -> float:
    """The mean deviation of the numbers of a sample, which no reference is needed for."""
    return float(samples.std(0).mean())


def most_spread(samples: Tensor, reference: Tensor) -> float:
    """The same, where more is better."""
    return spread_out(samples, reference)


most_spread.higher_is_better = True  # type: ignore[attr-defined]


@dataclass
class Given(Objective):
    """Noises whose samples under each plan are given, by the plan's name."""

    given: dict[str, Tensor] = field(default_factory=dict)

    def samples(self, plan: Plan, first: int = 0, last: int | None = None, *, init: Tensor | None = None) -> Tensor:
        return self.given[plan.name][self.number + first : self.number + (len(self) if last is None else last)]

    def each(self, plans: Sequence[Plan]) -> Iterator[Tensor]:
        return (self.samples(plan) for plan in plans)


def noises(criterion: Criterion = PAIRED) -> Given:
    """Plans of three kinds against a normal target: one whose samples are the target's own, each of another noise; one that
    comes near every target and shrinks all of them; one that spreads them.
    """
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(N, DIMENSIONS, generator=generator)
    given = {"elsewhere": target.roll(7, 0), "near": 0.7 * target, "wide": 3.0 * target}
    given["wider"] = 4.0 * target
    return Given(exact(), torch.zeros_like(target), None, target, criterion=criterion, given=given)


def plan(name: str) -> Plan:
    return fewer.standard("ddim", exact(), 2, "logsnr").named(name)


def chosen(criterion: Criterion, tuned: str, standards: list[str]) -> tuple[str, str, str]:
    """The plan that is taken, the decision on the tuned one, and the baseline."""
    ranked = [Candidate(plan(name), 1.0, "standard") for name in standards]
    outcome = judge(noises(), 2, Candidate(plan(tuned), 1.0, "made"), ranked, Terms(FIRST, by=criterion))
    return outcome.plan.name.split()[0], outcome.verdict.decision, outcome.verdict.against


def criteria() -> list[Criterion]:
    data = torch.randn(200, DIMENSIONS, generator=torch.Generator().manual_seed(5))
    scorings = [Scoring(), Scoring(data)]
    found: list[Criterion] = [make(scoring) for make in (ByEnergy, ByFrechet, BySliced) for scoring in scorings]
    return found + [ByMetric(scoring, metric=OwnMetric("spread", spread_out)) for scoring in scorings]


@pytest.mark.parametrize("criterion", [ByEnergy(), ByFrechet(), BySliced(), *criteria()[1:6:2]], ids=lambda c: c.title)
def test_a_distance_takes_the_right_distribution_where_pairs_take_the_nearer_samples(criterion: Criterion) -> None:
    assert chosen(PAIRED, "elsewhere", ["near"]) == ("near", "worse", "near")
    assert chosen(criterion, "elsewhere", ["near"]) == ("tuned", "better", "near")
    assert chosen(PAIRED, "near", ["elsewhere"]) == ("tuned", "better", "elsewhere")
    assert chosen(criterion, "near", ["elsewhere"]) == ("elsewhere", "worse", "elsewhere")


@pytest.mark.parametrize(("metric", "best"), [(spread_out, "near"), (most_spread, "wider")])
def test_the_plan_that_a_users_metric_prefers_wins(metric: object, best: str) -> None:
    criterion = criterion_of("metric", Scoring(metric=OwnMetric.of(metric)))
    others = [name for name in ("near", "elsewhere", "wide", "wider") if name != best]
    assert chosen(criterion, best, others)[:2] == ("tuned", "better")
    assert chosen(criterion, others[0], [best])[0] == best
    standards = Standards(tuple(plan(name) for name in (*others, best)))
    ranked = list(standards.search(noises(criterion), None, [], 0))  # type: ignore[arg-type]
    assert standards.choose(ranked).plan.name == best


@pytest.mark.parametrize("criterion", criteria(), ids=lambda c: c.title)
def test_a_plan_is_never_better_or_worse_than_itself(criterion: ByFigure) -> None:
    evaluator = noises()
    for samples in (each[:FIRST] for each in evaluator.given.values()):
        found = criterion.compared(evaluator, samples, samples, 0.05)
        assert (found.value.low, found.value.value, found.value.high) == (0, 0, 0)
        assert found.decision == "not worse"


@pytest.mark.parametrize("criterion", criteria(), ids=lambda c: c.title)
def test_a_ratio_says_what_the_decision_says(criterion: ByFigure) -> None:
    evaluator = noises()
    few = [samples[:FIRST] for samples in evaluator.given.values()]
    for a in few:
        for b in few:
            found = criterion.compared(evaluator, a, b, 0.05)
            if found.ratio is not None:
                assert (found.ratio.high < 1) == (found.decision == "better")
                assert (found.ratio.low > 1.05) == (found.decision == "worse")


@pytest.mark.parametrize("criterion", criteria(), ids=lambda c: c.title)
def test_a_figure_is_the_one_of_its_kind(criterion: ByFigure) -> None:
    evaluator = noises()
    samples = evaluator.given["near"]
    figure = criterion.figure(evaluator, samples)
    assert figure.low <= figure.value <= figure.high
    assert criterion.quality(evaluator, samples).figures[criterion.key] == figure
    assert criterion.shown(criterion.loss(evaluator, samples).value) == figure.value
    if criterion.scoring.data is not None and criterion.name != "metric":
        assert figure.value == pytest.approx(criterion.scoring.distances(samples)[criterion.key].value)


def test_the_energy_distance_of_pairs_is_unbiased_and_0_for_equal_samples() -> None:
    evaluator, by = noises(), ByEnergy()
    everything = torch.arange(N)
    assert by.by_rows(evaluator, evaluator.target)(everything) == pytest.approx(0, abs=1e-12)
    apart = by.by_rows(evaluator, evaluator.given["wide"])(everything)
    whole = energy_distance(evaluator.given["wide"], evaluator.target)
    assert apart == pytest.approx(whole.value, abs=3 * (whole.high - whole.low) / 4)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 3)), min_size=4, max_size=20), st.floats(0.01, 0.3))
@settings(max_examples=50, deadline=None)
def test_fiellers_interval_is_of_the_ratios_that_student_does_not_refute(
    pairs: list[tuple[float, float]], alpha: float
) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    found = fieller(a, b, alpha)
    if found is None:
        assert student(b, alpha=alpha).low <= 1e-9
        return
    for end in (found.low, found.high):
        there = student([x - end * y for x, y in pairs], alpha=alpha)
        assert min(abs(there.low), abs(there.high)) <= 1e-6 * (1 + abs(end)) or there.low <= 0 <= there.high


@given(st.integers(0, 2**31), st.sampled_from([0.3, 1.0, 3.0]), st.floats(0.0, 0.2))
@settings(max_examples=20, deadline=None)
def test_pairs_are_judged_as_by_a_search_that_names_no_objective(seed: int, size: float, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(FIRST, DIMENSIONS, generator=generator)
    a, b = (target + s * torch.randn(FIRST, DIMENSIONS, generator=generator) for s in (1.0, size))
    evaluator = Evaluator(exact(), torch.zeros_like(target), target=target)
    verdict, found = PAIRED.verdict(evaluator, a, b, "b", margin), evaluator.compared(a, b)
    assert verdict.farther is not None
    assert verdict.decision == settled(found, margin, verdict.farther)
    assert verdict.decision == found.decision(margin) or found.by_share(margin) == "cannot tell"
    assert PAIRED.better(evaluator, a, b, margin) == (evaluator.compared(a, b).decision(margin) == "better")
    given = Given(exact(), torch.zeros_like(target), None, target, given={"a": a})
    assert given.score(plan("a")) == given.rmse(plan("a"))
    assert Ranking(given).score(plan("a")).ranked_by == pytest.approx(given.rmse(plan("a")), rel=1e-6)  # type: ignore[union-attr]


def test_a_study_of_pairs_is_that_of_a_search_that_names_no_objective() -> None:
    usual = identity(Request((Budget(3),)), exact(), Budget(3))
    assert criterion_of("paired", Scoring(metric=OwnMetric("spread", spread_out))) is PAIRED
    assert "objective" not in usual
    others = [identity(Request((Budget(3),), objective=by), exact(), Budget(3)) for by in criteria()]
    assert all({**other, "objective": None} == {**usual, "objective": None} for other in others)
    assert all(a["objective"] != b["objective"] for i, a in enumerate(others) for b in others[:i])


def test_gauss_newton_descends_on_pairs_and_is_chosen_from_by_the_objective() -> None:
    """The same way down; of its plans the one of the best figure."""
    model = exact(1)
    noise = torch.randn(32, DIMENSIONS, generator=torch.Generator().manual_seed(0))
    target = fewer.sample(model, fewer.standard("dpmpp-3m", model, 32, "logsnr"), noise=noise)
    found: dict[bool, list[Candidate]] = {}
    strategy = GaussNewton(starts=1, trial=2, candidates=5)
    for criterion in (PAIRED, ByEnergy()):
        objective = Objective(model, noise, None, target, criterion=criterion)
        space = Space(model, (fewer.standard("dpmpp-2m", model, 3, "logsnr"),))
        found[criterion.paired] = list(strategy.search(objective, space, [], 0))
    assert [c.plan.rows for c in found[True]] == [c.plan.rows for c in found[False]]
    assert strategy.choose(found[True]) is found[True][-1]
    assert strategy.choose(found[False]).error == min(c.error for c in found[False])


@pytest.mark.usefixtures("few_standards")
@pytest.mark.parametrize(
    "objective", [OBJECTIVES[1], *(pytest.param(each, marks=pytest.mark.slow) for each in OBJECTIVES[2:])]
)
def test_a_search_by_an_objective_ends_alike_and_says_by_what_it_judged(objective: str, tmp_path: Path) -> None:
    options = {
        "nfe": 2, "noises": 32, "fresh": 32, "trials": 5, "objective": objective,
        "metric": OwnMetric("spread", spread_out) if objective == "metric" else None,
    }  # fmt: skip
    whole = fewer.tune(exact(2), out=tmp_path / "whole", **options)  # type: ignore[arg-type]
    fewer.tune(exact(2), out=tmp_path / "parts", **{**options, "trials": 2})  # type: ignore[arg-type]
    resumed = fewer.tune(exact(2), out=tmp_path / "parts", resume=True, **options)  # type: ignore[arg-type]
    assert resumed.plan.rows == whole.plan.rows
    assert resumed.verdict["decision"] == whole.verdict["decision"]
    record = whole.record
    assert record.budget.objective == objective
    assert record.objective.of(record.quality) is not None
    assert record.verdict.figure in (record.objective.title, "error")
    assert record.objective.title in repr(whole)
    assert record.objective.title in (tmp_path / "whole" / "report.html").read_text()
    if objective != "metric":
        assert record.objective.title in record.summary
    with pytest.raises(InputError, match="another objective"):
        fewer.tune(exact(2), out=tmp_path / "parts", resume=True, **{**options, "objective": "paired"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "pared"}, "did you mean paired"),
        ({"objective": 5}, "expected one of paired, energy, fd, sliced, metric"),
        ({"objective": "metric"}, "give metric"),
        ({"objective": "energy", "strategy": "per-step"}, "paired errors alone"),
        ({"objective": "energy", "start_from": ["per-step"]}, "paired errors alone"),
        ({"objective": "fd", "noises": 8}, "at least 16"),
        (
            {"objective": "fd", "data": torch.rand(100, DIMENSIONS * 8), "features": Pixels(), "noises": 32},
            "needs 104 samples",
        ),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    dimensions = DIMENSIONS * (8 if "data" in options else 1)
    mixture = fewer.GaussianMixture.random((dimensions,), components=2, seed=0)
    with pytest.raises(InputError, match=message):
        fewer.tune(fewer.Model.from_mixture(mixture, Flow(), hash="x"), nfe=3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["paired", "energy"])
def test_standard_plans_with_noise_compete_where_plans_are_judged_by_all_samples(objective: str) -> None:
    """Among them are more than the ones without; they have no figures of pairs."""
    model = exact()
    request = Request((Budget(6),), objective=criterion_of(objective, Scoring()))
    plans = kept_standards(model, request, 6)
    noisy = [plan for plan in plans if plan.stochastic]
    assert bool(noisy) == (objective == "energy")
    if noisy:
        assert {"er-sde-3", "dpmpp-2m-sde", "seeds-3", "ddim-eta"} <= {plan.recipe.solver for plan in noisy}
        assert any(plan.stochastic for plan in plans[: len(LIKELY_BEST) + len(LIKELY_NOISY)])
        noise = torch.randn(32, DIMENSIONS, generator=torch.Generator().manual_seed(0))
        objective_of = Objective(model, noise, None, noise, criterion=request.objective)
        with_noise, without = Standards((noisy[0], plans[0])).search(objective_of, None, [], 0)  # type: ignore[arg-type]
        assert set(with_noise.state) == {"loss"}
        assert set(without.state) == {"loss", "paired_rmse", "typical_error"}


def test_a_leaderboard_begins_with_the_best_by_a_metric_of_either_direction() -> None:
    for metric, sign in ((spread_out, 1), (most_spread, -1)):
        board = fewer.compare(exact(), nfe=2, n=32, metric=OwnMetric("spread", metric))
        figures = [sign * row["quality"]["spread"]["value"] for row in board["rows"] if row["nfe"] == 2]
        assert figures == sorted(figures)


LABELLED = [ByEnergy(Scoring(torch.randn(200, 2), Pixels())), ByFrechet(Scoring(torch.randn(200, 2), Pixels())),
            BySliced(Scoring(torch.randn(200, 2), Pixels()))]  # fmt: skip


@pytest.mark.parametrize("classes", [2, 10, 16])
@pytest.mark.parametrize("criterion", LABELLED, ids=lambda c: c.name)
def test_what_a_label_alone_decides_is_not_taken_for_chance(criterion: ByFigure, classes: int) -> None:
    """Labels are given in turn: samples that hang on them alone have no error, though classes lie far apart."""
    n = 16 * classes
    labels = torch.arange(n) % classes
    centres = torch.linspace(-5, 5, classes)[:, None].expand(classes, 2)
    target = torch.zeros(n, 2)
    on = Evaluator(exact(), target, labels, target)
    found = criterion.compared(on, centres[labels], 0.8 * centres[labels], 0.05).value
    assert found.high - found.low < 1e-4 * abs(found.value)


@pytest.mark.slow
@pytest.mark.parametrize("n", [64, 100, 256])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("criterion", LABELLED, ids=lambda c: c.name)
def test_intervals_of_samples_with_labels_cover_the_difference(criterion: ByFigure, classes: int, n: int) -> None:
    """Of 120 repetitions the nominal 95 % interval holds the mean of all in 88 % at least, and is no wider than need be."""
    generator, centres = (
        torch.Generator().manual_seed(1),
        torch.linspace(-3, 3, classes)[:, None] * torch.tensor([1.0, 0.3]),
    )
    labels, zero = torch.arange(n) % classes, torch.zeros(n, 2)
    found = []
    for _ in range(120):
        z = torch.randn(n, 2, generator=generator)
        one = centres[labels] + z + 0.2 * z[:, :1].square()
        found.append(
            criterion.compared(
                Evaluator(exact(), zero, labels, zero), one, 0.9 * centres[labels] + 0.85 * z, 0.05
            ).value
        )
    values = torch.tensor([each.value for each in found])
    middle = float(values.mean())
    assert sum(each.low <= middle <= each.high for each in found) >= 0.88 * len(found)
    reach = sum(each.high - each.value for each in found) / len(found)
    assert reach < 2.8 * float(values.std())  # 2.13 of Student's 15 degrees of freedom


@pytest.mark.parametrize("classes", [2, 10])
def test_the_energy_distance_of_samples_with_labels_in_turn_has_no_bias(classes: int) -> None:
    """Mean of 200 repetitions with 40 samples of classes far apart, at the data's own law; taken for drawn it is far below 0."""
    n, generator = 40, torch.Generator().manual_seed(4)
    centres, labels = torch.linspace(-5, 5, classes)[:, None].expand(classes, 2), torch.arange(n) % classes
    each = 200 // classes
    data = torch.cat([centres[label] + torch.randn(each, 2, generator=generator) for label in range(classes)])
    given = torch.arange(classes).repeat_interleave(each)
    figures: dict[bool, list[float]] = {False: [], True: []}
    exact_own = pairs_by_label(torch.cdist(data, data).fill_diagonal_(0.0).double(), given)(torch.arange(len(data)))
    bias = exact_own - spread(data)  # of the data's own pairs, which are taken for drawn
    for _ in range(200):
        x = centres[labels] + torch.randn(n, 2, generator=generator)
        for known in figures:
            figures[known].append(energy_distance(x, data, labels=labels if known else None).value - bias)
    means = {known: student(values) for known, values in figures.items()}
    assert means[False].high < -0.01
    assert abs(means[True].value) < abs(means[False].value) / 20
    rows = torch.arange(n)
    of_rows = energy_of_rows(x, data, spread(data), labels)
    assert of_rows(rows) == pytest.approx(energy_distance(x, data, labels=labels).value)
