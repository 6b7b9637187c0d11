"""The gate: what it promises is kept, who is run again is a matter of each sample's own run, and files hold all of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import fewer
from fewer.cli.main import run
from fewer.epistemic.gate.gate import Gate, Pairs, distances
from fewer.epistemic.gate.predictors.movement_regression import MovementRegression
from fewer.epistemic.gate.predictors.student_t import StudentT, covariance, log_likelihood
from fewer.epistemic.gate.predictors.vbll import Head
from fewer.epistemic.gate.promise import Promise
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.testing.models import counted, transformer

MODEL = Model.from_mixture(GaussianMixture.random((1, 2, 2), 4, seed=3), Flow(), dtype=torch.float32, name="four")
CHEAP, DEAR = (fewer.standard("dpmpp-2m", MODEL, calls) for calls in (4, 9))
E = 1e-3


@cache
def made() -> Gate:
    pair = fewer.gate(MODEL, CHEAP, DEAR, error=1.0, share=0.2, noises=160, predictor="movement-regression")
    return replace(pair, promise=Promise(float(pair.held_out.errors.quantile(0.6)), 0.2))


@given(n=st.integers(20, 2000), share=st.floats(0.01, 0.5), confidence=st.floats(0.5, 0.99))
@settings(deadline=None, max_examples=30)
def test_so_many_breaches_are_rarer_than_the_confidence_leaves(n: int, share: float, confidence: float):
    promise = Promise(1.0, share, confidence)
    f = promise.allowed(n)
    assert (f < 0) == (n < promise.least) or math.isclose((1 - share) ** n, 1 - confidence)
    if f >= 0:
        assert stats.binom.cdf(f, n, share) <= 1 - confidence < stats.binom.cdf(f + 1, n, share)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=60, max_size=70))
@settings(deadline=None, max_examples=20)
def test_the_threshold_is_the_largest_with_no_more_breaches_than_allowed(samples: list[tuple[int, bool]]):
    scores = torch.tensor([score for score, _ in samples]).double()
    errors = torch.tensor([2.0 if bad else 0.5 for _, bad in samples]).double()
    promise = Promise(1.0, 0.1)

    def breaches(threshold: float) -> int:
        return int(((scores <= threshold) & (errors > 1)).sum())

    found = promise.threshold(scores, errors)
    assert breaches(found) <= promise.allowed(len(samples))
    above = [score for score in scores.tolist() if score > found]
    assert all(breaches(score) > promise.allowed(len(samples)) for score in above)


def test_samples_are_those_of_the_two_plans_and_so_is_their_cost():
    gate = made()
    found = gate.sample(MODEL, 40, seed=5, batch=16)
    cheap, dear = (fewer.sample(MODEL, plan, 40, seed=5) for plan in (CHEAP, DEAR))
    assert 0 < int(found.again.sum()) < 40
    torch.testing.assert_close(found.x, torch.where(found.again.view(-1, 1, 1, 1), dear, cheap), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.again, found.score > gate.threshold)
    assert found.evaluations == 4 * 40 + 9 * int(found.again.sum())
    assert torch.allclose(found.known.errors, distances(cheap, dear)[found.again], rtol=1e-3, atol=1e-5)
    later = gate.sample(MODEL, 10, seed=5, first_sample=30)
    assert torch.equal(later.again, found.again[30:])


def test_what_is_counted_is_what_is_said():
    model = transformer()
    cheap, dear = (fewer.standard("ddim", model, 2 * calls, guidance=2.0) for calls in (3, 6))
    with counted(model) as calls:
        gate = fewer.gate(model, cheap, dear, error=0.1, share=0.3, noises=24, predictor="movement-regression")
    assert sum(calls) == 24 * (cheap.nfe + dear.nfe)
    with counted(model) as calls:
        assert gate.sample(model, 8).evaluations == sum(calls)


def test_of_several_cheap_plans_the_one_of_fewest_evaluations_is_taken_under_a_sharper_promise():
    plans = [fewer.standard("dpmpp-2m", MODEL, calls) for calls in (3, 4, 5)]
    few = {"error": made().promise.error, "share": 0.2, "noises": 160, "predictor": "movement-regression"}
    best = fewer.gate(MODEL, plans, DEAR, **few)
    assert best.promise.among == 3
    assert best.promise.allowed(80) == Promise(1.0, 0.2, 1 - 0.05 / 3).allowed(80) <= Promise(1.0, 0.2).allowed(80)
    alone = [replace(fewer.gate(MODEL, plan, DEAR, **few), promise=best.promise) for plan in plans]
    assert best.nfe == pytest.approx(min(gate.nfe for gate in alone))


def test_a_gate_learns_from_its_work_and_its_promise_is_set_anew():
    gate = made()
    better = gate.improved(gate.sample(MODEL, 64, seed=1))
    assert len(better.learnt) > len(gate.learnt)
    assert better.held_out is gate.held_out
    risk = (better.score(better.held_out.features) <= better.threshold) & (
        better.held_out.errors > better.promise.error
    )
    assert int(risk.sum()) <= better.promise.allowed(len(better.held_out))


def test_a_score_that_is_no_number_is_not_trusted():
    doubts = made().doubts(torch.tensor([-math.inf, math.inf, math.nan]))
    assert doubts.tolist() == [False, True, True]


def test_a_gate_keeps_no_more_than_its_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of too many samples the first are forgotten, and a file that could not be read is not written."""
    gate, many = made(), 100
    new = Pairs(torch.arange(5.0 * many).double().view(many, 5), torch.ones(many).double())
    monkeypatch.setattr("fewer.epistemic.gate.gate.MOST", many - 1)
    kept = gate.learnt.with_more(new)
    assert torch.equal(kept.features, new.features[1:])
    monkeypatch.setattr("fewer.epistemic.gate.folder.LARGEST", 1000)
    with pytest.raises(InputError, match="fewer noises"):
        gate.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_holds_the_whole_gate(tmp_path: Path):
    gate = made()
    gate.save(tmp_path)
    again = Gate.load(tmp_path)
    assert again.threshold == gate.threshold
    assert torch.equal(again.sample(MODEL, 8).x, gate.sample(MODEL, 8).x)
    content = json.loads((tmp_path / "gate.json").read_text())
    for change, says in (
        ({"gate": 2}, "less than or equal to 1"),
        ({"share": 2.0}, "share is 2.0"),
        ({"predictor": "nobody"}, "nobody"),
        ({"learnt": {"features": [[1.0]], "errors": [1.0]}}, "another plan"),
        ({"held_out": {"features": [[1.0] * 5], "errors": [-1.0]}}, "greater than or equal to 0"),
    ):
        (tmp_path / "gate.json").write_text(json.dumps(content | change))
        with pytest.raises(InputError, match=says):
            Gate.load(tmp_path)


