"""Plans under `fewer.apply` in pipelines as their owners call and change them: the samples are those of `fewer.sample`."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.plan import Plan, Shortcut, Start

ROWS = 3


@pytest.fixture
def case() -> Iterator[tiny.Case]:
    made = tiny.stable_diffusion()
    yield made
    fewer.unapply(made.pipe)


def gentle(case: tiny.Case, solver: str = "dpmpp-2m", nfe: int = ROWS, **more: Any) -> Plan:
    """From a level where a random network's noise prediction is not blown up."""
    return fewer.standard(solver, case.model, nfe, "uniform", start=0.6, **more)


def ours(case: tiny.Case, plan: Plan, noise: Tensor | None = None) -> Tensor:
    noise = case.noise if noise is None else noise
    model = replace(case.model, shape=tuple(noise.shape[1:]))
    return fewer.sample(model, plan, noise=noise, labels=0)


def check_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_scale_that_guides_nothing(case: tiny.Case, scale: float) -> None:
    fewer.apply(gentle(case), case.pipe)
    check_same(case.run(ROWS, guidance_scale=scale), ours(case, gentle(case)))


@pytest.mark.parametrize("guidance", [None, 3.0])
def test_several_images_of_a_prompt(case: tiny.Case, guidance: float | None) -> None:
    plan = gentle(case, nfe=ROWS if guidance is None else 2 * ROWS, guidance=guidance)
    fewer.apply(plan, case.pipe)
    prompts = 5 * tiny.drawn(2, 3, 8, seed=2)
    told = {"prompt_embeds": prompts[:1], "negative_prompt_embeds": prompts[1:], "num_images_per_prompt": 2}
    check_same(case.run(ROWS, guidance_scale=guidance or 1.0, **told), ours(case, plan))


@pytest.mark.parametrize("size", [(4, 8), (16, 12)])
def test_images_of_another_size(case: tiny.Case, size: tuple[int, int]) -> None:
    plan, noise = gentle(case), tiny.drawn(2, 4, *size)
    fewer.apply(plan, case.pipe)
    found = case.run(ROWS, latents=noise, height=2 * size[0], width=2 * size[1])
    check_same(found, ours(case, plan, noise))


