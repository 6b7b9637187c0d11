"""Plans that guide, in pipelines that make their passes in any way: they give what fewer.sample gives, or say why not."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.cfg import ClassifierFree
from fewer.models.schedules import Flow
from fewer.plan import Plan, Shortcut

PROMPTS = tiny.drawn(2, 6, seed=2)  # of the label, and the empty one
NOISE = tiny.drawn(3, 6)


class Network(nn.Module):
    """F(x, t, prompt)."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.out = nn.Linear(6, 6), nn.Linear(6, 6)
        tiny.seeded(self)

    def forward(self, hidden_states: Any, timestep: Tensor, prompt: Any) -> tuple[Any]:
        if isinstance(hidden_states, list):
            return ([-out for out in self(torch.stack(hidden_states), timestep, torch.stack(prompt))[0]],)
        return (self.out(torch.tanh(self.block(hidden_states) + prompt)) + timestep.reshape(-1, 1) / 1000,)


@dataclass(eq=False)
class Pipeline:
    """A pipeline that makes its passes by `steps`, one function of (pipeline, state, t, scale)."""

    transformer: nn.Module
    scheduler: Any
    output: Callable[[Any, Tensor, Tensor, float], Tensor]

    def __call__(
        self, latents: Tensor = NOISE, num_inference_steps: int = 4, guidance_scale: float = 3.0, callback: Any = None
    ) -> Tensor:
        self.scheduler.set_timesteps(num_inference_steps)
        self.scale = guidance_scale
        for i, t in enumerate(self.scheduler.timesteps):
            out = self.output(self, latents, t, self.scale)
            latents = self.scheduler.step(out, t, latents, return_dict=False)[0]
            if callback is not None:
                callback(self, i)
        return latents

    def pass_of(self, x: Tensor, t: Tensor, *labels: int) -> Tensor:
        prompts = torch.cat([PROMPTS[label].expand(len(x), -1) for label in labels])
        return self.transformer(torch.cat([x] * len(labels)), timestep=t, prompt=prompts)[0]


