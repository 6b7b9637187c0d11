"""What ends the loop of a pipeline that is cut, and what has none: each is told, and leaves nothing behind."""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from cut_calls import call_of, ddim, direct, made, parts, same, threads
from torch import Tensor

import fewer
from fewer.errors import ForeignError, InputError
from fewer.models.model import Model


def broken(case: tiny.Case, at: int, error: Callable[[], Any]) -> Any:
    """A hook by which the network's call number `at` raises."""
    calls = iter(range(10**6))

    def hook(*_: Any) -> None:
        if next(calls) >= at:
            error()

    network = getattr(case.pipe, "unet", None) or case.pipe.transformer
    return network.register_forward_pre_hook(hook)


def raising(error: BaseException) -> Callable[[], Any]:
    def now() -> None:
        raise error

    return now


def ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    time.sleep(0.05)


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (raising(ValueError("no\nweather")), ForeignError),
        (raising(SystemExit(3)), ForeignError),
        (ctrl_c, KeyboardInterrupt),
    ],
)
def test_what_ends_a_call_is_told_and_leaves_nothing(at: int, error: Any, seen: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's tests begin with it ignored
    case = ddim()
    call, before = call_of(case), parts(case)
    hook = broken(case, at, error)
    x = tiny.drawn(2, 1, 8, 8)

    def ask() -> Model:
        model = Model.from_pipeline(case.pipe, call)
        for t in (900.0, 500.0, 100.0):
            model(x, t, None)
        return model

    with pytest.raises(seen) as raised:
        ask()
    hook.remove()
    assert not threads()
    assert parts(case) == before
    if "weather" in str(raised.value):
        assert str(raised.value).endswith("DDIMPipeline raised ValueError: no")
    assert same(ask()(x, 100.0, None), direct(case, x, 100.0, 1.0))


def test_a_model_goes_on_after_an_error() -> None:
    case = ddim()
    model, x = Model.from_pipeline(case.pipe, call_of(case)), tiny.drawn(2, 1, 8, 8)
    hook = broken(case, 0, raising(RuntimeError("a cloud")))
    with pytest.raises(ForeignError, match="a cloud"):
        model(x, 100.0, None)
    hook.remove()
    assert not threads()
    assert same(model(x, 100.0, None), direct(case, x, 100.0, 1.0))


def test_a_model_that_is_dropped_takes_its_thread_with_it() -> None:
    case = ddim()
    before = parts(case)
    model = Model.from_pipeline(case.pipe, call_of(case))
    assert len(threads()) == 1
    del model
    assert not threads()
    assert parts(case) == before


def told(change: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A callback after each step."""
    return {"callback_on_step_end": lambda pipe, i, t, values: change(pipe, values)}


def interrupt(pipe: Any, values: dict[str, Any]) -> dict[str, Any]:
    pipe._interrupt = True
    return values


def replace_latents(pipe: Any, values: dict[str, Any]) -> dict[str, Any]:
    return {"latents": values["latents"] + 1}


def write_in_latents(pipe: Any, values: dict[str, Any]) -> dict[str, Any]:
    values["latents"].add_(1)
    return values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (interrupt, "ended its loop by itself"),
        (replace_latents, "changes the state"),
        (write_in_latents, "changes the state"),
    ],
)
def test_callbacks_that_end_the_loop_or_change_its_state_are_named(change: Any, said: str) -> None:
    case = tiny.stable_diffusion()
    call, before = call_of(case) | told(change), parts(case)
    model = Model.from_pipeline(case.pipe, call)
    x = tiny.drawn(2, *model.shape)
    with pytest.raises(InputError, match=said):
        [model(x, t, model.labels(2)) for t in (900.0, 500.0)]
    assert not threads()
    assert parts(case) == before


class OwnLoop(diffusers.DDPMPipeline):
    """Makes no call of its scheduler's step."""

    def __call__(self, batch_size: int = 1, generator: Any = None) -> Tensor:
        return torch.zeros(batch_size, 1, 8, 8)


class ThreeStates(diffusers.DDPMPipeline):
    """Copies its scheduler, to denoise three states at once."""

    def __call__(self, batch_size: int = 1) -> Any:
        return copy.deepcopy(self.scheduler), copy.deepcopy(self.scheduler)


def with_plan() -> Any:
    pipe = made()
    fewer.apply(
        fewer.standard("ddim", tiny.model_of(lambda x, t, labels: x, pipe.scheduler, (1, 8, 8), False), 4), pipe
    )
    return pipe


@pytest.mark.parametrize(
    ("make", "call", "said"),
    [
        (lambda: object(), {}, "object without a scheduler"),
        (lambda: made(OwnLoop), {}, "OwnLoop makes no call of its scheduler's step"),
        (lambda: made(ThreeStates), {}, "copies its scheduler"),
        (with_plan, {}, "fewer.unapply"),
        (made, {"prompt": "a cat"}, "DDPMPipeline has no argument 'prompt'"),
        (made, {"num_inference_step": 5}, "the nearest are num_inference_steps"),
        (made, ["a cat"], "expected the arguments of the pipeline's call"),
        (lambda: made(scheduler=diffusers.KarrasVeScheduler()), {}, "KarrasVeScheduler has no beta_schedule"),
    ],
)  # fmt: skip
def test_what_has_no_loop_to_cut_is_refused_by_name(make: Any, call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        Model.from_pipeline(make(), call)
    assert "\n" not in str(refused.value)
    assert not threads()
