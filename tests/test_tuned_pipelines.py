"""A whole `fewer tune` through pipelines of each kind of call, and its plan under `fewer.apply`: the samples are the model's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import tuned_pipelines as made
from torch import Tensor

import fewer
from fewer.cli.main import run
from fewer.engine import Draws, begun, play
from fewer.errors import InputError
from fewer.evaluate.reference import reference_plan
from fewer.models.ending import Ended
from fewer.models.model import Model
from fewer.plan import Row
from fewer.search.objective import Objective

SEARCH: dict[str, Any] = {"noises": 8, "fresh": 8, "evaluations": 2600}
DISTILLED: dict[str, Any] = {"noises": 16, "fresh": 16, "evaluations": 2600, "trials": 4}
LABELS = list(range(made.SAMPLES))
KINDS = ("image_to_image", "inpainting", "refiner", "base", "middle", "experts", "latent_consistency")
STEPS = {
    "image_to_image": 4,
    "inpainting": 4,
    "refiner": made.STEPS,
    "middle": made.STEPS,
}  # of which the call leaves two
SET: dict[str, dict[str, Any]] = {
    "image_to_image": {"strength": 0.6}, "refiner": {"denoising_start": 0.7}, "base": {"denoising_end": 0.7}
}  # fmt: skip
LONG = [kind if kind == "experts" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]

pytestmark = pytest.mark.usefixtures("few_standards")


@cache
def refiner() -> tuple[Any, dict[str, Any], Model]:
    """The pipeline, its call and the model of both, for tests that leave them as they are."""
    pipe, call = made.refiner()
    return pipe, call, Model.from_pipeline(pipe, call)


def noise_of(model: Model, call: dict[str, Any]) -> Tensor:
    """The unit noise of the call's own samples."""
    if model.beginning is not None and model.beginning.handed_on:
        tau = level(model, model.beginning.level)
        state = (1 - tau) * call["image"]  # of D + s eps
        return (state - (1 - model.beginning.level) * model.beginning.data) / tau
    if "latents" in call:
        return call["latents"].float()
    return model.network.sample_states(model.network.cut.noise)


def level(model: Model, tau: float) -> float:
    """The network's own level of one in the frame that the model's plans are searched in."""
    return float(model.schedule.named(tau)) if isinstance(model.schedule, Ended) else tau


def samples(model: Model, plan: fewer.Plan, call: dict[str, Any]) -> Tensor:
    """The plan's samples on the model from the call's noise; fresh noise is drawn by the call's generator."""
    noise, generator = noise_of(model, call), made.seeded()
    if not plan.stochastic:
        return fewer.sample(model, plan, noise=noise, labels=LABELS)
    labels = model.labels(len(noise), LABELS)
    draws = Draws(lambda _: torch.randn(noise.shape, generator=generator))
    with torch.inference_mode():
        return play(model, plan, begun(model, plan, noise, labels, lambda: noise), labels, draws=draws)


def played(plan: fewer.Plan, pipe: Any, call: dict[str, Any], steps: int) -> Tensor:
    """The pipeline's samples under the plan."""
    fewer.apply(plan, pipe)
    try:
        given = {"generator": made.seeded()} if "generator" in call else {}
        return pipe(**call | given | {"num_inference_steps": steps})[0]
    finally:
        fewer.unapply(pipe)


def check_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


@pytest.mark.parametrize("kind", LONG)
def test_a_tuned_plan_plays_as_on_the_model(kind: str) -> None:
    pipe, call = getattr(made, kind)()
    model = Model.from_pipeline(pipe, call)
    distilled = model.distilled is not None
    result = fewer.tune(model, nfe=3 if distilled else 2, **DISTILLED if distilled else SEARCH)
    plan = result.plan
    assert any("1 of its 4 evaluations" in note for note in result.record.notes) == distilled
    check_played(kind, model, plan, pipe, call)


