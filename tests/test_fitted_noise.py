"""Fitted noise: never worse than the plan without on the search's noises, found where it mends, judged as plans with noise are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fewer
from fewer.claims.search.noise import bed_of
from fewer.errors import InputError
from fewer.evaluate.by_figure import ByEnergy, ByFrechet
from fewer.evaluate.features import PCA, Pixels
from fewer.evaluate.objectives import judging_of
from fewer.evaluate.scoring import Scoring
from fewer.noise import Stream, unit_noise
from fewer.search.blackbox.bayesian import Bayesian
from fewer.search.blackbox.random_search import RandomSearch
from fewer.search.choice import Terms, judge
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.fitted_noise import FittedNoise
from fewer.search.strategy import Candidate
from fewer.solvers.noise_share import shares_of, with_noise
from tests.refused_commands import check_refused

BED = bed_of(0.6)
PLAN = fewer.standard("dpmpp-2m", BED.model, 4, "logsnr")
DATA = BED.draws(3, 400).float()
QUICK = FittedNoise(by=RandomSearch(), candidates=12)


def objective(first: int = 0, n: int = 64, seed: int = 0) -> Objective:
    """Noises of the bed, whose plans are ranked by the energy distance to the data."""
    numbers = Stream.SAMPLES.numbers(n, first)
    noise = unit_noise(seed, numbers, BED.model.shape)
    by = ByEnergy(Scoring(DATA, Pixels()))
    return Objective(
        BED.model, noise, BED.labels(n), torch.zeros_like(noise), batch=n, seed=seed, number=numbers[0], criterion=by
    )


def test_noise_is_taken_only_where_it_pays_on_the_searchs_noises() -> None:
    """The plan itself is the first candidate, all have the same noises, and the best of them is chosen."""
    on = objective()
    done = list(QUICK.search(on, Space(BED.model, (PLAN,)), [], 0))
    assert done[0].plan.rows == PLAN.rows
    assert done[0].error == on.score(PLAN) == on.score(PLAN)
    assert all(c.error == on.score(c.plan) for c in done[:3])
    best = QUICK.choose(done)
    assert best.error == min(c.error for c in done) <= on.score(PLAN)
    assert all(0 <= share <= 1 for c in done for share in c.state["shares"])


def test_a_search_goes_on_where_it_stopped_and_begins_with_the_best_plan_that_is_given() -> None:
    on, worse = objective(), fewer.standard("ddim", BED.model, 4, "logsnr")
    space = Space(BED.model, (worse,), starts=(worse, PLAN))
    whole = list(QUICK.search(on, space, [], 1))
    assert whole[0].plan.rows == min((worse, PLAN), key=on.score).rows
    assert list(QUICK.search(on, space, whole[:5], 1)) == whole[5:]


def test_the_shares_of_standard_samplers_with_noise_are_tried_first_and_the_optimizer_begins_at_the_best() -> None:
    noisy = tuple(fewer.standard(name, BED.model, 4, "logsnr") for name in ("ancestral", "er-sde-1", "seeds-3"))
    space, strategy = Space(BED.model, (PLAN,), noisy=noisy), replace(QUICK, by=Bayesian(first=2))
    done = list(strategy.search(objective(), space, [], 0))
    assert [c.state["shares"] for c in done[1:3]] == [pytest.approx(shares_of(plan)[:-1]) for plan in noisy[:2]]
    assert len({tuple(c.state["x"]) for c in done}) == len(done)  # none is played twice
    assert list(strategy.search(objective(), space, done[:2], 0)) == done[2:]


def test_most_bounds_the_shares() -> None:
    done = list(replace(QUICK, most=0.2).search(objective(), Space(BED.model, (PLAN,)), [], 0))
    assert 0 < max(share for c in done for share in c.state["shares"]) <= 0.2
    with pytest.raises(InputError, match=r"most is 1\.5; expected the largest share of noise"):
        FittedNoise(most=1.5)


def test_a_plan_with_noise_is_judged_by_distances_alone() -> None:
    """No figure of pairs, no ratio of their errors, no luck of single samples; those of the plan without noise stand beside it."""
    on = replace(objective(n=256), scoring=Scoring(DATA, Pixels()))
    noisy = with_noise(PLAN, 0.3)
    coarse = fewer.standard("ddim", BED.model, 1, "logsnr")
    ranked = [Candidate(coarse, on.score(coarse), "standard")]
    outcome = judge(on, 4, Candidate(noisy, on.score(noisy), "fitted-noise"), ranked, Terms(64, by=on.criterion))
    assert outcome.plan.rows == noisy.rows
    assert outcome.verdict.decision == "better"
    assert outcome.verdict.rmse is None
    assert outcome.verdict.seeds is None
    figures = outcome.chosen.quality.figures
    assert {"energy", "fd"} <= set(figures)
    assert not {"paired_rmse", "typical_error", "elsewhere"} & set(figures)
    assert "paired_rmse" in outcome.standards[0].quality.figures


def test_features_in_the_objective_are_the_searchs_and_those_beside_it_the_verdicts() -> None:
    images = torch.rand(200, 1, 4, 4)
    pca = PCA.fit(images, 4)
    both = judging_of("fd:pixels", Scoring(images, pca))
    assert isinstance(both.search, ByFrechet)
    assert both.search.scoring.features is not None
    assert both.search.scoring.features.name == "pixels"
    assert both.verdict.identity() == ByFrechet(Scoring(images, pca)).identity()
    assert both.scoring.features is pca
    alone = judging_of("energy:pca-3", Scoring(images))
    assert alone.search.identity() == alone.verdict.identity()
    assert alone.scoring.features is not None
    plain = judging_of("energy", Scoring(images, pca))
    assert plain.search is plain.verdict
    assert both.search.least == 4 * 16 + 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--strategy fitted-noise", "moves noise, of which paired errors tell nothing"),
        ("--objective fd:pixels", "objective fd:pixels is a distance to data on features, and data is missing"),
        ("--objective paired:pixels", "features are named as in fd:digits"),
        ("--objective fd:", "features are named as in fd:digits"),
        ("--objective energi:pixels", "did you mean energy?"),
        ("--objective fd:nothing --data {data}", "features 'nothing' are no file"),
        ("--objective energy --strategy per-step", "drives any but completed-table, per-step"),
        ("--objective fd:pixels --data {data}", "of 768 dimensions needs 3080 samples of every plan"),
    ],
)
def test_a_command_refuses_what_makes_no_sense_in_one_line(
    options: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), dtype=np.uint8))
    check_refused(f"tune mixture16 --nfe 3 {options} --out {{out}}", says, tmp_path, capsys, data=data)


def test_shares_of_every_kind_of_start_come_out_alike_in_any_batch() -> None:
    plan = with_noise(PLAN, 0.4)
    labels = BED.labels(12)
    one, other = (fewer.sample(BED.model, plan, n=12, seed=2, labels=labels, batch=size) for size in (12, 5))
    assert torch.allclose(one, other, atol=1e-5)
