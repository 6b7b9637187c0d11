"""How far samples would move under other weights: closed forms of networks that are linear in theirs, and bad input."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import small_dit
from torch import Tensor, nn

import fewer
from fewer.cli.main import run
from fewer.compression.calibration import Calibration
from fewer.epistemic.bayesdiff import BayesDiff, OutputVariance
from fewer.epistemic.laplace import directions, posterior, prior, variances
from fewer.epistemic.layer_priors import evidence, layer_precisions
from fewer.epistemic.question import Question
from fewer.epistemic.replays import LastLayer, RandomWeights
from fewer.epistemic.weights import all_of, last_layer, some_of
from fewer.errors import InputError
from fewer.evaluate.statistics.selective import auroc, selective_risk
from fewer.guidance import guide
from fewer.models.schedules import Flow
from fewer.testing.models import counted, transformer

DIM = 3


class Shift(nn.Module):
    """The output is one vector of weights at every state: the simplest network whose samples are linear in its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, DIM, bias=False)
        nn.init.constant_(self.layer.weight, 0.5)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return self.layer(torch.ones(len(x), 1))


@cache
def shifting() -> fewer.Model:
    return fewer.Model.from_denoiser(Shift().requires_grad_(False), Flow(1), (DIM,), "flow", name="shift")


def question(model: fewer.Model, points: int = 40, n: int = 6, solver: str = "ddim") -> Question:
    samples = torch.randn(points, *model.shape, generator=torch.Generator().manual_seed(3))
    training = Calibration(model, samples, model.labels(points))
    return Question(model, fewer.standard(solver, model, 5, "uniform"), training, n, model.labels(n))


def curvature(asked: Question, probes: int) -> float:
    """H = N / s^2 of each weight of `Shift`, whose Jacobian is the identity."""
    batch = asked.training.batch(probes, 0)
    return len(asked.training.samples) / float((batch.target - batch.truth).double().square().mean())


def test_the_curvature_of_a_linear_network_is_the_closed_one():
    asked = question(shifting())
    network = asked.network()
    rows = directions(asked, network, all_of(network), 1000)
    expected = curvature(asked, 1000) * torch.eye(DIM, dtype=torch.float64)
    assert torch.allclose(
        rows.T @ rows, expected, atol=0.25 * float(expected[0, 0])
    )  # 1000 probes: 4.5 % a standard error


@given(st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=20), st.floats(1e-2, 1e2))
def test_the_prior_solves_its_equation(curvatures: list[float], size: float):
    values = torch.tensor(curvatures, dtype=torch.float64)
    weights = torch.full((len(values),), size, dtype=torch.float64)
    p = prior(values, weights)
    assert p * float(weights.square().sum()) == pytest.approx(float((values / (values + p)).sum()), rel=1e-6)


