"""A plan's times belong to the model that plays it: rows hold levels, whatever schedule they were made under."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fewer
from fewer.blocks.policies.t_stitch import SmallNetwork
from fewer.engine import bind, sample, times
from fewer.errors import InputError
from fewer.evaluate.leaderboard import compare
from fewer.integrations.scheduler import FewerScheduler
from fewer.models.model import Model
from fewer.models.schedules import Flow, Schedule, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan, Row, Start
from fewer.registry import parts

LINEAR = discrete(betas("linear"), name="linear")
SCHEDULES: dict[str, Schedule] = {
    "linear": LINEAR,
    "cosine": discrete(betas("squaredcos_cap_v2"), name="cosine"),
    "zero terminal SNR": discrete(betas("scaled_linear"), zero_terminal_snr=True, name="zero SNR"),
    "sigma": VarianceExploding(0.002, 80),
    "quarter-log": VarianceExploding(0.002, 80, "quarter-log"),
    "flow": Flow(),
}
PAIRS = [pair for pair in product(SCHEDULES, SCHEDULES) if pair[0] != pair[1]]
MIXTURE = fewer.GaussianMixture.random((1, 2, 2), components=3, seed=0)
LEVELS = (0.9, 0.6, 0.2)  # known to all


def exact(schedule: str) -> Model:
    return Model.from_mixture(MIXTURE, SCHEDULES[schedule], name=schedule, hash=schedule, dtype=torch.float64)


def made_under(schedule: str) -> Plan:
    return fewer.standard("dpmpp-2m", exact(schedule), 3, LEVELS)


def with_times(plan: Plan, told: list[Any]) -> Plan:
    return replace(plan, rows=tuple(replace(row, t=t) for row, t in zip(plan.rows, told, strict=True)))


def late(model: Model, plan: Plan) -> Plan:
    """The plan with times of its own, those of levels a little below its rows'."""
    return with_times(plan, [float(model.schedule.time(0.95 * float(row.tau))) for row in plan.rows])


def looped(scheduler: FewerScheduler, model: Model, x: Tensor) -> Tensor:
    """The loop of a pipeline."""
    for t in scheduler.timesteps:
        out = model.network(scheduler.scale_model_input(x, t), t.expand(len(x)), None)
        x = scheduler.step(out, t, x).prev_sample
    return x


@pytest.mark.parametrize(("made", "played"), PAIRS)
def test_a_plan_made_under_one_schedule_is_another_models_own_plan_at_the_same_levels(made: str, played: str) -> None:
    here, noise = exact(played), unit_noise(0, range(4), (1, 2, 2))
    plan, own = made_under(made), made_under(played)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(sample(here, plan, noise=noise), sample(here, own, noise=noise))
        one, other = (FewerScheduler.from_plan(each, here) for each in (plan, own))
    assert torch.equal(one.timesteps, other.timesteps)
    ends = [looped(each, here, noise) for each in (one, other)]
    assert torch.equal(*ends)
    assert torch.allclose(ends[0], sample(here, own, noise=noise), atol=1e-4)


@pytest.mark.parametrize(("made", "played"), [("linear", "flow"), ("flow", "cosine"), ("sigma", "quarter-log")])
def test_figures_are_those_of_the_models_own_plan(made: str, played: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fewer.evaluate.leaderboard.standard_plans", lambda model, nfe, guidance=None: [made_under(played)]
    )
    monkeypatch.setattr("fewer.evaluate.reference.MOST", 64)
    here, plan, own = exact(played), made_under(made), made_under(played)
    assert fewer.measure(here, plan, n=16) == fewer.measure(here, own, n=16)
    found = compare(here, [3], [plan.named("theirs"), own.named("own")], n=16)
    theirs, mine = (next(row for row in found["rows"] if row["name"] == name) for name in ("theirs", "own"))
    assert theirs["quality"] == mine["quality"]
    assert any("was made for" in note for note in found["notes"])


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_all_levels_at_once_are_told_the_bits_of_each(schedule: Schedule) -> None:
    model = Model.from_mixture(MIXTURE, schedule)
    levels = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * schedule.tau_max
    for size in (1, 3, 7, 500):
        rows = tuple(Row(tau, {}) for tau in levels[:size].tolist())
        found = times(model, Plan(Start(1.0, 1.0), rows))
        assert found == [float(schedule.time(row.tau)) for row in rows]


