"""What is wrong with a pipeline's schedule is found where it is, not where it is not; its repair repairs it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import LINEAR, bare, unet
from torch import Tensor

import fewer
from fewer.audit import Case, audit
from fewer.audit.cost import measured
from fewer.audit.faults import second_stages
from fewer.audit.inspection import inspect
from fewer.audit.shifts import shift
from fewer.audit.table import point_mass
from fewer.cli.main import run
from fewer.engine import sample, times
from fewer.errors import InputError
from fewer.evaluate.leaderboard import compare
from fewer.integrations.as_it_is import as_it_is
from fewer.integrations.probe import from_diffusers
from fewer.models.model import Model
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.models.pipelines.scheduler_config import clip_of, schedule_of
from fewer.models.pipelines.scheduler_config import settings as configuration
from fewer.noise import unit_noise

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
MIXTURE = fewer.GaussianMixture.random((1, 2, 2), components=3, seed=1)


def model_of(scheduler: Any, predicts: str | None = None, mixture: fewer.GaussianMixture = MIXTURE) -> Model:
    """The exact network of a mixture under the scheduler's process, with the scheduler as its pipeline."""
    schedule, told, _ = schedule_of(scheduler)
    exact = mixture.to(dtype=torch.float64)

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """What the scheduler takes the output for: it is (u - p x) / q of the exact u."""
        tau = float(schedule.tau(t[0].double()))
        c_in, p, q = model.affine(tau)
        state = x.double() / c_in
        return (((state - exact.denoise(state, tau)) / tau - p * state) / q).to(x.dtype)

    pipeline = PipelineDefaults(type(scheduler).__name__, configuration(scheduler), 20)
    clip = clip_of(scheduler)
    model = Model(
        network, schedule, predicts or told, (1, 2, 2), name="exact", hash="exact", clip=clip, pipeline=pipeline
    )
    return model


def ddim(**options: Any) -> Any:
    return diffusers.DDIMScheduler(**{**SD, "clip_sample": False, "timestep_spacing": "trailing", **options})


