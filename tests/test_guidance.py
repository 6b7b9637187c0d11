"""Rules of guidance: identities between them, what each promises of its output, presets, memory, bad input."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.calibrate.adaptive_guidance import adaptive_guidance, cosines
from fewer.calibrate.linear_ag import fit_linear_ag
from fewer.engine import History, begin, bind, play
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.autoguidance import Autoguidance
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.cfg_rescale import Rescaled
from fewer.guidance.cfg_zero_star import ZeroStar, zero_init
from fewer.guidance.dynamic_thresholding import Thresholded
from fewer.guidance.fdg import BandScales, FrequencyDecoupled, coarse_level, low_pass
from fewer.guidance.linear_ag import LinearAG
from fewer.guidance.mambo_g import MagnitudeAware
from fewer.guidance.passes import Passes
from fewer.guidance.policies.cfg_plus_plus import manifold_constrained
from fewer.guidance.policies.limited_interval import limited_interval
from fewer.guidance.tcfg import Tangential
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, betas, discrete
from fewer.noise import unit_noise
from fewer.registry import parts
from fewer.search.space import Space

SHAPE = (1, 4, 4)
EXACT = GaussianMixture.random(SHAPE, components=6, seed=3, classes=3)
PROCESS = discrete(betas("scaled_linear"), name="scaled_linear")
MODEL = Model.from_mixture(EXACT, PROCESS, conditional=True)
PLAIN = replace(MODEL, classes=None, empty_label=None, name="plain")
OF_TWO_PASSES = [
    ProjectedGuidance(3.0, 0.5, 2.0, -0.5), Rescaled(3.0), Thresholded(3.0), ZeroStar(3.0), Tangential(3.0),
    BandScales(3.0, 0.5, 1.5, 0.4), FrequencyDecoupled(3.0, 1.5), MagnitudeAware(3.0, 4.0),
]  # fmt: skip
LIKE_CFG = [
    ProjectedGuidance(3.0, parallel=1.0), Rescaled(3.0, 0.0), BandScales(3.0), FrequencyDecoupled(3.0, 3.0),
    MagnitudeAware(3.0, 0.0), LinearAG(3.0, (0.0,), ()),
]  # fmt: skip


def noise(n: int = 6, seed: int = 0) -> Tensor:
    return unit_noise(seed, range(n), SHAPE)


def a_plan(rows: int = 4, rule: Any = 3.0, solver: str = "dpmpp-2m") -> fewer.Plan:
    return guide(fewer.standard(solver, MODEL, rows, "logsnr"), rule)


def made(plan: fewer.Plan, model: Model = MODEL, **options: Any) -> Tensor:
    return fewer.sample(model, plan, noise=noise(), **options)


def one_row(label: Tensor, empty: Tensor, tau: float = 0.6, x: Tensor | None = None) -> Passes:
    """A row whose two passes give these outputs u."""
    x = torch.zeros_like(label) if x is None else x

    def call(x_in: Tensor, t: Any, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return torch.cat([label, empty])[: len(x_in)] if len(x_in) > len(label) else label

    return Passes(call, x, tau, x, 0.0, torch.zeros(len(x), dtype=torch.int64), 1, lambda f: f)


def norms(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


# what rules are


@pytest.mark.parametrize("rule", LIKE_CFG, ids=lambda rule: rule.rule)
def test_at_its_neutral_numbers_a_rule_is_classifier_free_guidance(rule: Any) -> None:
    if isinstance(rule, LinearAG):  # v = 0, so that u = scale u(label)
        label, empty = noise(seed=1), torch.zeros_like(noise())
        torch.testing.assert_close(rule.output(one_row(label, empty)), 3.0 * label)
    else:
        torch.testing.assert_close(made(a_plan(4, rule)), made(a_plan()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rule", [type(rule)(1.0) for rule in OF_TWO_PASSES if not isinstance(rule, Thresholded)])
def test_at_scale_one_most_rules_are_the_conditional_network(rule: Any) -> None:
    if isinstance(rule, FrequencyDecoupled | BandScales | Rescaled):
        rule = type(rule)(1.0)
    torch.testing.assert_close(made(a_plan(4, rule)), made(a_plan(4, 1.0)), atol=1e-4, rtol=1e-4)


# each rule's own promise


def test_projected_guidance_leaves_the_prediction_along_itself_alone() -> None:
    """With parallel = 0, <D - D(label), D(label)> = 0, and a bound holds the size of what is added."""
    label, empty, x = noise(seed=1), noise(seed=2), noise(seed=3)
    row = one_row(label, empty, x=x)
    with_label = row.data(label)
    moved = row.data(ProjectedGuidance(5.0).output(row)) - with_label
    torch.testing.assert_close((moved * with_label).sum((1, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    bounded = row.data(ProjectedGuidance(5.0, 1.0, 0.25).output(row)) - with_label
    torch.testing.assert_close(norms(bounded), torch.full((6,), 4 * 0.25))


def test_momentum_adds_the_differences_of_the_rows_before() -> None:
    """Two rows by hand, with levels of their own."""
    beta, plan = -0.5, a_plan(2, ProjectedGuidance(3.0, 1.0, 0.0, -0.5))
    history = History(past={})
    z, labels = noise(), MODEL.labels(6)
    play(MODEL, bind(MODEL, plan), begin(plan, z, lambda: z), labels, history=history)
    d = []
    for n, row in enumerate(plan.rows):
        x = history.states[n].double()
        both = [EXACT.denoise(x, float(row.tau), given) for given in (labels, torch.full_like(labels, 3))]
        d.append(both[0] - both[1] + (beta * d[-1] if d else 0))
        guided = both[0] + 2.0 * d[-1]
        ours = x - float(row.tau) * history.outputs[n]
        torch.testing.assert_close(ours, guided, atol=2e-4, rtol=1e-4)


def test_rescaled_output_has_the_conditional_spread() -> None:
    label, empty = noise(seed=1), 2 * noise(seed=2)
    out = Rescaled(5.0, 1.0).output(one_row(label, empty))
    torch.testing.assert_close(out.std((1, 2, 3)), label.std((1, 2, 3)))


def test_thresholded_data_lies_in_the_range() -> None:
    row = one_row(3 * noise(seed=1), noise(seed=2))
    data = row.data(Thresholded(5.0, 0.9).output(row))
    assert data.abs().max() <= 1 + 1e-5
    small = one_row(0.1 * noise(seed=1), 0.1 * noise(seed=2), tau=0.1)
    torch.testing.assert_close(Thresholded(2.0, 1.0).output(small), ClassifierFree(2.0).output(small))


def test_zero_star_scales_the_unconditional_output_by_least_squares() -> None:
    """What is left of u(label) is orthogonal to u(empty); multiples of u(empty) change nothing."""
    label, empty = noise(seed=1), noise(seed=2)
    at_zero = ZeroStar(0.0).output(one_row(label, empty))
    torch.testing.assert_close(((label - at_zero) * empty).sum((1, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        ZeroStar(3.0).output(one_row(label, empty)), ZeroStar(3.0).output(one_row(label, 7 * empty))
    )


@pytest.mark.parametrize("tau", [0.05, 0.6, 0.999999])
def test_tangential_damping_is_the_projection_of_a_singular_value_decomposition(tau: float) -> None:
    label, empty, x = (noise(seed=seed).double() for seed in (1, 2, 3))
    row = one_row(label, empty, tau, x)
    eps = torch.stack([row.noise(label).flatten(1), row.noise(empty).flatten(1)], 1)
    v = torch.linalg.svd(eps, full_matrices=False).Vh[:, 0]
    kept = (eps[:, 1] * v).sum(1, keepdim=True) * v
    guided = (kept + 3.0 * (eps[:, 0] - kept)).view_as(x)
    ours = row.noise(Tangential(3.0).output(row))
    torch.testing.assert_close(ours, guided, atol=1e-9, rtol=1e-7)


def test_bands_add_up_and_are_where_they_say() -> None:
    x = noise(seed=1)
    torch.testing.assert_close(low_pass(x, 1.0) + 0 * x, low_pass(low_pass(x, 1.0), 1.0), atol=1e-5, rtol=0)
    stripes = torch.tensor([1.0, -1.0]).repeat(4, 2).expand(2, 1, 4, 4)  # the highest frequency of an axis
    assert low_pass(stripes, 0.9).abs().max() < 1e-6
    torch.testing.assert_close(low_pass(stripes, 1.0), stripes)
    flat = torch.full((2, 1, 4, 4), 0.7)
    torch.testing.assert_close(low_pass(flat, 0.1), flat)
    torch.testing.assert_close(coarse_level(flat), flat)
    assert coarse_level(stripes).abs().max() < 0.1


@settings(deadline=None, max_examples=20)
@given(st.floats(0.0, 20.0))
def test_magnitude_aware_scale_lies_between_one_and_the_asked(damping: float) -> None:
    label, empty = noise(seed=1), noise(seed=2)
    w = (MagnitudeAware(5.0, damping).output(one_row(label, empty)) - empty) / (label - empty)
    ratio = norms(label - empty) / norms(empty)
    torch.testing.assert_close(w.flatten(1).median(1).values, 1 + 4 * (-damping * ratio).exp(), atol=1e-3, rtol=1e-3)


def test_autoguidance_is_linear_in_two_models_of_any_process() -> None:
    """By the same mixture, under another process and smoothed, at the row's level."""
    smooth = replace(EXACT, variances=EXACT.variances + 0.3)
    model = replace(MODEL, weaker=Model.from_mixture(smooth, Flow(), conditional=True))
    plan, z = a_plan(1, Autoguidance(2.5)), noise()
    tau, x = float(plan.rows[0].tau), float(plan.start.scale) * z
    strong, weak = (mixture.denoise(x, tau, MODEL.labels(6)) for mixture in (EXACT, smooth))
    torch.testing.assert_close(made(plan, model), (weak + 2.5 * (strong - weak)).float(), atol=1e-4, rtol=1e-4)


