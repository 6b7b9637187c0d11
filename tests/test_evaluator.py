"""The evaluator: every way of playing is counted, nothing is played twice, and features are fitted once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import diffusers
import pytest
import torch
from torch import Tensor

import fewer
from fewer.engine import History
from fewer.errors import InputError
from fewer.evaluate.evaluator import Counter, Played
from fewer.evaluate.features import PCA
from fewer.evaluate.held_out import HeldOut, Source, held_out_noise
from fewer.evaluate.own_pipeline import pipeline_row, play_pipeline
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics.jackknife import jackknife
from fewer.evaluate.verdict import Side, decide, distance_ratio
from fewer.models.pipelines.folder import schedule_of
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.models.pipelines.scheduler_config import settings as configuration
from fewer.plan import Plan
from fewer.search.choice import Terms, judge
from fewer.search.objective import Objective
from fewer.search.ranking import Ranking
from fewer.search.study import Candidate

SHAPE = (1, 2, 2)


@dataclass
class Network:
    """The exact data prediction of a mixture, which keeps the states that it was called on."""

    exact: fewer.GaussianMixture
    tau: Callable[[Tensor], Tensor]
    states: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        self.states.append(x.clone())
        tau = self.tau(t[0].double())
        # the schedule's alpha x is given: (1 - tau) / alpha brings it to the linear interpolant
        return self.exact.denoise(x.double() * self.scale(float(tau)), float(tau)).to(x.dtype)

    def scale(self, tau: float) -> float:
        """From a variance-preserving state to the linear interpolant's."""
        return ((1 - tau) ** 2 + tau**2) ** 0.5

    @property
    def calls(self) -> int:
        """Of single samples."""
        return sum(len(x) for x in self.states)


@pytest.fixture
def network() -> Network:
    schedule, _, _ = schedule_of(scheduler())
    return Network(fewer.GaussianMixture.random(SHAPE, components=4, seed=1).to(dtype=torch.float64), schedule.tau)


def scheduler() -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(prediction_type="sample", clip_sample=False, timestep_spacing="trailing")


@pytest.fixture
def model(network: Network) -> fewer.Model:
    schedule, _, _ = schedule_of(scheduler())
    pipeline = PipelineDefaults("DDIMScheduler", configuration(scheduler()), 10)
    return fewer.Model.from_denoiser(network, schedule, SHAPE, hash="counted", pipeline=pipeline)


def noises(model: fewer.Model, n: int = 24) -> Objective:
    noise = held_out_noise(model, n, 0)
    return Objective(model, noise, target=torch.zeros_like(noise), batch=7)


def plan(model: fewer.Model, solver: str = "dpmpp-2m", nfe: int = 4) -> Plan:
    return fewer.standard(solver, model, nfe, "logsnr")


def source(model: fewer.Model) -> Source:
    return Source(model, 0, reference_plan(model, 16))


def with_history(evaluator: Objective, of: Plan) -> None:
    history = History()
    evaluator.run(of, slice(0, 5), history)
    evaluator.run(of, slice(0, 5), replace(history, first=2))


def race(evaluator: Objective, of: Plan) -> None:
    ranking = Ranking(evaluator)
    for solver in ("unipc", "ddim", "euler"):
        ranking.score(plan(evaluator.model, solver))


def moved(model: fewer.Model, of: Plan, row: int) -> Plan:
    """The plan with another time input in one row."""
    rows = list(of.rows)
    rows[row] = replace(rows[row], t=0.99 * float(model.schedule.time(rows[row].tau)))
    return replace(of, rows=tuple(rows))


