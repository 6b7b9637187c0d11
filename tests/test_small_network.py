"""Rows that call a second network: one output u whoever gives it, converted at the row's level."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import a_plan, of, reuse, small_dit, small_unet, with_blocks
from torch import Tensor, nn

import fewer
from fewer.blocks.policies.t_stitch import SmallNetwork
from fewer.cli.main import run
from fewer.engine import History, bind, check_fit, play, sample
from fewer.errors import InputError
from fewer.evaluate.cost.clock import macs
from fewer.evaluate.cost.latency import LatencyTable
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.integrations.scheduler import FewerScheduler
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan

MIXTURE = GaussianMixture.random((1, 4, 4), 3, seed=2)
SCHEDULES = [Flow(), VarianceExploding(0.002, 200.0), discrete(betas("linear"))]


def exact(schedule: object, predicts: str = "data") -> Model:
    """The mixture's denoiser under a process, as a network of some prediction type."""
    inner = Model.from_mixture(MIXTURE, schedule, dtype=torch.float64)  # type: ignore[arg-type]

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        data, tau = inner.network(x, t, labels), inner.schedule.tau(t[0].double())
        frame = x / inner.schedule.scale(tau)
        eps = (frame - (1 - tau) * data) / tau
        return {"data": data, "noise": eps, "flow": eps - data}[predicts]

    return replace(inner, network=network, predicts=predicts, name=predicts)


def both(one: Model, *others: Model) -> Model:
    return replace(one, others=others)


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
@pytest.mark.parametrize("predicts", ["data", "noise", "flow"])
@given(rows=st.integers(0, 6), where=st.sampled_from(["first", "last"]))
@settings(deadline=None, max_examples=4)
def test_the_same_denoiser_under_another_process_gives_the_same_samples(
    schedule: object, predicts: str, rows: int, where: str
) -> None:
    """Whatever prediction type and schedule the second network has: only its denoiser counts."""
    model = both(exact(SCHEDULES[2]), exact(schedule, predicts))
    plan = fewer.standard("dpmpp-2m", model, 6, "karras")
    made = SmallNetwork(rows, where).apply(plan, model)
    assert sum(row.network for row in made.rows) == rows
    torch.testing.assert_close(sample(model, made, 4), sample(model, plan, 4), rtol=1e-3, atol=1e-3)


def test_rows_call_the_network_that_they_name() -> None:
    """Networks that give constants: the samples tell which rows asked which."""

    def constant(value: float) -> Model:
        return Model.from_denoiser(lambda x, t, labels: torch.full_like(x, value), Flow(), (1, 2, 2), "flow")

    plan = fewer.standard("ddim", constant(0.0), 4, "uniform")
    steps = [float(row.b[n]) for n, row in enumerate(plan.rows)]
    made = replace(plan, rows=tuple(replace(r, network=k) for r, k in zip(plan.rows, (0, 1, 2, 1), strict=True)))
    noise = torch.zeros(3, 1, 2, 2)
    got = sample(constant(1.0), made, noise=noise, others=[constant(10.0), constant(100.0)])
    want = sum(h * u for h, u in zip(steps, (1.0, 10.0, 100.0, 10.0), strict=True))
    torch.testing.assert_close(got, torch.full_like(got, want))


def test_small_in_all_rows_is_the_small_model() -> None:
    large, small = exact(Flow()), exact(Flow(), "flow")
    plan = fewer.standard("ipndm", large, 5)
    made = SmallNetwork(5).apply(plan, both(large, small))
    torch.testing.assert_close(sample(large, made, 4, others=[small]), sample(small, plan, 4))


def test_guidance_asks_the_second_model_without_its_own_label() -> None:
    small = replace(small_dit(layers=2), empty_label=2, name="small")
    model, plan = both(small_dit(), small), a_plan(4, 3.0)
    made = SmallNetwork(4).apply(plan, model)
    assert torch.equal(sample(model, made, 3), sample(small, plan, 3))


def test_blocks_are_those_of_the_rows_own_network() -> None:
    """Each network keeps its own branches, and both are as they were afterwards."""
    large, small = small_dit(), small_dit(layers=2)
    model, whole = both(large, small), a_plan(4)
    calls = tuple(replace(r, network=k) for r, k in zip(whole.rows, (0, 1, 0, 1), strict=True))
    plan = with_blocks(replace(whole, rows=calls), {2: {"block.2": reuse(0)}, 3: {"block.1": reuse(1)}})
    kept = History()
    noise = unit_noise(0, range(2), model.shape)
    got = sample(model, plan, noise=noise)
    with torch.inference_mode():
        x = float(plan.start.scale) * noise
        assert torch.equal(play(model, bind(model, plan), x, model.labels(2), history=kept), got)
    assert {n: set(held) for n, held in kept.branches.items()} == {0: {"block.2"}, 1: {"block.1"}}
    assert plan_macs(model, plan) == macs(lambda: sample(model, plan, noise=noise[:1]))
    for each in (large, small):
        assert not any("forward" in m.__dict__ for m in each.network.module.modules())  # type: ignore[attr-defined]