def test_samples_that_the_promise_is_not_about_are_told():
    gate = made()
    assert gate.note(MODEL, None) is None
    assert "all classes in turn" in (gate.note(MODEL, 3) or "")
    assert "class 3" in (replace(gate, label=3).note(MODEL, None) or "")
    assert "prompts" in (gate.note(replace(MODEL, prompts=("a cat",)), None) or "")


def test_linear_regression_is_the_exact_posterior_of_its_own_settings():
    """With alpha and beta as they come out, mean and variance are those of the formula; on a line it finds the noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64) + 0.3 * torch.randn(400, generator=generator).double()
    found = MovementRegression().fit(x, y)(x)
    assert torch.allclose(found.scale.mean(), torch.tensor(0.3).double(), rtol=0.15)
    assert float((found.mean - y).square().mean().sqrt()) < 0.32


def test_the_t_process_is_a_scale_mixture_of_gaussian_processes():
    """Its density is the mean of Gaussian ones over the scale that is drawn from the inverse gamma law."""
    x, y = torch.randn(5, 2, generator=torch.Generator().manual_seed(1)).double(), torch.linspace(-1, 1, 5).double()
    a, b, c, r = (torch.tensor(v, dtype=torch.float64) for v in (3.0, 2.0, 0.2, 0.1))
    full = covariance(x, x, c, 2) + r * torch.eye(5, dtype=torch.float64)
    scales = stats.invgamma(float(a), scale=float(b)).ppf((torch.arange(800).double() + 0.5) / 800)
    gaussian = [stats.multivariate_normal(cov=s * full.numpy()).pdf(y.numpy()) for s in scales]
    assert float(log_likelihood(x, y, 2, (a, b, c, r))) == pytest.approx(math.log(sum(gaussian) / 800), abs=0.01)


def test_the_covariance_is_that_of_wide_random_networks():
    x, depth, width = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)).double(), 2, 200
    c = torch.tensor(0.2, dtype=torch.float64)
    generator, outputs = torch.Generator().manual_seed(3), []
    for _ in range(300):
        h = x @ torch.randn(4, width, generator=generator).double() / 2
        h = h + c.sqrt() * torch.randn(width, generator=generator).double()
        for _ in range(depth):
            h = h.relu() @ torch.randn(width, width, generator=generator).double() * (2 / width) ** 0.5
            h = h + c.sqrt() * torch.randn(width, generator=generator).double()
        outputs.append(h[:, :20])
    f = torch.cat(outputs, 1)
    assert torch.allclose(f @ f.T / f.shape[1], covariance(x, x, c, depth), rtol=0.1, atol=0.1)


def test_on_fixed_features_the_best_law_of_the_last_layer_is_the_exact_posterior():
    """The loss is stationary at m, S of Bayesian regression with the same noise: no other m or S is lower."""
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    y, v, prior = phi.sum(1) + 0.2 * torch.randn(30, generator=generator).double(), 0.04, 0.5
    precision = phi.T @ phi / v + torch.eye(3, dtype=torch.float64) / prior
    half = torch.linalg.cholesky(torch.linalg.inv(precision))
    head = Head(3)
    with torch.no_grad():
        head.mean.copy_(torch.linalg.solve(precision, phi.T @ y / v))
        head.log_diagonal.copy_(half.diagonal().log())
        head.below.copy_(half.tril(-1))
        head.log_noise.fill_(math.log(v))
    head.loss(phi, y, prior).backward()
    for parameter in (head.mean, head.log_diagonal, head.below):
        assert float(parameter.grad.abs().max()) < 1e-9


def test_bad_input_is_said_in_a_line():
    noisy, one = fewer.standard("ancestral", MODEL, 4), fewer.standard("ddim", MODEL, 1)
    for make, says in (
        (lambda: Promise(0.0), "error is 0.0"),
        (lambda: Promise(0.1, 1.0), "share is 1.0"),
        (lambda: Promise(0.1, 0.1, 0.0), "confidence is 0.0"),
        (lambda: fewer.gate(MODEL, [], DEAR, error=0.1), "holds no plan"),
        (lambda: fewer.gate(MODEL, noisy, DEAR, error=0.1), "adds noise"),
        (lambda: fewer.gate(MODEL, one, DEAR, error=0.1), "has one row"),
        (lambda: fewer.gate(MODEL, CHEAP, CHEAP, error=0.1), "there is nothing to save"),
        (lambda: fewer.gate(MODEL, DEAR, CHEAP, error=0.1), "there is nothing to save"),
        (lambda: fewer.gate(MODEL, CHEAP, DEAR, error=0.1, noises=100), "needs at least 118"),
        (lambda: fewer.gate(MODEL, CHEAP, DEAR, error=0.1, noises=118, predictor="last-layer"), "no error predictor"),
        (lambda: made().sample(replace(MODEL, name="five"), 4), "was made on four"),
        (lambda: made().sample(replace(MODEL, embedded_guidance=2.0), 4), "at guidance None, and this is 2.0"),
        (lambda: replace(made(), predictor=StudentT(3)).save("nowhere"), "settings of its own"),
    ):
        with pytest.raises(InputError, match=says):
            make()


def test_the_commands_make_a_gate_and_play_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    few = ["gate", "digits", "--cheap", "2,3", "--dear", "6", "--error", "0.2", "--share", "0.3", "--noises", "24"]
    assert run([*few, "--dry-run"]) == 0
    assert f"{24 * 11:,} network evaluations" in capfd.readouterr().out
    assert run([*few, "--predictor", "movement-regression", "--json", "facts.json"]) == 0
    facts = json.loads(Path("facts.json").read_text())
    cheap = facts["cheap_nfe"]
    assert facts["nfe"] == pytest.approx(cheap + 6 * facts["share_again"])
    play = ["sample", "digits", "--gate", "fewer-gate", "-n", "4"]
    capfd.readouterr()
    assert run([*play, "--dry-run"]) == 0
    assert f"about {4 * cheap + 6 * round(4 * facts['share_again']):,} network evaluations" in capfd.readouterr().out
    assert run([*play, "--improve", "--json", "made.json"]) == 0
    told = json.loads(Path("made.json").read_text())
    assert told["nfe"] == pytest.approx(cheap + 6 * len(told["again"]) / 4)
    assert len(Gate.load("fewer-gate").learnt) == 12 + len(told["again"])
    capfd.readouterr()
    for wrong in (
        [*play, "--nfe", "4"], ["sample", "digits", "--improve"], ["sample", "dit-digits", "--gate", "fewer-gate"],
        ["gate", "digits", "--cheap", "3,x", "--dear", "6", "--error", "0.2"], [*few[:4], "--dear", "6", "--error", "-1"],
        [*few, "--dear", "5,6"], ["sample", "digits", "--gate", "nowhere"],
    ):  # fmt: skip
        assert run([*wrong, "--out", "no"]) == 2
        assert capfd.readouterr().err.count("\n") == 1
    assert not Path("no").exists()