WAYS: dict[str, Callable[[Objective, Plan], object]] = {
    "samples": lambda e, p: e.samples(p),
    "some samples": lambda e, p: e.samples(p, 3, 9),
    "stochastic": lambda e, p: e.samples(plan(e.model, "ancestral")),
    "from data": lambda e, p: e.samples(p.from_level(0.5), init=torch.zeros_like(e.noise)),
    "micro-batch": lambda e, p: e.run(p, slice(2, 9)),
    "errors": lambda e, p: e.squared_errors(p),
    "slice": lambda e, p: e.subset(4, 12).first(3).rmse(p),
    "history": with_history,
    "neighbours": lambda e, p: e.jacobian(e.rollout(p), [(moved(e.model, p, row), 0.1) for row in range(4)]),
    "extension": lambda e, p: Played.on(e, p, 8).errors(20),
    "reference": lambda e, p: e.with_reference([e.samples(p)], guidance=None),
    "race": race,
    "scheduler": lambda e, p: play_pipeline(e, None, 0),
    "scheduler's table": lambda e, p: pipeline_row(e, 5, None, 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_counter_equals_the_calls_of_the_network(way: str, model: fewer.Model, network: Network) -> None:
    evaluator = noises(model)
    WAYS[way](evaluator, plan(model))
    assert evaluator.evaluations == network.calls > 0


def test_a_comparison_on_held_out_noises_counts_those_that_it_has_asked_for(
    model: fewer.Model, network: Network
) -> None:
    evaluator = HeldOut.of(source(model), 16, None, Scoring())
    candidate = Candidate(plan(model, "unipc", 5), 0.1, "made")
    found = judge(evaluator, 5, candidate, [Candidate(plan(model, "deis", 5), 0.2, "standard")], Terms(16, 0.0))
    assert found.verdict.ratio is not None
    assert len(evaluator) == found.verdict.ratio.n == len(found.chosen.samples) > 16
    assert evaluator.evaluations == network.calls == (16 + 5 + 5) * len(evaluator)


def starts(network: Network, calls: int) -> list[tuple[float, ...]]:
    """The states of first calls, rounded, in order."""
    return [tuple(x.flatten().tolist()) for states in network.states[::calls] for x in states]


def test_no_noise_is_played_twice(model: fewer.Model, network: Network) -> None:
    evaluator = HeldOut.of(source(model), 9, None, Scoring())
    network.states.clear()
    played = Played.on(evaluator, plan(model), 5)
    for n in (5, 8, 9, 4):
        played.errors(n)
    parts = [evaluator.subset(0, 4), evaluator.subset(4, 9)]
    assert len(set(starts(network, 4))) == len(starts(network, 4)) == 9
    network.states.clear()
    alone = [part.samples(plan(model, "ancestral")) for part in parts]
    assert len(set(starts(network, 4))) == len(starts(network, 4)) == 9
    # not only the initial noise: what rows of a stochastic plan add depends on the noise's number too
    torch.testing.assert_close(torch.cat(alone), evaluator.samples(plan(model, "ancestral")), atol=1e-5, rtol=1e-5)


def test_a_slice_of_held_out_noises_stays_as_long_as_it_is(model: fewer.Model) -> None:
    evaluator = HeldOut.of(source(model), 9, None, Scoring())
    with pytest.raises(InputError, match="30 initial noises are asked for, and there are 4"):
        evaluator.first(4).extend(30)
    evaluator.extend(12)
    assert torch.equal(evaluator.noise, held_out_noise(model, 12, 0))


def test_a_counter_of_its_own(model: fewer.Model) -> None:
    evaluator = noises(model)
    evaluator.apart().first(5).rmse(plan(model))
    assert evaluator.evaluations == 0
    replace(evaluator, counter=Counter(3), noise=evaluator.noise + 1).rmse(plan(model))
    assert evaluator.evaluations == 0


def test_components_of_the_data_are_fitted_once(model: fewer.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    data = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    whole, fits = PCA.fit, []
    monkeypatch.setattr(PCA, "fit", lambda images, dim: fits.append(dim) or whole(images, dim))
    scoring = Scoring(data)
    for n in (8, 16, 24, 64):
        assert scoring.features_of(n).hash == whole(data, min(4, n // 8)).hash
    assert len(fits) == 1


def test_a_baseline_without_error_is_matched_by_none_only(model: fewer.Model) -> None:
    evaluator = noises(model)
    exact, other = Side("exact", evaluator.target), Side("other", evaluator.target + 1)
    assert decide(evaluator, exact, exact, 0.05).decision == "not worse"
    assert decide(evaluator, other, exact, 0.05).decision == "worse"
    assert decide(evaluator, exact, other, 0.05).decision == "better"


def test_sides_are_compared_on_the_noises_that_both_have_or_by_distance(model: fewer.Model) -> None:
    evaluator = noises(model, 64)
    apart = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    near, far = (Side(f"{size}", evaluator.target + size * apart) for size in (0.1, 1.0))
    share = decide(evaluator, near, replace(far, samples=far.samples[:16]), 0.05).elsewhere
    assert share is not None
    assert share.n == 16
    spread = replace(evaluator, target=torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0)))
    verdict = decide(spread, near, replace(far, stochastic=True), 0.05)
    assert verdict.figure == "Frechet distance"
    assert verdict.ratio == distance_ratio(spread.frechet(near.samples), spread.frechet(far.samples))


def test_the_jackknife_takes_out_a_bias_in_one_over_the_parts() -> None:
    x = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plugin = jackknife(lambda some: float(x[some].var(correction=0)), len(x))
    assert plugin.value == pytest.approx(float(x.var()), rel=1e-9)
    mean = jackknife(lambda some: float(x[some].mean()), len(x))
    assert mean.high - mean.value == pytest.approx(2.0227 * float(x.std()) / 40**0.5, rel=1e-4)