def test_times_of_a_level_that_is_a_tensor_have_its_derivative() -> None:
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (t,) = times(exact("linear"), Plan(Start(tau, tau), (Row(tau, {0: -0.4}),)))
    assert isinstance(t, Tensor)
    (slope,) = torch.autograd.grad(t, tau)
    step = 1e-6
    near = [float(LINEAR.time(0.4 + way * step)) for way in (1, -1)]
    assert float(slope) == pytest.approx((near[0] - near[1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("made", SCHEDULES)
def test_own_times_are_told_under_their_own_schedule_alone(made: str) -> None:
    """On another one the network is told its own times at the levels, and the user that it is."""
    first = exact(made)
    plan = late(first, made_under(made))
    told = [row.t for row in plan.rows]
    assert times(first, plan) == told
    assert [float(step.t) for step in bind(first, plan)] == told
    assert FewerScheduler.from_plan(plan, first).timesteps.tolist() == torch.tensor(told, dtype=torch.float32).tolist()
    for played in SCHEDULES.keys() - {made}:
        here = exact(played)
        says = f"plan 'dpmpp-2m given levels' was made under another noise schedule .*: at its levels {played} is given"
        assert times(here, plan) == times(here, made_under(made))
        with pytest.warns(UserWarning, match=says) as warned:
            found = sample(here, plan, 2)
        assert len(warned) == 1
        assert torch.equal(found, sample(here, made_under(made), 2))
        with pytest.warns(UserWarning, match="was made under another noise schedule"):
            scheduler = FewerScheduler.from_plan(plan, here)
        assert torch.equal(scheduler.timesteps, FewerScheduler.from_plan(made_under(made), here).timesteps)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("far", [1e6, 1e30, -5.0, float("nan"), float("inf")])
def test_no_network_is_told_a_time_far_outside_of_its_schedule(schedule: str, far: float) -> None:
    """Whether the plan stores the time or has the level that it belongs to; rounding is taken back to the schedule's ends."""
    here, seen = exact(schedule), []

    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        seen.extend(t.tolist())
        return 0.5 * x

    here = replace(here, network=network)
    plan = made_under(schedule)
    for model in (plan.model, None, {"name": "theirs", "hash": "h"}):
        with pytest.raises(InputError, match=r"row 1 has time|row 1 t is not finite") as told:
            sample(here, replace(with_times(plan, [None, far, None]), model=model), 2)
        assert "\n" not in str(told.value)
    ends = [float(here.schedule.time(tau)) for tau in (here.schedule.tau_min, here.schedule.tau_max)]
    beyond = 1e-3 * (max(ends) - min(ends))
    sample(here, with_times(plan, [max(ends) + beyond, None, min(ends) - beyond]), 2)
    for level in (1.0, 1 - 1e-12):
        noisier = replace(plan.rows[0], tau=level)
        with suppress(InputError):  # as for sigmas, which have no end
            sample(here, replace(plan, start=Start(level, level), rows=(noisier, *plan.rows[1:])), 2)
    assert min(ends) - 1e-6 <= min(seen) <= max(seen) <= max(ends) * (1 + 1e-6)


def test_own_times_of_no_schedule_are_told_to_any_network() -> None:
    """As those that were read off a scheduler."""
    plan = replace(with_times(made_under("linear"), [900.0, 500.0, 20.0]), model={"name": "theirs", "hash": "h"})
    for schedule in ("linear", "cosine", "flow"):
        assert times(exact(schedule), plan) == [900.0, 500.0, 20.0]


def test_each_network_has_times_of_its_own() -> None:
    """Of a second network above the levels that it knows: its noisiest; and own times hold for the network that they name."""
    small = Model.from_mixture(MIXTURE, VarianceExploding(0.002, 4.0), name="small", hash="small")
    model = replace(exact("linear"), others=(small,))
    plan = SmallNetwork(2, "last").apply(made_under("linear"), model)
    assert times(model, plan) == [float(LINEAR.time(0.9)), *(float(small.schedule.time(tau)) for tau in (0.6, 0.2))]
    above = replace(plan, rows=tuple(replace(row, network=1) for row in plan.rows))
    assert float(times(model, above)[0]) == pytest.approx(4.0)
    own = with_times(plan, [None, 1.0, 0.5])
    assert times(model, own)[1:] == [1.0, 0.5]
    elsewhere = replace(model, others=(exact("flow"),))
    assert times(elsewhere, own) == [float(LINEAR.time(0.9)), 600.0, 200.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("t", [1e6, -5.0])
def test_times_far_outside_of_the_schedule_are_refused(schedule: str, t: float) -> None:
    model, plan = exact(schedule), with_times(made_under(schedule), [None, t, None])
    with pytest.raises(InputError, match=f"row 1 has time {t:g}; times of .* are ".replace("+", r"\+")) as told:
        sample(model, plan, 2)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_older_files_play_to_the_bit_as_they_did(schema: int, tmp_path: Path) -> None:
    """Every row of theirs has its time: that of the level, or another one on purpose."""
    model = exact("linear")
    for plan in (made_under("linear"), late(model, made_under("linear"))):
        told = times(model, plan)
        content = json.loads(plan.save(tmp_path / "plan.json").read_text())
        for row, t in zip(content["rows"], told, strict=True):
            row["t"] = t
        (tmp_path / "older.json").write_text(json.dumps(content | {"schema": schema}))
        older = Plan.load(tmp_path / "older.json")
        assert [row.t for row in older.rows] == told
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(sample(model, older, 3), sample(model, plan, 3))
        assert times(exact("flow"), older) == [1000 * tau for tau in LEVELS]
        again = Plan.load(older.save(tmp_path / "again.json"))
        assert again == older


def test_files_hold_a_time_only_where_a_row_has_one_of_its_own(tmp_path: Path) -> None:
    plan = with_times(made_under("linear"), [None, 500.0, None])
    path = plan.save(tmp_path / "plan.json")
    content = json.loads(path.read_text())
    assert [row.get("t") for row in content["rows"]] == [None, 500.0, None]
    assert ["t" in row for row in content["rows"]] == [False, True, False]
    assert (content["schema"], content["model"]) == (4, exact("linear").signature)
    assert Plan.load(path) == plan


def test_a_saved_scheduler_knows_its_networks_schedule(tmp_path: Path) -> None:
    """Another plan can be made for it; a configuration of an older version tells the times that its rows have."""
    for name in SCHEDULES:
        here = exact(name)
        FewerScheduler.from_plan(made_under("linear"), here).save_pretrained(tmp_path)
        loaded = FewerScheduler.from_pretrained(tmp_path)
        assert loaded.frame.schedule == here.schedule
        again = FewerScheduler.from_plan(made_under("flow"), loaded)
        assert again.timesteps.tolist() == torch.tensor(times(here, made_under("flow")), dtype=torch.float32).tolist()
    file = tmp_path / "scheduler_config.json"
    config = json.loads(file.read_text())
    del config["schedule"]
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match="schedule is missing"):
        FewerScheduler.from_pretrained(tmp_path)
    for row, t in zip(config["plan"]["rows"], (900.0, 600.0, 200.0), strict=True):
        row["t"] = t
    file.write_text(json.dumps(config))
    assert FewerScheduler.from_pretrained(tmp_path).timesteps.tolist() == [900.0, 600.0, 200.0]
    for wrong in ({"steps": 1}, {"colour": "red"}, {}):
        file.write_text(json.dumps(config | {"schedule": wrong, "process": "variance-preserving"}))
        with pytest.raises(InputError, match="schedule is no variance-preserving one"):
            FewerScheduler.from_pretrained(tmp_path)


def test_every_rule_says_whether_it_draws_noise() -> None:
    rules = [kind.make for kind in parts("guidance") if isinstance(kind.make, type)]
    assert rules
    assert {rule.__name__ for rule in rules if rule.draws is True} == {"ConditionAnnealed"}