# presets


def test_limited_interval_guides_its_rows_and_pays_for_them() -> None:
    plan = fewer.standard("ddim", MODEL, 8, "logsnr")
    levels = [float(row.tau) for row in plan.rows]
    inside = limited_interval(plan, 3.0, levels[5], levels[2])
    assert [row.passes for row in inside.rows] == [1, 1, 2, 2, 2, 1, 1, 1]
    assert inside.nfe == 11
    assert limited_interval(plan, 3.0, 0.0, 1.0).rows == guide(plan, 3.0).rows


@settings(deadline=None, max_examples=20)
@given(st.floats(0.0, 1.0), st.integers(1, 5))
def test_cfg_plus_plus_is_a_scale_per_row(strength: float, rows: int) -> None:
    """The paper's step, noise put back by the unconditional prediction, against the table."""
    plan = manifold_constrained(fewer.standard("ddim", MODEL, rows, "logsnr"), strength)
    z, labels = noise().double(), MODEL.labels(6)
    x = float(plan.start.scale) * z
    for tau, then in pairwise(map(float, plan.levels)):
        label, empty = (EXACT.denoise(x, tau, given) for given in (labels, torch.full_like(labels, 3)))
        eps = (x - (1 - tau) * empty) / tau
        x = (1 - then) * (empty + strength * (label - empty)) + then * eps
    torch.testing.assert_close(made(plan), x.float(), atol=1e-3, rtol=1e-3)