def some_rows(count: int, layers: int = 3, each: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (count, k) of a curvature, weights (k,) and their layers (k,)."""
    generator = torch.Generator().manual_seed(count)
    of = torch.arange(layers).repeat_interleave(each)
    rows = torch.randn(count, layers * each, generator=generator, dtype=torch.float64) * (10.0**of)
    return rows, torch.randn(layers * each, generator=generator, dtype=torch.float64), of


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_blocks_bound_the_evidence_from_below(count: int, block: int, seed: int):
    rows, weights, layers = some_rows(count)
    logs = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    whole = evidence(rows, weights, logs[layers])
    parts = [evidence(rows[b], 0 * weights, logs[layers]) for b in order.split(block)]
    bound = sum(parts) + evidence(rows[:0], weights, logs[layers])
    assert bound <= whole + 1e-9
    if block >= count:
        assert bound == pytest.approx(float(whole))


def test_the_evidence_is_the_log_of_an_integral():
    """ln of the mean of exp(-|rows (w - w*)|^2 / 2) over the prior, times what it takes at w*, for one weight."""
    p, star, h = 0.7, 0.4, 3.0
    rows = torch.tensor([[h**0.5]], dtype=torch.float64)
    found = evidence(rows, torch.tensor([star]).double(), torch.tensor([p]).double().log())
    exact = (
        0.5 * np.log(p / (p + h)) - 0.5 * p * star**2
    )  # Laplace: the prior's density at w* times the posterior's width
    assert float(found) == pytest.approx(float(exact))


def test_learnt_from_all_rows_each_layer_satisfies_mackays_equation():
    rows, weights, layers = some_rows(40)
    found = layer_precisions(rows, weights, layers, block=40, steps=300, seed=0)
    spread = torch.linalg.inv(rows.T @ rows + found.diag()).diagonal()
    for layer in range(3):
        mine = layers == layer
        p, known = float(found[mine][0]), float((1 - found * spread)[mine].sum())
        assert p * float(weights[mine].square().sum()) == pytest.approx(known, rel=0.05)


def test_replays_of_a_shift_have_the_variance_of_the_shift():
    """From level 1 to 0 the sample moves by -w, whatever the levels between are."""
    asked = question(shifting())
    network = asked.network()
    every = all_of(network)
    rows = directions(asked, network, every, 256)
    values = torch.linalg.eigvalsh(rows.T @ rows)
    known = posterior(every, every.read(network), rows, prior(values, every.read(network)))
    truth = (known.half @ known.half.T).diagonal()
    found = RandomWeights(draws=200, probes=256).variance(asked)
    assert torch.allclose(found, truth.expand_as(found), rtol=0.5)  # 200 draws: 10 % a standard error
    assert torch.allclose(found, found[:1].expand_as(found), rtol=1e-4)  # every sample moves alike


def test_bayesdiff_of_a_shift_adds_the_rows_variances():
    """It takes the errors of two rows for independent: with weights that are the same in all it is sum b^2, not (sum b)^2."""
    asked = question(shifting())
    network = asked.network()
    each = variances(asked, network, all_of(network), 256)
    steps = torch.tensor([row.b[n] for n, row in enumerate(asked.plan.rows)], dtype=torch.float64)
    found = BayesDiff(probes=256).variance(asked)
    assert torch.allclose(found, (steps.square().sum() * each).expand_as(found), rtol=1e-5)


def test_more_data_leave_less_open():
    few, many = (RandomWeights(draws=20, probes=64).variance(question(shifting(), points)) for points in (20, 2000))
    assert float(many.mean()) < 0.1 * float(few.mean())


def test_the_output_variance_is_the_sum_over_the_last_layers_weights():
    """The output is linear in them: Var F = sum_j (dF / dw_j)^2 Var w_j."""
    asked = question(transformer(), n=2)
    network, state = asked.network(), asked.training.batch(2, 5)
    found = OutputVariance.of(asked, 16)(state.t, state.x, state.labels)
    layer = all_of(network, f"{last_layer(asked.model, state)}.")
    centre, each, model = layer.read(network), variances(asked, network, layer, 16), asked.model_with(network)

    def output(values: Tensor) -> Tensor:
        layer.write(network, values)
        with torch.no_grad():
            return model(state.x, state.t, state.labels).double()

    own, unit = output(centre), torch.eye(len(layer), dtype=torch.float64)
    truth = sum(v * (output(centre + e) - own).square() for v, e in zip(each, unit, strict=True))
    assert torch.allclose(found.double(), truth, rtol=1e-3)


def test_a_subset_is_of_the_weights_that_there_are():
    network = small_dit().network.module
    every = all_of(network)
    some = some_of(every, 100, 7)
    assert len(some) == 100
    assert len(every) == sum(p.numel() for p in network.parameters())
    assert all(
        len(at.unique()) == len(at) and int(at.max()) < len(every.places[name]) for name, at in some.places.items()
    )
    assert some_of(every, len(every), 7) is every


def test_samples_are_those_of_sample_and_the_model_is_left_alone():
    model = small_dit()
    before = {name: weight.clone() for name, weight in model.network.module.state_dict().items()}
    plan = fewer.standard("dpmpp-2m", model, 4)
    images = torch.randn(8, *model.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    found = fewer.uncertainty(
        model, plan, 5, seed=3, data=images, method=LastLayer(draws=3, count=50, probes=8), first_sample=2
    )
    assert torch.equal(found.samples, fewer.sample(model, plan, 5, seed=3, first_sample=2))
    assert found.score.shape == (5,)
    assert sorted(found.doubtful) == list(range(5))
    assert found.score[found.doubtful[0]] == found.score.max()
    assert all(torch.equal(weight, before[name]) for name, weight in model.network.module.state_dict().items())


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_counts_pairs(samples: list[tuple[int, bool]]):
    score, bad = torch.tensor([s for s, _ in samples]).double(), torch.tensor([b for _, b in samples])
    if not bool(bad.any()) or bool(bad.all()):
        with pytest.raises(InputError, match="samples are bad"):
            auroc(score, bad)
        return
    gaps = score[bad][:, None] - score[~bad][None]
    assert auroc(score, bad) == pytest.approx(float((gaps.sign() + 1).mean() / 2))


def test_selective_risk_is_of_the_lowest_scores():
    score, bad = torch.tensor([0.1, 0.9, 0.2, 0.8]), torch.tensor([False, True, True, False])
    assert selective_risk(score, bad, 0.5) == 0.5
    assert selective_risk(score, bad, 1.0) == 0.5
    assert selective_risk(score, bad, 0.25) == 0.0
    with pytest.raises(InputError, match="kept"):
        selective_risk(score, bad, 0.0)


class Doubled(Shift):
    """More than its last layer's values."""

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return 2 * super().forward(x, t, labels)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda q: replace(q, plan=fewer.standard("dpmpp-2m", q.model, 4)), "bayesdiff is for plans"),
        (lambda q: replace(q, plan=guide(q.plan, 2.0)), "guided"),
    ],
)
def test_bayesdiff_refuses_plans_of_other_rows(change, says):
    with pytest.raises(InputError, match=says):
        BayesDiff().variance(change(question(small_dit())))