@pytest.mark.parametrize("kind", ["inpainting", "base", "middle"])
def test_a_standard_plan_plays_as_on_the_model(kind: str) -> None:
    """From the call's own noise, too, of which inpainting makes what it knows of its states."""
    pipe, call = getattr(made, kind)()
    model = Model.from_pipeline(pipe, call)
    check_played(kind, model, fewer.standard("dpmpp-2m", model, nfe=2), pipe, call)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_and_so_does_one_of_the_command_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fewer tune module:function --nfe 2 --set strength=0.6` writes a plan for the call with that value."""
    pipe, call = getattr(made, kind)()
    values = SET.get(kind, {})
    given = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    budget = ["--nfe", "3", "--trials", "4"] if kind == "latent_consistency" else ["--nfe", "2"]
    words = [
        "tune",
        f"tuned_pipelines:{kind}",
        *budget,
        *given,
        "--evaluations",
        "2600",
        "--out",
        str(tmp_path / "out"),
    ]
    assert run(words) == 0, capsys.readouterr().err
    plan = fewer.Plan.load(tmp_path / "out/plan.json")
    steps = {"image_to_image": 4}.get(kind)  # 60 % of four steps are two
    check_played(kind, Model.from_pipeline(pipe, call | values), plan, pipe, call | values, steps)


def test_a_distilled_model_is_foreseen_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What a command has not been given is nothing that its search could not take."""
    assert run(["tune", "tuned_pipelines:latent_consistency", "--nfe", "3", "--dry-run"]) == 0, capsys.readouterr().err


def check_played(
    kind: str, model: Model, plan: fewer.Plan, pipe: Any, call: dict[str, Any], steps: int | None = None
) -> None:
    """The pipeline's samples under the plan are the model's."""
    steps = steps or STEPS.get(kind, len(plan.rows))
    ours, theirs = samples(model, plan, call), played(plan, pipe, call, steps)
    if isinstance(model.schedule, Ended):  # the pipeline's are D + s eps
        ours = ours / (1 - model.schedule.end)
    check_same(ours, theirs)


@pytest.mark.parametrize("kind", ["image_to_image", "refiner"])
def test_rows_are_fitted_at_states_that_begin_nowhere_else(kind: str) -> None:
    """Asked for outputs at states on the way, an objective adds no data to them once more."""
    pipe, call = getattr(made, kind)()
    model = Model.from_pipeline(pipe, call)
    assert model.beginning is not None
    x, tau = torch.randn(made.SAMPLES, *model.shape, generator=made.seeded()), 0.5 * model.start
    objective = Objective(model, x, model.labels(len(x)), torch.zeros_like(x))
    with torch.inference_mode():
        torch.testing.assert_close(
            objective.outputs(Row(tau, {0: 1.0}), x), model.velocity(x, tau, model.labels(len(x)))
        )


def test_a_refiner_begins_where_the_other_pipeline_leaves_off() -> None:
    """At the first of the pipeline's own times below its share, with samples whose flow leads to where the given ones' does."""
    pipe, call = made.refiner()
    model = Model.from_pipeline(pipe, call)
    pipe.scheduler.set_timesteps(made.STEPS)
    below = next(t for t in pipe.scheduler.timesteps.tolist() if t < 1000 * (1 - call["denoising_start"]))
    assert float(model.schedule.time(model.start)) == pytest.approx(below, rel=1e-6)
    plan = fewer.standard("dpmpp-2m", model, nfe=3)
    check_played("refiner", model, plan, pipe, call)
    ends = fewer.sample(model, reference_plan(model, 64), noise=noise_of(model, call), labels=LABELS)
    assert model.beginning is not None
    apart = (ends - model.beginning.data).square().mean().sqrt()
    assert float(apart) < 0.05 * float(ends.std())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"denoising_start": 0.5}, "the pipeline begins elsewhere"),
        ({"denoising_start": 0.7}, "the pipeline begins elsewhere"),
        ({"denoising_start": None, "strength": 0.5}, "the pipeline begins elsewhere"),
        ({"num_inference_steps": 2}, "give the number of steps of the call that it was made for"),
        ({"num_inference_steps": 50}, "give the number of steps of the call that it was made for"),
    ],
)
def test_a_refiners_plan_is_not_played_from_elsewhere(changed: dict[str, Any], said: str) -> None:
    pipe, call, model = refiner()
    fewer.apply(fewer.standard("ddim", model, nfe=2), pipe)
    with pytest.raises(InputError, match=said):
        pipe(**call | changed)
    fewer.unapply(pipe)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"denoising_start": 1.5}, "expected a share in"),
        ({"denoising_end": 0.61}, "makes no call of its scheduler's step"),
    ],
)
def test_shares_that_leave_nothing_are_refused(changed: dict[str, Any], said: str) -> None:
    pipe, call, _ = refiner()
    with pytest.raises(InputError, match=said):
        Model.from_pipeline(pipe, call | changed)


def test_a_plan_of_another_level_is_not_sampled() -> None:
    """Samples that are handed on are at one level: none are at another."""
    _, _, model = refiner()
    with pytest.raises(InputError, match="goes on with are at level"):
        fewer.sample(model, fewer.standard("ddim", model, nfe=2, steps=[0.3, 0.1]), n=2)