def flow(m: float = 1.0, steps: int = 8, twice: bool = False) -> Case:
    """A flow scheduler given regular levels down to the cleanest, or those shifted already."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=m)
    levels = np.linspace(1, 1e-3, steps)
    sigmas = shift(levels, m) if twice else levels
    return Case.of(model_of(scheduler), scheduler, steps, tuple(sigmas.tolist()))


def case(scheduler: Any, steps: int, predicts: str | None = None) -> Case:
    return Case.of(model_of(scheduler, predicts), scheduler, steps)


def trained_elsewhere(beta_end: float) -> Case:
    """A network of scaled-linear betas up to 0.012, and a scheduler with another end."""
    return Case.of(model_of(ddim()), ddim(beta_end=beta_end), 5)


@dataclass(frozen=True)
class Pair:
    """A case that has a fault, and one that differs as little as can be and has it not."""

    fault: str
    having: Any
    without: Any


PAIRS = (
    Pair("late start", lambda: case(ddim(timestep_spacing="leading"), 5), lambda: case(ddim(), 5)),
    Pair(
        "late start", lambda: case(diffusers.EulerDiscreteScheduler(**SD, timestep_spacing="leading"), 5),
        lambda: case(diffusers.EulerDiscreteScheduler(**SD), 5),
    ),
    Pair("terminal SNR", lambda: case(ddim(), 5), lambda: case(ddim(**COSINE), 5)),
    Pair(
        "alpha near zero", lambda: case(ddim(**COSINE), 5, "noise"), lambda: case(ddim(**COSINE), 5, "data")),
    Pair("shift twice", lambda: flow(3.0, twice=True), lambda: flow(3.0)),
    Pair(
        "shift twice", lambda: case(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), 8),
        lambda: case(diffusers.FlowMatchEulerDiscreteScheduler(), 8)),
    Pair("wrong times", lambda: trained_elsewhere(0.02), lambda: trained_elsewhere(0.012)),
    Pair(
        "rounded times", lambda: case(diffusers.DPMSolverMultistepScheduler(**SD, use_karras_sigmas=True), 8),
        lambda: case(diffusers.EulerDiscreteScheduler(**SD, use_karras_sigmas=True), 8)),
    Pair("off levels", lambda: case(ddim(), 7), lambda: case(ddim(), 8)),
    Pair("residual noise", lambda: case(ddim(set_alpha_to_one=False), 100), lambda: case(ddim(), 100)),
    Pair(
        "wasted calls", lambda: case(diffusers.PNDMScheduler(**SD), 10),
        lambda: case(diffusers.PNDMScheduler(**SD, set_alpha_to_one=True), 10)),
)  # fmt: skip
NAMES = [f"{pair.fault} {number}" for number, pair in enumerate(PAIRS)]


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
def test_a_fault_is_found_where_it_is_and_only_there(pair: Pair) -> None:
    having, without = pair.having(), pair.without()
    assert pair.fault in {fault.name for fault in audit(having)}
    assert pair.fault not in {fault.name for fault in audit(without)}
    for fault in audit(having):
        assert fault.rows
        assert max(fault.rows) < len(having.plan.rows)
        assert "\n" not in fault.sentence
        json.dumps(fault.to_dict())


@pytest.mark.parametrize("pair", PAIRS, ids=NAMES)
def test_the_repaired_table_is_without_the_fault_and_has_no_other_one(pair: Pair) -> None:
    having = pair.having()
    before = audit(having)
    fault = next(fault for fault in before if fault.name == pair.fault)
    if fault.repaired is None:
        assert pair.fault in ("terminal SNR", "wasted calls")
        return
    after = {other.name for other in audit(replace(having, plan=fault.repaired.check()))}
    assert fault.name not in after
    assert after <= {other.name for other in before}


def isotropic(means: Tensor, variance: float) -> fewer.GaussianMixture:
    """Equally likely Gaussians of one variance in every direction, on four values."""
    k = len(means)
    none = torch.zeros(k, 4, 0, dtype=torch.float64)
    residual = torch.full((k,), variance, dtype=torch.float64)
    return fewer.GaussianMixture(torch.ones(k).double(), means.double(), none, none[:, 0], residual, (1, 2, 2))


WIDE = isotropic(torch.zeros(1, 4), 100.0)


@pytest.mark.parametrize("spaced", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_late_start_loses_the_datas_spread(spaced: str) -> None:
    """Of data ten times as wide as the noise, of which the start is without alpha_0 times the width."""
    options = {**SD, "timestep_spacing": "leading", **({"clip_sample": False} if spaced == "DDIMScheduler" else {})}
    scheduler = getattr(diffusers, spaced)(**options)
    model = model_of(scheduler, mixture=WIDE)
    found = {fault.name: fault for fault in measured([Case.of(model, scheduler, 5)])}
    cost = found["late start"].cost
    assert cost is not None
    assert cost.low > 1


def test_residual_noise_is_the_error_where_all_else_is_exact() -> None:
    scheduler = ddim(set_alpha_to_one=False)
    model = model_of(scheduler, mixture=isotropic(torch.zeros(1, 4), 1e-6))
    cost = next(f.cost for f in measured([Case.of(model, scheduler, 10)]) if f.name == "residual noise")
    assert cost is not None
    assert cost.low > 10


def test_wrong_times_are_the_error_where_steps_are_fine() -> None:
    other = Case.of(model_of(ddim(), mixture=isotropic(torch.zeros(1, 4), 1.0)), ddim(beta_end=0.02), 40)
    cost = next(f.cost for f in measured([other]) if f.name == "wrong times")
    assert cost is not None
    assert cost.low > 1


def test_pure_noise_where_the_state_holds_data_narrows_the_samples() -> None:
    """Two bright and two dark means, far from zero: the more so, the more data the noisiest state holds."""
    wide = isotropic(torch.tensor([[-20.0] * 4, [20.0] * 4]), 100.0)
    values = []
    for beta_end in (0.012, 0.006):
        scheduler = ddim(beta_end=beta_end)
        found = {f.name: f.cost for f in measured([Case.of(model_of(scheduler, mixture=wide), scheduler, 10)])}
        values.append(found["terminal SNR"])
    some, more = values
    assert some is not None
    assert more is not None
    assert some.low > 1
    assert some.value < more.value


def test_faults_of_noisy_tables_are_measured_on_their_deterministic_form_or_not_at_all() -> None:
    leading = {"timestep_spacing": "leading", "clip_sample": False}
    own = {f.name: f.cost for f in measured([case(diffusers.DDPMScheduler(**SD, **leading), 5)])}
    twin = {f.name: f.cost for f in measured([case(ddim(timestep_spacing="leading"), 5)])}
    assert own["late start"] == twin["late start"] is not None
    noisy = diffusers.EulerAncestralDiscreteScheduler(**SD, timestep_spacing="leading")
    assert {f.name: f.cost for f in measured([case(noisy, 5)])}["late start"] is None


def test_a_wasted_call_changes_no_sample_and_a_second_stage_does() -> None:
    pndm = case(diffusers.PNDMScheduler(**SD), 10)
    wasted = next(fault for fault in audit(pndm) if fault.name == "wasted calls").rows
    stages = second_stages(pndm)
    assert stages
    assert not set(stages) & set(wasted)
    noise = unit_noise(0, range(8), (1, 2, 2))
    whole = sample(pndm.model, pndm.plan, noise=noise)

    def told_nonsense(n: int) -> Tensor:
        rows = list(pndm.plan.rows)
        rows[n] = replace(rows[n], t=500.5)
        return sample(pndm.model, replace(pndm.plan, rows=tuple(rows)), noise=noise)

    for n in wasted:
        assert torch.equal(told_nonsense(n), whole)
    for n in stages:
        assert not torch.equal(told_nonsense(n), whole)
    heun = case(diffusers.HeunDiscreteScheduler(**SD), 5)
    assert second_stages(heun) == (2, 4, 6, 8)
    assert "wasted calls" not in {fault.name for fault in audit(heun)}


FAULTLESS = [case(own, 5, predicts) for own in (ddim(), ddim(**COSINE)) for predicts in ("data", "noise")]


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(FAULTLESS),
    st.sampled_from(["ddim", "dpmpp-2m", "unipc", "heun", "deis"]),
    st.sampled_from(["logsnr", "trailing", "karras"]),
    st.integers(3, 9),
)
def test_standard_plans_have_no_fault_of_their_own(at: Case, solver: str, grid: str, nfe: int) -> None:
    """But for the terminal SNR, which is the training's; and with noise prediction they start where alpha is not small."""
    plan = fewer.standard(solver, at.model, nfe, grid)
    assert not [fault.name for fault in audit(replace(at, plan=plan)) if fault.tune_repairs]