def test_bayesdiff_refuses_outputs_that_it_cannot_carry():
    model = fewer.Model.from_denoiser(Doubled().requires_grad_(False), Flow(1), (DIM,), "flow", name="doubled")
    with pytest.raises(InputError, match="more than the values of its last layer"):
        BayesDiff(probes=8).variance(question(model))


def test_bad_input_is_said_in_a_line():
    plan = fewer.standard("ddim", shifting(), 4)
    with pytest.raises(InputError, match="at least 8"):
        fewer.uncertainty(shifting(), plan, 4, data=torch.zeros(3, DIM))
    with pytest.raises(InputError, match="nearest-layer"):
        fewer.uncertainty(shifting(), plan, 4, method="nearest-layer")
    function = fewer.Model.from_denoiser(lambda x, t, labels: x, Flow(1), (DIM,), "flow", hash="x")
    with pytest.raises(InputError, match="is no torch"):
        fewer.uncertainty(function, plan, 4)
    with pytest.raises(InputError, match="draws"):
        RandomWeights(draws=1)


def test_the_command_writes_what_the_function_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LastLayer.__init__, "__defaults__", (4, 4, 4))
    monkeypatch.setattr("fewer.epistemic.uncertainty.SAMPLES", 8)
    few = ["sample", "digits", "--nfe", "2", "-n", "3", "--out", "doubt"]
    assert run([*few, "--uncertainty", "--json", "facts.json"]) == 0
    found = np.load("doubt/uncertainty.npz")
    assert Path("doubt/uncertainty.png").stat().st_size > 100
    assert found["std"].shape == (3, 1, 8, 8)
    assert json.loads(Path("facts.json").read_text())["uncertainty"] == pytest.approx(found["score"].tolist())
    capfd.readouterr()
    model = fewer.load("digits")
    with counted(model) as calls:
        fewer.uncertainty(model, fewer.standard("dpmpp-2m", model, 2, "logsnr"), 3)
    assert run([*few, "--uncertainty", "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert f"about {sum(calls):,} network evaluations" in said
    assert "and 4 backward passes" in said
    assert run(few) == 0  # its own files are replaced
    assert not list(Path("doubt").glob("uncertainty*"))
    capfd.readouterr()
    assert run(["sample", "digits", "--data", "digits", "--out", "no"]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert not Path("no").exists()