def test_a_callback_may_look_at_the_state_and_replace_it(case: tiny.Case) -> None:
    """Of one-step rows those after a state that is halved go on from its half."""
    plan, seen = gentle(case, "ddim"), []

    def halve(pipe: Any, n: int, t: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(values["latents"].clone())
        return {"latents": values["latents"] / 2} if n == 0 else values

    fewer.apply(plan, case.pipe)
    given = {"callback_on_step_end": halve, "callback_on_step_end_tensor_inputs": ["latents"]}
    found = case.run(ROWS, **given)
    first = replace(plan, rows=plan.rows[:1], end=plan.levels[1])
    rest = plan.from_row(1)
    state = ours(case, first) / 2
    check_same(found, ours(case, replace(rest, start=Start(rest.start.tau, 1.0)), state))
    scale = float(case.model.schedule.scale(rest.start.tau))
    check_same(seen[0], 2 * scale * state)
    assert len(seen) == ROWS


class LowRank(nn.Module):
    """A layer with a product of thin matrices beside it, as adapters put one into the place of the layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = (nn.Linear(*size, bias=False) for size in ((base.in_features, 2), (2, base.out_features)))

    def forward(self, x: Tensor, *args: Any, **more: Any) -> Tensor:
        """The sum."""
        return self.base(x) + self.up(self.down(x))


def adapted(pipe: Any) -> None:
    torch.manual_seed(4)
    block = next(module for module in pipe.unet.modules() if hasattr(module, "to_q"))
    block.to_q = LowRank(block.to_q)


def offloaded(pipe: Any) -> None:
    """What moves weights in and out puts another `forward` on the network object."""
    forward, pipe.moves = pipe.unet.forward, []

    def moved(*args: Any, **more: Any) -> Any:
        pipe.moves.append("in")
        return forward(*args, **more)

    pipe.unet.forward = moved


def compiled(pipe: Any) -> None:
    pipe.unet = torch.compile(pipe.unet, backend="eager")


def compiled_in_place(pipe: Any) -> None:
    pipe.unet.compile(backend="eager")


LONG = [pytest.param(change, marks=pytest.mark.slow) for change in (compiled, compiled_in_place)]


@pytest.mark.parametrize("kind", ["plain", "guided", "with blocks"])
@pytest.mark.parametrize("change", [adapted, offloaded, *LONG], ids=lambda change: change.__name__)
def test_networks_that_their_owner_has_changed(change: Callable[[Any], None], kind: str, case: tiny.Case) -> None:
    change(case.pipe)
    plan = gentle(case, nfe=2 * ROWS if kind == "guided" else ROWS, guidance=3.0 if kind == "guided" else None)
    expected = ours(case, plan)
    if kind == "with blocks":
        rows = [*plan.rows[:1], *(replace(row, blocks={"up.0.resnet.0": Shortcut({0: 0.5})}) for row in plan.rows[1:])]
        whole, plan = expected, replace(plan, rows=tuple(rows))
        fewer.apply(plan, case.pipe)
        found = case.run(ROWS)
        other = tiny.stable_diffusion()
        if change is adapted:
            adapted(other.pipe)
        fewer.apply(plan, other.pipe)
        check_same(found, other.run(ROWS))
        assert not torch.allclose(found, whole, atol=1e-3)
    else:
        fewer.apply(plan, case.pipe)
        check_same(case.run(ROWS, guidance_scale=2.0 if kind == "guided" else 1.0), expected)
    if change is offloaded:
        assert case.pipe.moves


@pytest.mark.parametrize("moved", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_networks_that_are_moved_in_and_out(case: tiny.Case, moved: str) -> None:
    pytest.importorskip("accelerate")
    plan = gentle(case, nfe=2 * ROWS, guidance=3.0)
    expected = ours(case, plan)
    getattr(case.pipe, moved)(device="cpu")
    fewer.apply(plan, case.pipe)
    check_same(case.run(ROWS, guidance_scale=2.0), expected)


def test_eight_threads_on_eight_copies(case: tiny.Case) -> None:
    plan = gentle(case, nfe=2 * ROWS, guidance=3.0)
    fewer.apply(plan, case.pipe)
    copies = [copy.deepcopy(case.pipe) for _ in range(8)]
    noises, found = [tiny.drawn(2, 4, 8, 8, seed=10 + n) for n in range(8)], {}
    prompts = 5 * tiny.drawn(2, 3, 8, seed=2)
    told = {
        "prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1),
        "guidance_scale": 2.0, "output_type": "latent", "num_inference_steps": ROWS,
    }  # fmt: skip

    def play(n: int) -> None:
        found[n] = copies[n](latents=noises[n], **told).images

    threads = [threading.Thread(target=play, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, noise in enumerate(noises):
        check_same(found[n], ours(case, plan, noise))


@pytest.mark.parametrize(
    "given", [{"timesteps": [900, 500, 100]}, {"sigmas": [10.0, 3.0, 1.0]}], ids=lambda g: next(iter(g))
)
def test_levels_that_the_caller_gives_are_refused(given: dict[str, Any]) -> None:
    case = tiny.stable_diffusion_xl()
    fewer.apply(gentle(case), case.pipe)
    with pytest.raises((InputError, ValueError), match=r"own|given"):
        case.run(ROWS, **given)
    fewer.unapply(case.pipe)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_under_guidance(dtype: torch.dtype) -> None:
    """The samples are those of float32 to the rounding of the dtype."""
    case = tiny.stable_diffusion_3()
    plan = fewer.standard("euler", case.model, 2 * ROWS, "uniform", guidance=2.0)
    expected = ours(case, plan, case.noise.to(dtype).float())
    pipe = copy.deepcopy(case.pipe).to(dtype)
    fewer.apply(plan, pipe)
    prompts, pooled = 5 * tiny.drawn(2, 3, 8, seed=2), tiny.drawn(2, 8, seed=3)
    told = {
        "prompt_embeds": prompts[:1].repeat(2, 1, 1), "negative_prompt_embeds": prompts[1:].repeat(2, 1, 1),
        "pooled_prompt_embeds": pooled[:1].repeat(2, 1), "negative_pooled_prompt_embeds": pooled[1:].repeat(2, 1),
    }  # fmt: skip
    given = {name: value.to(dtype) for name, value in told.items()} | {"latents": case.noise.to(dtype)}
    size = {"height": 16, "width": 16, "guidance_scale": 3.0, "output_type": "latent", "num_inference_steps": ROWS}
    found = pipe(**given, **size).images
    assert found.dtype == dtype
    apart = (found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(apart) < 30 * torch.finfo(dtype).eps
