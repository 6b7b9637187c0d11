"""Gradient-free classifier guidance: Bayes' rule for two classes, its formula by hand, what it costs, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fewer
from fewer.engine import bind, output
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.gradient_free import GradientFree
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan, Row, Shortcut, Start
from fewer.search.strategies.joint import names_of

SHAPE, K = (1, 1, 2), 3
W = torch.tensor([[1.0, 0.5], [-1.0, 0.3], [0.2, -2.0]])


def of_classes(classes: int) -> Model:
    exact = GaussianMixture.random(SHAPE, components=6, seed=3, classes=classes)
    return Model.from_mixture(exact, discrete(betas("scaled_linear"), name="scaled_linear"), conditional=True)


def linear(x: Tensor, tau: float) -> Tensor:
    assert tau == 0
    return x.flatten(1) @ W.T


MODEL = replace(of_classes(K), classifier=linear)


def a_plan(rows: int, rule: Any) -> Plan:
    return guide(fewer.standard("dpmpp-2m", MODEL, rows, "logsnr"), rule)


def made(rule: Any, model: Model = MODEL, rows: int = 6, **options: Any) -> Tensor:
    given = {"noise": unit_noise(0, range(6), SHAPE), **options}
    return fewer.sample(model, a_plan(rows, rule), **given)


@pytest.mark.parametrize("tau", [0.3, 0.6, 0.9])
def test_with_two_classes_and_the_true_posterior_it_is_classifier_free_guidance(tau: float) -> None:
    """grad log p(y | x) = (1 - p_y) (score(x | y) - score(x | r)), where r is all that y is not."""
    model = of_classes(2)
    exact, x, labels = model.exact, unit_noise(1, range(20), SHAPE).float(), torch.arange(20) % 2
    assert exact is not None
    assert exact.labels is not None
    prior = torch.stack([exact.weights[k == exact.labels].sum() for k in range(2)])
    given = [exact.log_prob(x, tau, torch.full((20,), k)) for k in range(2)]
    posterior = torch.stack(given, 1) + prior.log()
    (step,) = bind(model, Plan(Start(tau, tau), (Row(tau, {}),)))

    def u(rule: Any) -> Tensor:
        known = replace(model, classifier=lambda data, level: posterior)
        return output(replace(step, model=known, row=replace(step.row, guidance=rule)), x, labels)

    for scale in (0.5, 2.0, 4.0):
        torch.testing.assert_close(u(GradientFree(scale)), u(ClassifierFree(scale)), atol=1e-4, rtol=1e-4)


def test_the_formula_by_hand() -> None:
    """One row to level 0 gives D': D(y) + (scale - 1) (1 - p_y) (D(y) - D(r)), both of one call of twice the batch."""
    labels, noise = torch.tensor([0, 1, 2, 0, 1, 2]), unit_noise(0, range(6), SHAPE)
    ours = made(GradientFree(3.0), rows=1, labels=labels)
    data = made(1.0, rows=1, labels=labels)
    p = torch.softmax(data.flatten(1) @ W.T, 1)
    references = [max({0, 1, 2} - {int(y)}, key=p[n].tolist().__getitem__) for n, y in enumerate(labels)]
    both = made(1.0, rows=1, labels=torch.cat([labels, torch.tensor(references)]), noise=torch.cat([noise, noise]))
    w = 2.0 * (1 - p.gather(1, labels[:, None]))[..., None, None]
    torch.testing.assert_close(ours, data + w * (both[:6] - both[6:]), atol=1e-4, rtol=1e-4)
    assert len(set(references)) > 1


def test_at_scale_one_and_where_the_classifier_is_sure_it_is_the_conditional_network() -> None:
    plain = made(1.0)
    assert torch.equal(made(GradientFree(1.0), replace(MODEL, classifier=None)), plain)
    labels = torch.arange(6) % K
    sure = replace(MODEL, classifier=lambda x, tau: 1e4 * torch.nn.functional.one_hot(labels, K).float())
    torch.testing.assert_close(made(GradientFree(3.0), sure), plain, atol=1e-5, rtol=1e-5)
    assert (made(GradientFree(3.0)) - plain).abs().max() > 1e-2


def test_samples_do_not_depend_on_the_batch() -> None:
    torch.testing.assert_close(made(GradientFree(3.0)), made(GradientFree(3.0), batch=1), atol=1e-4, rtol=1e-4)


def test_a_row_costs_two_passes_and_the_empty_label_is_not_asked_for() -> None:
    seen: list[Tensor] = []

    def counted(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        seen.append(labels)
        return MODEL.network(x, t, labels)

    made(GradientFree(3.0), replace(MODEL, network=counted, empty_label=None))
    assert a_plan(6, GradientFree(3.0)).nfe == 12
    assert a_plan(6, GradientFree(1.0)).nfe == 6
    assert sum(map(len, seen)) == 12 * 6
    assert int(torch.cat(seen).max()) == K - 1
    for label, reference in zip(seen[::2], seen[1::2], strict=True):
        assert bool((label != reference).all())


def test_a_plan_with_it_is_kept_by_its_file(tmp_path: Path) -> None:
    plan = a_plan(3, GradientFree(2.5))
    assert Plan.load(plan.save(tmp_path / "p.json")).rows == plan.rows


def test_blocks_are_reused_by_the_pass_that_they_are_of() -> None:
    """A row at the state of the one before, whose branches it reuses in both passes, gives what its blocks would."""
    classifier = fewer.models.bundled.digits_classifier()
    model = replace(fewer.load("dit-digits"), classifier=lambda x, tau: classifier(x))
    plan = fewer.standard("ddim", model, 1, "logsnr")
    (row,) = plan.rows
    still, again = replace(row, b={0: 0.0}), replace(row, b={1: -float(row.tau)})
    whole = guide(replace(plan, rows=(still, again)), GradientFree(3.0))
    named = {name: Shortcut({0: 1.0}) for name in names_of(model)}
    reusing = replace(whole, rows=(whole.rows[0], replace(whole.rows[1], blocks=named)))
    one, other = (fewer.sample(model, plan, n=4, labels=[1, 2, 3, 8]) for plan in (whole, reusing))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GradientFree(math.nan), "guidance scale is nan"),
        (lambda: GradientFree("much"), "guidance scale is 'much'"),  # type: ignore[arg-type]
        (
            lambda: made(GradientFree(2.0), replace(MODEL, classifier=None)),
            "gradient-free needs a model with a classifier",
        ),
        (lambda: made(GradientFree(2.0), replace(MODEL, classes=None, empty_label=None)), "gradient-free needs labels"),
        (
            lambda: made(GradientFree(2.0), replace(MODEL, classifier=lambda x, tau: x)),
            "the classifier returned shape",
        ),
        (
            lambda: made(GradientFree(2.0), replace(MODEL, classifier=lambda x, tau: torch.zeros(len(x), 5))),
            "a classifier of 5 classes and a model of 3",
        ),
        (lambda: made(GradientFree(2.0), labels=torch.full((6,), K)), "with labels up to 3"),
    ],
)
def test_bad_input_is_told_in_one_line(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make()
    assert "\n" not in str(told.value)