@pytest.mark.usefixtures("few_standards")
def test_a_tuned_plan_has_none_of_the_pipelines_faults() -> None:
    """But that a search may start lower than the noisiest level on purpose, where it has measured that this is better."""
    own = case(ddim(timestep_spacing="leading", set_alpha_to_one=False), 7)
    assert {"late start", "residual noise"} <= {fault.name for fault in audit(own)}
    tuned = fewer.tune(own.model, nfe=3, seed=0, trials=1, noises=16, fresh=16).plan
    found = {fault.name for fault in audit(replace(own, plan=tuned)) if fault.tune_repairs}
    assert found <= {"late start"}


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 8), st.floats(0.001, 1))
def test_a_shift_is_undone_by_its_inverse_and_two_make_their_product(m: float, tau: float) -> None:
    assert float(shift(shift(tau, m), 1 / m)) == pytest.approx(tau)
    assert float(shift(shift(tau, m), 2.0)) == pytest.approx(float(shift(tau, 2 * m)))


def test_states_of_a_point_mass_are_where_every_standard_table_says() -> None:
    model = model_of(ddim())
    for solver in ("ddim", "heun", "dpmpp-3m", "unipc", "ipndm", "ancestral"):
        plan = fewer.standard(solver, model, 7, "logsnr")
        data, noise = point_mass(plan)
        taus = np.array([float(tau) for tau in plan.levels])
        np.testing.assert_allclose(data, 1 - taus, atol=1e-9)
        np.testing.assert_allclose(noise, taus, atol=1e-9)