def batched(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    if scale <= 1:
        return pipe.pass_of(x, t, 0)
    empty, label = pipe.pass_of(x, t, 1, 0).chunk(2)
    return empty + scale * (label - empty)


def label_first(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    label, empty = pipe.pass_of(x, t, 0, 1).float().chunk(2)
    return label + (scale - 1) * (label - empty)


def one_by_one(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    label = pipe.pass_of(x, t, 0)
    if scale <= 1:
        return label
    empty = pipe.pass_of(x, t, 1)
    return empty + scale * (label - empty)


def empty_first(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    empty, label = (pipe.pass_of(x, t, label) for label in (1, 0))
    mixed = empty + scale * (label - empty)
    return mixed * (label.norm(dim=-1, keepdim=True) / mixed.norm(dim=-1, keepdim=True))


def listed(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    """As Z-Image's pipeline, which gives its network lists of samples and of prompts."""
    n = len(x)
    told = [PROMPTS[0]] * n + [PROMPTS[1]] * n
    outs = pipe.transformer([*x, *x], t.expand(2 * n), told)[0]
    mixed = [label.float() + scale * (label - empty) for label, empty in zip(outs[:n], outs[n:], strict=True)]
    return -torch.stack(mixed)


def three(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    empty, label, other = pipe.pass_of(x, t, 1, 0, 0).chunk(3)
    return empty + scale * (label - empty) + label - other


def three_calls(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    return batched(pipe, x, t, scale) - 0.5 * pipe.pass_of(x, t, 1)


def perturbed(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    """Both passes have the prompt, and in the second the network is another."""
    label = pipe.pass_of(x, t, 0)
    with pipe.transformer.block.register_forward_hook(lambda *_: 0 * _[-1]):
        other = pipe.pass_of(x, t, 0)
    return label + scale * (label - other)


def by_numpy(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    return torch.from_numpy(batched(pipe, x, t, scale).numpy())


def dropping(pipe: Any, x: Tensor, t: Tensor, scale: float) -> Tensor:
    return 0 * batched(pipe, x, t, scale)


def made(output: Callable[..., Tensor]) -> tuple[Any, fewer.Model]:
    network = Network()
    pipe = Pipeline(network, diffusers.FlowMatchEulerDiscreteScheduler(), output)

    class Called(nn.Module):
        module = network

        def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            return network(x, t, PROMPTS[labels])[0]

    return pipe, fewer.Model(Called(), Flow(), "flow", (6,), classes=1, empty_label=1)


def guided(model: fewer.Model, *rules: Any) -> Plan:
    plan = fewer.standard("dpmpp-2m", model, len(rules), "uniform", start=0.8)
    return replace(plan, rows=tuple(replace(row, guidance=rule) for row, rule in zip(plan.rows, rules, strict=True)))


def sampled(model: fewer.Model, plan: Plan, noise: Tensor = NOISE) -> Tensor:
    return fewer.sample(model, plan, noise=noise, labels=0)


def count(rows: list[int], out: Any) -> None:
    if isinstance(out[0], Tensor):  # not twice what is made of lists
        rows.append(len(out[0]))


LABEL, BOTH, EMPTY = ClassifierFree(1.0), ClassifierFree(4.0), ClassifierFree(0.0)
APG = ProjectedGuidance(4.0, parallel=0.2, norm=1.0, momentum=-0.5)
MIXED = ((LABEL, BOTH, None, BOTH), (BOTH, LABEL, APG, APG), (EMPTY, LABEL, BOTH, EMPTY))


@pytest.mark.parametrize("rules", MIXED)
@pytest.mark.parametrize("output", [batched, label_first, one_by_one, empty_first, listed])
def test_rows_make_the_passes_that_they_name(output: Any, rules: Any) -> None:
    """Those alone are run, but for the first row, of which it is not known in which order the pipeline makes them."""
    pipe, model = made(output)
    plan = guided(model, *rules)
    fewer.apply(plan, pipe)
    for noise in (NOISE, NOISE[:1].repeat(2, 1)):
        rows: list[int] = []
        with pipe.transformer.register_forward_hook(lambda _, args, out, rows=rows: count(rows, out)):
            found = pipe(noise)
        spare = sum(rows) - len(noise) * plan.nfe
        torch.testing.assert_close(found, sampled(model, plan, noise), atol=1e-5, rtol=1e-5)
        assert 0 <= spare <= (0 if len(rules[0].conditions) == 2 else len(noise))


@pytest.mark.parametrize("output", [batched, one_by_one])
def test_guidance_that_ends_in_mid_run(output: Any) -> None:
    """Rows of one pass do not need the second; rows of two say that it is missing."""
    pipe, model = made(output)

    def cutoff(pipe: Any, i: int) -> None:
        pipe.scale = 1.0 if i == 1 else pipe.scale

    plan = guided(model, BOTH, BOTH, LABEL, LABEL)
    fewer.apply(plan, pipe)
    torch.testing.assert_close(pipe(callback=cutoff), sampled(model, plan), atol=1e-5, rtol=1e-5)
    fewer.apply(guided(model, BOTH, BOTH, BOTH, LABEL), pipe)
    with pytest.raises(InputError, match="guides by row 2, but Pipeline makes one pass there"):
        pipe(callback=cutoff)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (three, "makes 3 passes there"), (three_calls, "not understood|makes 3 passes"), (perturbed, "have the same prompt"),
        (by_numpy, "is not understood"), (dropping, "neither of the two passes .* grows"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [LABEL, BOTH])
def test_what_is_not_understood_is_refused(output: Any, said: str, first: Any) -> None:
    pipe, model = made(output)
    fewer.apply(guided(model, first, BOTH), pipe)
    with pytest.raises(InputError, match=f"plan .* guides by row 0, but .*({said})") as told:
        pipe(num_inference_steps=2)
    assert "\n" not in str(told.value)


def stop(pipe: Any, i: int) -> None:
    raise KeyboardInterrupt


def fail(pipe: Any, i: int) -> None:
    raise RuntimeError


@pytest.mark.parametrize("end", [stop, fail, None])
def test_nothing_is_left_of_a_call(end: Any) -> None:
    """Of the pipeline, of its network, and of another pipeline that shares it, whatever ends the call."""
    pipe, model = made(batched)
    network, kind = pipe.transformer, type(pipe)
    other = Pipeline(network, diffusers.FlowMatchEulerDiscreteScheduler(), batched)
    expected, before = other(), [dict(vars(module)) for module in network.modules()]
    rows = guided(model, BOTH, LABEL, BOTH, LABEL).rows
    short = [replace(row, blocks={"block": Shortcut({0: 1.0})}) for row in rows[1:]]
    plan = replace(guided(model, BOTH, LABEL, BOTH, LABEL), rows=(rows[0], *short))
    fewer.apply(plan, pipe)
    right = pipe()
    torch.testing.assert_close(right, sampled(model, plan), atol=1e-5, rtol=1e-5)
    try:
        pipe(callback=end)
    except (KeyboardInterrupt, RuntimeError):
        assert end is not None
    assert [dict(vars(module)) for module in network.modules()] == before
    assert pipe.transformer is network
    assert torch.equal(other(), expected)
    assert torch.equal(pipe(), right)
    fewer.unapply(pipe)
    assert type(pipe) is kind


def test_a_pipeline_that_is_dropped_takes_its_plan_along() -> None:
    pipe, model = made(batched)
    network, gone = pipe.transformer, weakref.ref(pipe)
    fewer.apply(guided(model, BOTH, BOTH, BOTH, BOTH), pipe)
    pipe()
    del pipe
    gc.collect()
    assert gone() is None
    assert not network._forward_hooks
    assert not network._forward_pre_hooks


def test_copies_play_the_plan_and_pipelines_of_the_same_class_do_not() -> None:
    pipe, model = made(one_by_one)
    plan = guided(model, BOTH, LABEL, BOTH, LABEL)
    fewer.apply(plan, pipe)
    for twin in (copy.copy(pipe), copy.deepcopy(pipe)):
        torch.testing.assert_close(twin(), sampled(model, plan), atol=1e-5, rtol=1e-5)
    plain = type(pipe)(pipe.transformer, diffusers.FlowMatchEulerDiscreteScheduler(), one_by_one)
    assert type(plain) is Pipeline
    sharing = Pipeline(pipe.transformer, pipe.scheduler, one_by_one)
    with pytest.raises(InputError, match=r"has guidance in row 0; fewer\.apply\(plan, pipe\) plays it"):
        sharing()


@pytest.mark.parametrize(
    "how", ["before", *(pytest.param(how, marks=pytest.mark.slow) for how in ("in place", "after"))]
)
def test_compiled_networks(how: str) -> None:
    """By a backend that runs graphs as they are; warmed up before and after."""
    pipe, model = made(batched)
    plan = guided(model, BOTH, LABEL, BOTH, LABEL)
    plan = replace(plan, rows=(*plan.rows[:3], replace(plan.rows[3], blocks={"block": Shortcut({0: 1.0})})))
    expected, own = sampled(model, plan), pipe()
    torch._dynamo.reset()
    if how == "in place":
        pipe.transformer.compile(backend="eager")
    elif how == "before":
        pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    for again in (False, True):
        torch.testing.assert_close(pipe(), own, atol=1e-5, rtol=1e-5)
        fewer.apply(plan, pipe)
        if how == "after" and not again:
            pipe.transformer = torch.compile(pipe.transformer, backend="eager")
        torch.testing.assert_close(pipe(), expected, atol=1e-5, rtol=1e-5)
        fewer.unapply(pipe)


@pytest.mark.parametrize("output", [batched, one_by_one])
def test_blocks_of_each_pass_are_its_own(output: Any) -> None:
    """Under a plan without guidance too: every pass of the pipeline reuses its own branches."""
    pipe, model = made(output)
    plain = fewer.standard("dpmpp-2m", model, 4, "uniform", start=0.8)
    rows = [
        replace(row, blocks={"block": Shortcut({0: 0.5})} if n in (1, 3) else {}) for n, row in enumerate(plain.rows)
    ]
    plan = replace(plain, rows=tuple(rows))
    fewer.apply(plan, pipe)
    constant = replace(plan, rows=tuple(replace(row, guidance=BOTH) for row in plan.rows))
    torch.testing.assert_close(pipe(guidance_scale=4.0), sampled(model, constant), atol=1e-5, rtol=1e-5)