def test_adaptive_guidance_stops_after_the_last_disagreement() -> None:
    plan = a_plan(8)
    found = cosines(MODEL, plan, noise(64))
    assert all(-1 <= cosine <= 1 for cosine in found)
    for bound in (found[3], -1.0, 1.0):
        stopped = adaptive_guidance(MODEL, plan, bound, noise(64))
        kept = sum(row.passes == 2 for row in stopped.rows)
        assert all(cosine >= bound for cosine in found[kept:])
        assert kept == 0 or found[kept - 1] < bound
        assert stopped.rows[:kept] == plan.rows[:kept]


def test_linear_ag_repeats_what_is_a_combination() -> None:
    """Where u(empty) is a fixed multiple of u(label), fitted rows give the plan's own samples at one pass."""

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return torch.tanh(x) * torch.where(labels == 3, 0.5, 1.0)[:, None, None, None]

    model = Model.from_denoiser(network, Flow(), SHAPE, "flow", 3, empty_label=3)
    plan = guide(fewer.standard("ddim", model, 6, "uniform"), 2.0)
    fitted = fit_linear_ag(model, plan, [2, 4, 5], noise(8, seed=5))
    assert [row.passes for row in fitted.rows] == [2, 2, 1, 2, 1, 1]
    torch.testing.assert_close(made(fitted, model), made(plan, model), atol=1e-4, rtol=1e-4)
    assert fit_linear_ag(model, plan, [4], noise(8), reach=1).rows[4].guidance.parameters()["empty"] != ()  # type: ignore[union-attr]


def test_zero_init_leaves_out_calls_and_keeps_the_state() -> None:
    plan = a_plan(5, solver="ddim")
    seen: list[Tensor] = []
    out = zero_init(plan, 2)
    assert (out.nfe, len(out.rows)) == (plan.nfe - 4, 3)
    made(out, callback=lambda row, x, data: seen.append(x))
    torch.testing.assert_close(seen[0], float(plan.start.scale) * noise())
    assert zero_init(plan, 0) == plan


# memory


def test_a_run_that_goes_on_from_a_row_remembers() -> None:
    plan = a_plan(5, ProjectedGuidance(3.0, momentum=-0.7))
    history = History()
    z, labels = noise(), MODEL.labels(6)
    whole = play(MODEL, bind(MODEL, plan), begin(plan, z, lambda: z), labels, history=history)
    again = play(MODEL, bind(MODEL, plan), history.states[3], labels, history=replace(history, first=3))
    assert torch.equal(whole, again)