def test_inspect_tells_faults_at_few_steps_and_its_own() -> None:
    model = model_of(ddim(timestep_spacing="leading"), mixture=WIDE)
    facts = inspect(model)
    assert {fault["steps"] for fault in facts["faults"] if fault["name"] == "late start"} == {5, 20}
    assert all(fault["cost"] is None for fault in facts["faults"])
    assert any("leading spacing" in warning and "at 5 steps" in warning for warning in facts["warnings"])
    facts = inspect(model, cost=True)
    costs = {fault["steps"]: fault["cost"] for fault in facts["faults"] if fault["name"] == "late start"}
    assert costs[5]["low"] > 1
    json.dumps(facts, allow_nan=False)


SCHEDULERS = {
    "DDPM": (diffusers.DDPMScheduler(**SD, clip_sample=False), True),
    "DDIM": (ddim(timestep_spacing="leading"), False),
    "DDIM that clips": (ddim(clip_sample=True), False),
    "PNDM": (diffusers.PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1), False),
    "DPMSolver": (diffusers.DPMSolverMultistepScheduler(**SD), False),
    "Euler": (diffusers.EulerDiscreteScheduler(**SD), False),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), False),
}


@pytest.mark.usefixtures("few_standards")
def test_a_search_has_the_pipeline_as_it_is_at_its_own_steps_and_at_the_budget() -> None:
    result = fewer.tune(model_of(SCHEDULERS["PNDM"][0]), nfe=4, noises=8, fresh=8, trials=1)
    own, there = [row for row in result.results["baselines"] if row["kind"] == "pipeline"]
    assert own["nfe"] > there["nfe"]
    assert there["name"] == f"pipeline as it is, {there['nfe']} calls"
    assert there["nfe"] <= 4
    assert there["quality"]["paired_rmse"]["value"] > own["quality"]["paired_rmse"]["value"]


@pytest.mark.parametrize("name", ["DDPM", "PNDM"])
@pytest.mark.usefixtures("few_standards")
def test_the_pipeline_as_it_is_is_a_row_of_every_comparison(name: str) -> None:
    scheduler, stochastic = SCHEDULERS[name]
    board = compare(model_of(scheduler), [4], n=16)
    rows = {row["name"]: row for row in board["rows"] if row["kind"] == "pipeline"}
    assert set(rows) == {"pipeline as it is, 4 calls", f"pipeline as it is, {21 if name == 'PNDM' else 20} calls"}
    for row in rows.values():
        assert row["scheduler"] == type(scheduler).__name__
        assert ("paired_rmse" in row["quality"]) is not stochastic


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_pipeline_is_asked_for_calls(name: str) -> None:
    scheduler, stochastic = SCHEDULERS[name]
    model = model_of(scheduler)
    own, few = as_it_is(model), as_it_is(model, 6)
    assert own is not None
    assert few is not None
    assert (own.steps, few.calls) == (20, 6)
    assert own.calls == (21 if name == "PNDM" else 20)
    assert own.stochastic is few.stochastic is stochastic
    assert few.name == "pipeline as it is, 6 calls"
    assert few.samples(model, unit_noise(0, range(4), model.shape), None, 0, None).isfinite().all()
    guided = as_it_is(model, 12, 3.0)
    assert guided is not None
    assert (guided.nfe, guided.calls) == (12, 6)


@pytest.mark.parametrize("name", [name for name, (_, stochastic) in SCHEDULERS.items() if not stochastic])
def test_its_table_gives_the_schedulers_own_samples(name: str) -> None:
    model = model_of(SCHEDULERS[name][0])
    noise = unit_noise(3, range(16), model.shape)
    pipeline = as_it_is(model, 8)
    assert pipeline is not None
    assert pipeline.nfe == 8
    assert (pipeline.plan is None) == (model.clip is not None)
    own = replace(pipeline, plan=None).samples(model, noise, None, 0, None)
    assert torch.allclose(pipeline.samples(model, noise, None, 0, None), own, atol=2e-4)


