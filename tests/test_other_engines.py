"""Plans in other engines: their samplers are written here by their formulas, and must give the samples of our plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fewer
from fewer.cli.main import run
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.cfg_rescale import Rescaled
from fewer.integrations.engine_export import exported
from fewer.integrations.engines import COMFY_ONLY, K_SAMPLERS, played_by, solver_of
from fewer.models.schedules import Flow, VarianceExploding
from fewer.registry import find
from fewer.sigmas import from_sigmas
from fewer.solvers import compile_as_given
from fewer.solvers.trace import Level

Model = Callable[..., Tensor]
MIXTURE = fewer.GaussianMixture.random((2, 1, 2), components=3, seed=0)
LISTS = {False: (20.0, 7.0, 2.5, 0.9, 0.2, 0.0), True: (1.0, 0.93, 0.8, 0.55, 0.2, 0.0)}


def model_of(flow: bool) -> fewer.Model:
    """An exact model of few numbers, in float64."""
    schedule = Flow() if flow else VarianceExploding(0.02, 80.0)
    return fewer.Model.from_mixture(MIXTURE, schedule, dtype=torch.float64, hash="exact")


def denoiser(model: fewer.Model, flow: bool) -> Model:
    """D(x; sigma) of the model, as k-diffusion and ComfyUI call one."""

    def call(x: Tensor, sigma: Tensor, cond_scale: float = 1.0) -> Tensor:
        tau = float(sigma[0]) if flow else float(sigma[0] / (1 + sigma[0]))
        state = x if flow else x * (1 - tau)
        return state - tau * model.velocity(state, tau) * cond_scale

    return call


def euler(model: Model, x: Tensor, sigmas: list[float]) -> Tensor:
    for a, b in pairwise(sigmas):
        x = x + (b - a) * slope(model, x, a)
    return x


def heun(model: Model, x: Tensor, sigmas: list[float]) -> Tensor:
    for a, b in pairwise(sigmas):
        d = slope(model, x, a)
        if b > 0:
            d = (d + slope(model, x + (b - a) * d, b)) / 2
        x = x + (b - a) * d
    return x


def dpm_2(model: Model, x: Tensor, sigmas: list[float]) -> Tensor:
    for a, b in pairwise(sigmas):
        d, middle = slope(model, x, a), (a * b) ** 0.5
        if b > 0:
            d = slope(model, x + (middle - a) * d, middle)
        x = x + (b - a) * d
    return x


def second_order(model: Model, x: Tensor, sigmas: list[float], exact: bool) -> Tensor:
    """dpmpp_2m, or res_multistep where the line through the last two data predictions is integrated exactly."""
    steps = torch.tensor(sigmas, dtype=torch.float64).log().neg().diff().tolist()
    last: Tensor | None = None
    for n, (a, b) in enumerate(pairwise(sigmas)):
        data = model(x, x.new_full((len(x),), a))
        line = data
        if b > 0 and last is not None:
            h, r = steps[n], steps[n] / steps[n - 1]
            grown = 1 - torch.tensor(-h, dtype=torch.float64).exp()
            share = float((h - grown) / (h * grown)) if exact else 0.5
            line = data + share * r * (data - last)
        x, last = b / a * x + (1 - b / a) * line, data
    return x


def slope(model: Model, x: Tensor, sigma: float) -> Tensor:
    return (x - model(x, x.new_full((len(x),), sigma))) / sigma


FORMULAS: dict[str, Callable[[Model, Tensor, list[float]], Tensor]] = {
    "euler": euler, "heun": heun, "dpm_2": dpm_2, "dpmpp_2m": lambda *a: second_order(*a, exact=False),
    "res_multistep": lambda *a: second_order(*a, exact=True),
}  # fmt: skip


def noise(n: int = 3) -> Tensor:
    return torch.randn(n, 2, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("sampler", FORMULAS)
def test_the_plan_of_a_list_is_the_sampler_that_it_names(sampler: str, flow: bool) -> None:
    model, sigmas = model_of(flow), list(LISTS[flow])
    there = FORMULAS[sampler](denoiser(model, flow), noise() * sigmas[0], sigmas)
    plan = from_sigmas(sigmas, model, solver_of(sampler, flow))
    own = fewer.plan_sigmas(plan)
    here = fewer.sample_k_diffusion(denoiser(model, flow), noise() * own[0].double(), own, disable=True, plan=plan)
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fewer.sample(model, plan, noise=noise().float()).double(), there, rtol=1e-4, atol=1e-4)
    nearest = played_by(plan, flow)[0]
    assert (nearest.sampler, nearest.exact) == (sampler, True)
    torch.testing.assert_close(torch.tensor(nearest.sigmas), torch.tensor(sigmas))


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "res_multistep"])
def test_a_list_may_end_above_the_data_and_its_times_lose_that(sampler: str, flow: bool) -> None:
    model, sigmas = model_of(flow), list(LISTS[flow][:-1])
    there = FORMULAS[sampler](denoiser(model, flow), noise() * sigmas[0], sigmas)
    found = solver_of(sampler, flow)
    made = find("solvers", found).make() if isinstance(found, str) else found
    *taus, end = sigmas if flow else [s / (1 + s) for s in sigmas]
    plan = compile_as_given(made, [Level(tau, model.schedule) for tau in taus], end=end)
    printed = exported(plan, "sigmas", model)
    assert not printed.lost
    assert f"sampler {sampler} of" in printed.notes[0]
    assert printed.values == pytest.approx(sigmas)
    own = torch.tensor(printed.values, dtype=torch.float64)
    here = fewer.sample_k_diffusion(denoiser(model, flow), noise() * own[0], own, disable=True, plan=plan)
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)
    assert "end at level" in exported(plan, "timesteps", model).lost[0]


@pytest.mark.parametrize("flow", [False, True])
def test_exported_numbers_read_back_as_the_very_levels(flow: bool, tmp_path: Path) -> None:
    plan = from_sigmas(LISTS[flow], model_of(flow))
    printed = exported(plan, "sigmas")
    assert not printed.lost
    again = from_sigmas([float(word) for word in printed.text.split(",")], model_of(flow))
    assert [float(tau) for tau in again.levels] == pytest.approx([float(tau) for tau in plan.levels], rel=1e-15)
    assert exported(plan, "timesteps", model_of(flow)).values == pytest.approx(
        [1000 * s if flow else s for s in LISTS[flow][:-1]]
    )
    assert exported(plan, "k-diffusion").values == printed.values


def _changed(plan: fewer.Plan, what: str) -> fewer.Plan:
    rows = plan.rows
    rules = [ClassifierFree(2.0), *(ClassifierFree(3.0) for _ in rows[1:])]
    return {
        "weights": replace(plan, rows=(rows[0], replace(rows[1], b={0: -0.01, 1: rows[1].b[1] + 0.01}), *rows[2:])),
        "noise": replace(plan, rows=(replace(rows[0], noise=0.1), *rows[1:])),
        "rescaled": replace(plan, rows=tuple(replace(row, guidance=Rescaled(2.0)) for row in rows)),
        "guidance": replace(plan, rows=tuple(replace(r, guidance=g) for r, g in zip(rows, rules, strict=True))),
        "blocks": replace(plan, rows=(rows[0], replace(rows[1], blocks={"a": fewer.Shortcut({0: 1.0})}), *rows[2:])),
        "network": replace(plan, rows=(*rows[:-1], replace(rows[-1], network=1))),
        "start": replace(plan, start=replace(plan.start, scale=0.5)),
    }[what]


@pytest.mark.parametrize("what", ["weights", "noise", "guidance", "rescaled", "blocks", "network", "start"])
def test_what_a_list_of_levels_loses_is_said(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _changed(from_sigmas(LISTS[False], model_of(False)), what).save(tmp_path / "plan.json")
    assert run(["export", str(path), "--to", "sigmas"]) == 1
    out, err = capsys.readouterr()
    assert len(out.split(",")) == len(LISTS[False])
    assert what in err
    assert "lost" in err


def test_a_run_of_neighbours_is_played_from_there_and_to_there() -> None:
    model, sigmas = model_of(False), list(LISTS[False])
    plan = from_sigmas(sigmas, model)
    head = fewer.sample_k_diffusion(
        denoiser(model, False), noise() * 20, torch.tensor(sigmas[:3]), disable=True, plan=plan
    )
    whole = fewer.sample_k_diffusion(denoiser(model, False), head, torch.tensor(sigmas[2:]), disable=True, plan=plan)
    torch.testing.assert_close(whole, euler(denoiser(model, False), noise() * 20, sigmas), rtol=1e-6, atol=1e-6)


def test_the_callback_and_the_scales_of_rows_are_k_diffusions() -> None:
    model, seen, given = model_of(False), [], []
    plan = _changed(from_sigmas(LISTS[False], model), "guidance")

    def call(x: Tensor, sigma: Tensor, cond_scale: float) -> Tensor:
        given.append(cond_scale)
        return denoiser(model, False)(x, sigma)

    extra = {"cond_scale": 7.0}
    fewer.sample_k_diffusion(call, noise() * 20, fewer.plan_sigmas(plan), extra, seen.append, True, plan=plan)
    assert given == [2.0, 3.0, 3.0, 3.0, 3.0]
    assert [each["i"] for each in seen] == [0, 1, 2, 3, 4]
    assert all(each.keys() == {"i", "x", "sigma", "sigma_hat", "denoised"} for each in seen)
    torch.testing.assert_close(seen[0]["x"], noise() * 20)
    torch.testing.assert_close(seen[0]["denoised"], denoiser(model, False)(noise() * 20, torch.full((3,), 20.0)))


@pytest.mark.parametrize("what", ["guidance", "rescaled", "blocks", "network"])
def test_what_a_k_diffusion_model_cannot_play_is_refused(what: str) -> None:
    plan = _changed(from_sigmas(LISTS[False], model_of(False)), what)
    with pytest.raises(fewer.InputError, match=r"plan 'euler 5 sigmas'"):
        fewer.sample_k_diffusion(denoiser(model_of(False), False), noise(), fewer.plan_sigmas(plan), plan=plan)


def test_other_sigmas_than_the_plans_are_refused() -> None:
    plan = from_sigmas(LISTS[False], model_of(False))
    with pytest.raises(fewer.InputError, match="not those of plan"):
        fewer.sample_k_diffusion(denoiser(model_of(False), False), noise(), torch.tensor([20.0, 6.9, 0]), plan=plan)


def test_every_sampler_is_a_solver_that_is_named_in_an_export(tmp_path: Path) -> None:
    for sampler, solver in K_SAMPLERS.items():
        plan = from_sigmas(LISTS[False], model_of(False), solver)
        assert f"sampler {sampler} of" in exported(plan, "sigmas").notes[0]
        lines = exported(plan, "k-diffusion").text
        assert (f"sample_{sampler}(" in lines) == (sampler not in COMFY_ONLY)
        compile(lines, "lines", "exec")


def test_lines_for_diffusers_run(digits_plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(digits_plan), "--to", "diffusers", "--model", "digits", "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    compile(record["text"], "lines", "exec")
    assert record["exact"]
    assert "trained_betas" not in record["text"]


@pytest.fixture
def digits_plan(tmp_path: Path) -> Path:
    model = fewer.load("digits")
    return fewer.standard("euler", model, 4, "logsnr").save(tmp_path / "plan.json")