def test_no_passes_are_kept_where_no_rule_needs_them() -> None:
    history = History()
    z, labels = noise(), MODEL.labels(6)
    play(MODEL, bind(MODEL, a_plan()), z, labels, history=history)
    assert history.past is None


def test_the_search_frees_the_scales_that_change_an_output() -> None:
    rules = [ClassifierFree(3.0), ProjectedGuidance(3.0), ClassifierFree(1.0), Rescaled(2.0)]
    plan = fewer.standard("dpmpp-2m", MODEL, 4, "logsnr")
    plan = replace(plan, rows=tuple(replace(row, guidance=rule) for row, rule in zip(plan.rows, rules, strict=True)))
    space = Space(MODEL, (plan,))
    assert space.guided == [0, 1, 3]
    assert [row.guidance for row in space.plan(space.vector(space.base)).rows] == rules


# bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ProjectedGuidance(math.nan), "guidance scale is nan"),
        (lambda: ProjectedGuidance("much"), "guidance scale is 'much'; expected a finite number"),  # type: ignore[arg-type]
        (lambda: ProjectedGuidance(2.0, parallel=2.0), r"guidance parallel is 2.0; expected a number in \[0, 1\]"),
        (lambda: Rescaled(2.0, share=-1), "guidance share is -1"),
        (lambda: Thresholded(2.0, quantile=1.5), "guidance quantile is 1.5"),
        (lambda: MagnitudeAware(2.0, damping=-1), "guidance damping is -1"),
        (lambda: BandScales(2.0, cutoff=True), "guidance cutoff is True"),
        (lambda: LinearAG(2.0, 1.0), "guidance label is 1.0; expected a list"),  # type: ignore[arg-type]
        (lambda: LinearAG(2.0, (math.inf,)), "guidance label is inf"),
        (lambda: Autoguidance(None), "guidance scale is None"),  # type: ignore[arg-type]
        (lambda: limited_interval(a_plan(), 2.0, 0.5, 1.5), "guidance interval's high is 1.5"),
        (lambda: limited_interval(a_plan(), 2.0, 0.7, 0.3), r"interval \(0.7, 0.3\] holds no row"),
        (lambda: limited_interval(a_plan(), math.inf, 0.1, 0.9), "guidance scale is inf"),
        (lambda: manifold_constrained(a_plan(), 0.5), "cfg.. needs rows of first order"),
        (lambda: manifold_constrained(a_plan(solver="ddim"), 2.0), "guidance strength is 2.0"),
        (lambda: zero_init(a_plan(), 4), "rows is 4"),
        (lambda: adaptive_guidance(MODEL, a_plan(4, 1.0), 0.9, noise()), "row 0 .* no pass with and without"),
        (lambda: adaptive_guidance(MODEL, a_plan(), 2.0, noise()), "guidance bound is 2.0"),
        (lambda: fit_linear_ag(MODEL, a_plan(), [0], noise()), "rows holds 0; expected numbers from 1 to 3"),
        (lambda: fit_linear_ag(MODEL, a_plan(), [1], noise(), reach=0), "reach is 0"),
        (lambda: made(a_plan(4, Autoguidance(2.0))), "autoguidance needs a model with a weaker network"),
        (lambda: made(a_plan(4, LinearAG(2.0, (1.0, 0.5)))), "row 0 weighs the label pass of row -1"),
        *(
            (lambda rule=rule: made(a_plan(4, rule), PLAIN), "guidance needs a model with labels")
            for rule in OF_TWO_PASSES
        ),
    ],
)
def test_bad_input_is_told_in_one_line(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", [part.name for part in parts("guidance") if not isinstance(part.make, type)])
def test_a_preset_is_no_rule_of_a_file(name: str, tmp_path: Path) -> None:
    path = a_plan().save(tmp_path / "p.json")
    content = json.loads(path.read_text())
    content["rows"][0]["guidance"] = {"rule": name, "scale": 2.0}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="it is not a rule of a row"):
        fewer.Plan.load(path)


def test_frequency_decoupling_needs_images() -> None:
    flat = GaussianMixture.random((1, 1, 2), components=4, classes=2)
    model = Model.from_mixture(flat, PROCESS, conditional=True)
    plan = guide(fewer.standard("ddim", model, 2, "logsnr"), FrequencyDecoupled(2.0))
    with pytest.raises(InputError, match="frequency-decoupled needs images above 2 x 2"):
        fewer.sample(model, plan, n=2)