def test_models_without_a_pipeline_have_no_such_row() -> None:
    model = replace(model_of(ddim()), pipeline=None)
    assert as_it_is(model) is None
    assert not inspect(model)["faults"]
    with pytest.raises(InputError, match="no pipeline"):
        Case.of_pipeline(model)


def test_a_late_start_without_a_spacing_to_change_is_moved_to_the_top() -> None:
    own = case(ddim(), 6)
    below = own.plan.from_level(0.85)
    late = next(fault for fault in audit(replace(own, plan=below)) if fault.name == "late start")
    assert late.repaired is not None
    assert late.repaired.rows[0].tau == own.model.start
    assert late.repaired.rows[1:] == below.rows[1:]
    data, noise = point_mass(late.repaired)
    np.testing.assert_allclose((data + noise)[1], 1, atol=1e-2)  # the step still ends where it did


class Late(diffusers.DDIMScheduler):
    """Linear up to its third step, which bends."""

    def step(self, output: Any, t: Any, x: Any, **kwargs: Any) -> Any:
        out = super().step(output, t, x, **kwargs)
        if int(t) < 500:
            out.prev_sample = torch.tanh(out.prev_sample)
        return out


class Failing(diffusers.DDIMScheduler):
    """Its third step raises."""

    def step(self, output: Any, t: Any, x: Any, **kwargs: Any) -> Any:
        if int(t) < 500:
            raise ValueError("no such step")
        return super().step(output, t, x, **kwargs)


@pytest.mark.parametrize(
    ("kind", "says"),
    [(Late, r"not linear .* the step after call 2 \(t = 250\)"), (Failing, r"the step after call 2 \(t = 250\) fails")],
)
def test_a_scheduler_that_no_plan_holds_is_told_with_the_call_that_broke_it(kind: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        from_diffusers(kind(**SD), 4)
    assert "\n" not in str(caught.value)


REPAINT = """
import fewer
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.models.schedules import betas, discrete
VP = discrete(betas("linear"))
def repaint():
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=3, seed=0)
    from dataclasses import replace
    model = fewer.Model.from_mixture(mixture, VP, name="repaint", hash="repaint")
    return replace(model, pipeline=PipelineDefaults("RePaintScheduler", {}, 5))
"""


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bare(tmp_path / "tiny", unet(), diffusers.DDIMScheduler(**LINEAR, timestep_spacing="leading"))
    assert run(["inspect", str(folder)]) == 0
    out = capfd.readouterr().out
    assert "late start" in out
    assert "leading spacing" in out
    (tmp_path / "mine.py").write_text(REPAINT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert run(["inspect", "mine:repaint"]) == 0
    assert "cannot be read" in capfd.readouterr().out
    assert run(["inspect", "mine:repaint", "--cost"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "step after call 0" in err


def test_levels_of_ones_own() -> None:
    model = model_of(ddim())
    plan = fewer.standard("ddim", model, 3, (0.9, 0.5, 0.1))
    assert [row.tau for row in plan.rows] == [0.9, 0.5, 0.1]
    assert times(model, plan) == [pytest.approx(float(model.schedule.time(tau))) for tau in (0.9, 0.5, 0.1)]
    bad: list[tuple[Any, str]] = [
        ((0.9, 0.5, 0.5), "level 2 .* repeats level 1"), ((0.9, 0.5, 0.6), "level 2 .* rises above level 1"),
        ((0.9, 0.5), "2 levels; .* take 3"), ((1.2, 0.5, 0.1), "level 0 is 1.2"), ((0.9, 0.5, 0.0), "level 2 is 0"),
        ((0.9, float("nan"), 0.1), "level 1 is nan"), (("a", 0.5, 0.1), "no number"), (0.5, "0 levels"),
    ]  # fmt: skip
    for given_, says in bad:
        with pytest.raises(InputError, match=says):
            fewer.standard("ddim", model, 3, given_)
    with pytest.raises(InputError, match=r"start is 0\.8"):
        fewer.standard("ddim", model, 3, (0.9, 0.5, 0.1), start=0.8)