def test_shortcuts_of_rows_that_go_to_the_small_network_are_run() -> None:
    model, plan = both(small_dit(), small_dit(layers=2)), a_plan(4)
    plan = with_blocks(plan, {1: {"block.2": reuse(0)}, 2: {"block.1": reuse(1)}, 3: {"block.1": reuse(2)}})
    made = SmallNetwork(2).apply(plan, model)
    assert [dict(row.blocks) for row in made.rows] == [{}, {}, {}, {"block.1": reuse(2)}]
    assert [row.network for row in made.rows] == [1, 1, 0, 0]


def test_each_network_is_paid_for_by_its_own_multiply_accumulates() -> None:
    large, small = small_dit(), small_unet()
    large = replace(large, network=lambda x, t, labels: small_dit().network(x, t, t.long() % 3), classes=None)
    model = both(large, small)
    made = SmallNetwork(3).apply(a_plan(5), model)
    assert plan_macs(model, made) == 3 * call_macs(small) + 2 * call_macs(large)
    assert plan_macs(model, made, 7) == 3 * call_macs(small) + 14
    with pytest.raises(InputError, match="measured for one"):
        LatencyTable("hash", {}, 64, {1: {2: 1.0}}, {}).predict(made, 2)


def test_plan_files_keep_the_column(tmp_path: Path) -> None:
    model = both(exact(Flow()), replace(exact(Flow(), "noise"), hash="abc", name="small"))
    made = SmallNetwork(2, "last").apply(fewer.standard("ddim", model, 4), model)
    path = made.save(tmp_path / "plan.json")
    assert Plan.load(path) == made
    assert made.others == ({"name": "small", "hash": "abc", "schedule": Flow().describe()},)
    assert check_fit(model, made) is None
    told = check_fit(both(model, replace(model.others[0], hash="other")), made)
    assert told is not None
    assert "made for small" in told
    older = json.loads(fewer.standard("ddim", model, 4).save(tmp_path / "older.json").read_text()) | {"schema": 2}
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert Plan.load(tmp_path / "older.json").networks == [0]
    wrong = json.loads(path.read_text())
    wrong["rows"][0]["network"] = -1
    path.write_text(json.dumps(wrong))
    with pytest.raises(InputError, match=r"rows\.0\.network"):
        Plan.load(path)


def test_bad_input() -> None:
    large, plan = exact(Flow()), fewer.standard("ddim", exact(Flow()), 4)
    model = both(large, exact(Flow()))
    made = SmallNetwork(2).apply(plan, model)
    with pytest.raises(InputError, match="the plan calls network 1, and data comes with 0 others"):
        sample(large, made, 2)
    with pytest.raises(InputError, match=r"shape of the second model own is \(2, 4, 4\); data has \(1, 4, 4\)"):
        sample(large, made, 2, others=[of(nn.Identity())])
    with pytest.raises(InputError, match="classes of the second model"):
        both(small_dit(), small_unet())
    for part, says in ((SmallNetwork(5), "rows is 5"), (SmallNetwork(1, "middle"), "where is 'middle'")):
        with pytest.raises(InputError, match=says):
            part.apply(plan, model)
    with pytest.raises(InputError, match="row 0 lies at level 1; data knows levels up to"):
        SmallNetwork(1).apply(plan, both(large, exact(VarianceExploding(0.002, 80.0))))
    crossed = with_blocks(SmallNetwork(1).apply(a_plan(), both(small_dit(), small_dit())), {1: {"block.1": reuse(0)}})
    crossed = replace(crossed, rows=(replace(crossed.rows[0], network=1), *crossed.rows[1:]))
    with pytest.raises(InputError, match="row 0, which calls another network"):
        crossed.check()
    with pytest.raises(InputError, match="calls network -1"):
        replace(plan, rows=(replace(plan.rows[0], network=-1), *plan.rows[1:])).check()


def test_diffusers_has_one_network() -> None:
    model = both(fewer.load("digits"), fewer.load("dit-digits"))
    made = SmallNetwork(1).apply(fewer.standard("ddim", model, 3, "logsnr"), model)
    with pytest.raises(InputError, match="calls a second model; a pipeline has one network"):
        FewerScheduler.from_plan(made, model)
    with pytest.raises(InputError, match="calls a second model, which no stock scheduler"):
        fewer.to_diffusers(made, model)


def test_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`--with` where a plan calls a second model, and one line and status 2 where they do not go together."""
    model = both(fewer.load("digits"), fewer.load("dit-digits"))
    plan = str(SmallNetwork(1).apply(fewer.standard("ddim", model, 2, "logsnr"), model).save(tmp_path / "plan.json"))
    one = str(fewer.standard("ddim", model, 2).save(tmp_path / "one.json"))
    out = ["--out", str(tmp_path / "out")]
    assert run(["sample", "digits", "--plan", plan, "--with", "dit-digits", "-n", "2", *out]) == 0
    assert (tmp_path / "out" / "00001.png").exists()
    capfd.readouterr()
    for words, says in (
        (["sample", "digits", "--plan", plan, *out], "give the second model by --with OTHER"),
        (["compare", "digits", "--plan", plan], "give the second model by --with OTHER"),
        (["sample", "digits", "--plan", plan, "--with", "mixture16", *out], "shape of the second model"),
        (["compare", "digits", "--plan", plan, "--with", "mixture16"], "shape of the second model"),
        (["sample", "digits", "--plan", one, "--with", "dit-digits", *out], "no row of a given plan"),
        (["sample", "digits", "--with", "dit-digits", *out], "no row of a given plan"),
    ):
        assert run(words) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert says in error
