"""The edge between the engine and a user's network: nothing around a call changes samples, and a call changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fewer
from fewer.errors import ForeignError, InputError
from fewer.evaluate.features import random_convolutions
from fewer.memory import halving
from fewer.models.edge import in_eval
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete

SHAPE = (1, 4, 4)
SCHEDULES = {
    "flow": Flow(),
    "variance-exploding": VarianceExploding(0.01, 50.0),
    "quarter-log": VarianceExploding(0.01, 50.0, time_input="quarter-log"),
    "discrete": discrete(betas("linear")),
    "zero terminal SNR": discrete(betas("scaled_linear"), zero_terminal_snr=True),
}
PLANS = {
    "one pass": lambda model: fewer.standard("heun", model, nfe=3),
    "guided": lambda model: fewer.standard("ddim", model, nfe=4, guidance=2.0),
}


def network(seed: int = 0) -> nn.Module:
    """A network that samples otherwise in train mode: it drops units, normalises by the batch, and moves its statistics."""
    torch.manual_seed(seed)
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(0.5))
    whole = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), inner, nn.Conv2d(4, 1, 3, padding=1))
    return whole.to(torch.float32).requires_grad_(False)


def conditional(net: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A network of two classes, the second of which stands for none."""
    return lambda x, t, labels: net(x) * (1 + 0.1 * labels.to(x.dtype))[:, None, None, None]


def model(net: Any, schedule: Any = None, **given: Any) -> fewer.Model:
    return fewer.Model.from_denoiser(
        net, schedule or Flow(), SHAPE, predicts="data", labels=1, empty_label=1, name="mine", **given
    )


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AROUND: dict[str, Callable[[], Any]] = {
    **{
        f"default {kind}": lambda kind=kind: default_dtype(kind)
        for kind in (torch.float64, torch.bfloat16, torch.float16)
    },
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


def everything(net: nn.Module) -> dict[str, Any]:
    """Samples, plans and figures of a model, and a run of its plan as a scheduler."""
    mine = model(conditional(net))
    plan = fewer.standard("dpmpp-2m", mine, nfe=4, steps="karras")
    guided = fewer.standard("ddim", mine, nfe=4, guidance=2.0)
    data = fewer.sample(mine, plan, n=160, seed=3)
    scheduler = fewer.FewerScheduler.from_plan(plan, mine)
    scheduler.set_timesteps(4)
    x = data[:2]
    noised = scheduler.add_noise(x, x.flip(0), scheduler.timesteps[1:2])
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(0.5 * scaled, t, scaled).prev_sample
    return {
        "plans": (plan, guided), "samples": fewer.sample(mine, guided, n=3), "data": data, "scheduler": (noised, x),
        "figures": fewer.measure(mine, plan, n=160, data=data, features=random_convolutions(SHAPE)),
        "mixture": fewer.GaussianMixture.random(SHAPE, 2, seed=1).sample(3)[0],
    }  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Whether two findings agree in every bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, tuple):
        return all(map(same, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return everything(network())


@pytest.mark.parametrize("around", AROUND)
def test_surroundings_change_no_bit(around: str, alone: dict[str, Any]) -> None:
    net = network()
    with AROUND[around]():
        found = everything(net)
    assert {name for name in alone if not same(found[name], alone[name])} == set()


@pytest.mark.parametrize(
    "around", ["autocast", *(pytest.param(each, marks=pytest.mark.slow) for each in AROUND if each != "autocast")]
)
@pytest.mark.usefixtures("few_standards")
def test_a_search_finds_the_same_plan(around: str) -> None:
    """Of a network in train mode, too, whose dropout would make each evaluation another."""
    net = network()
    options: dict[str, Any] = {"nfe": 2, "trials": 2, "noises": 8, "fresh": 8, "guidance": None}
    plan = fewer.tune(model(conditional(net.eval())), **options).plan
    net.train()
    with AROUND[around]():
        assert fewer.tune(model(conditional(net)), **options).plan.rows == plan.rows


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_may_write_into_its_input(kind: str, plan: str, dtype: torch.dtype) -> None:
    def clean(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return (x / 2 + t[:, None, None, None] / 1000 + labels[:, None, None, None] / 10).tanh().to(x.dtype)

    def in_place(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        out = clean(x, t, labels)
        for each in (x, t, labels):
            each.zero_()
        return out

    def itself(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return x.copy_(clean(x, t, labels))

    noise, labels = (
        torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)),
        torch.zeros(3, dtype=torch.int64),
    )
    kept = noise.clone()
    found = []
    for net in (clean, in_place, itself):
        mine = model(net, SCHEDULES[kind], dtype=dtype)
        found.append(fewer.sample(mine, PLANS[plan](mine), noise=noise, labels=labels))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(noise, kept)
    assert not labels.any()


@pytest.mark.parametrize("root", ["train", "eval"])
@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_in_eval_inside_and_in_its_own_mode_after(root: str, fails: bool) -> None:
    net = network()
    net.train(root == "train")
    net[1].train(root == "eval")
    net[1][3].train(root == "train")
    before = {name: module.training for name, module in net.named_modules()}
    statistics = {name: value.clone() for name, value in net.named_buffers()}

    def called(x: Tensor) -> Tensor:
        assert not any(module.training for module in net.modules())
        if fails:
            raise ValueError("no")
        return net(x)

    mine = model(conditional(called))
    with pytest.raises(ForeignError) if fails else nullcontext():
        found = fewer.sample(mine, fewer.standard("heun", mine, nfe=3), n=4)
    assert {name: module.training for name, module in net.named_modules()} == before
    for name, value in net.named_buffers():
        assert torch.equal(value, statistics[name])
    if not fails:
        net.eval()
        assert torch.equal(found, fewer.sample(mine, fewer.standard("heun", mine, nfe=3), n=4))


def test_calls_under_way_at_once_leave_a_module_in_eval_mode() -> None:
    """As of two threads: the first that is done must not put the other's network back in train mode."""
    net = network().train()
    first, second = in_eval([net]), in_eval([net])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(module.training for module in net.modules())
    second.__exit__(None, None, None)
    assert all(module.training for module in net.modules())


def test_compiled_and_scripted_networks_too() -> None:
    net = network().train()
    wanted = fewer.sample(model(conditional(net)), fewer.standard("heun", model(conditional(net)), nfe=3), n=4)
    for made in (torch.compile(net, backend="eager"), torch.jit.script(net)):
        mine = model(conditional(made))
        assert torch.allclose(fewer.sample(mine, fewer.standard("heun", mine, nfe=3), n=4), wanted, atol=1e-6)
        assert made.training


def test_what_a_network_switches_on_itself_counts() -> None:
    net = network().eval()

    def in_half(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    mine = model(conditional(in_half))
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        wanted = net(x)
    assert torch.equal(mine(x, 0.5, torch.zeros(2, dtype=torch.int64)), wanted.float())


def test_derivatives_go_through() -> None:
    mine = model(conditional(network().train()))
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(mine(x, 500.0, torch.zeros(2, dtype=torch.int64)).sum(), x)
    assert gradient.abs().sum() > 0


X = torch.zeros(2, *SHAPE)
TAKEN = {
    "a tuple of one": (X,),
    "a list of one": [X],
    "an object": SimpleNamespace(sample=X),
    "a mapping": {"sample": X},
}
REFUSED = {
    "returned NoneType": None,
    "returned tuple of 2": (X, X),
    "returned tuple of 1": (None,),
    "returned list of 0": [],
    "returned ndarray": np.zeros((2, *SHAPE), np.float32),
    "returned dict": {"logits": X},
    "returned Normal": torch.distributions.Normal(0.0, 1.0),  # whose `sample` is a function
    "returned float": 0.0,
    r"returned numbers of torch\.int64": X.long(),
    r"returned numbers of torch\.bool": X.bool(),
    r"returned numbers of torch\.complex64": X.to(torch.complex64),
    "returned a tensor on meta": X.to("meta"),
    r"returned shape \(\)": torch.tensor(0.0),
    r"returned shape \(1, 1, 4, 4\)": X[:1],
    r"returned shape \(2, 1, 4\)": X[..., 0],
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_is_no_output_is_refused_in_one_line(says: str) -> None:
    mine = model(lambda x, t, labels: REFUSED[says])
    with pytest.raises(InputError, match=f"^the network of mine {says}.*") as told:
        fewer.sample(mine, fewer.standard("ddim", mine, nfe=1), n=2)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("what", TAKEN)
def test_outputs_as_networks_wrap_them_are_taken(what: str) -> None:
    mine = model(lambda x, t, labels: TAKEN[what])
    assert fewer.sample(mine, fewer.standard("ddim", mine, nfe=1), n=2).shape == X.shape


@pytest.mark.parametrize(
    "error",
    [TypeError("no\nsecond line"), SystemExit(0), StopIteration(), AssertionError(), KeyError("x"), RuntimeError("a")],
)
def test_what_a_network_raises_names_it_and_is_kept(error: BaseException) -> None:
    def failing(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        raise error

    mine = model(failing)
    with pytest.raises(ForeignError, match=rf"^the network of mine raised {type(error).__name__}") as told:
        fewer.sample(mine, fewer.standard("ddim", mine, nfe=1), n=2)
    assert told.value.__cause__ is error
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("of mine")])
def test_an_interrupt_and_a_refusal_come_out_as_they_are(error: BaseException) -> None:
    def failing(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        raise error

    mine = model(failing)
    with pytest.raises(type(error)) as told:
        fewer.sample(mine, fewer.standard("ddim", mine, nfe=1), n=2)
    assert told.value is error


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), torch.cuda.OutOfMemoryError("of the device")]
)
def test_too_little_memory_makes_smaller_batches(error: Exception) -> None:
    sizes: list[int] = []

    def hungry(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if len(x) > 2:
            raise error
        sizes.append(len(x))
        return 0.5 * x

    mine = model(hungry)
    assert fewer.sample(mine, fewer.standard("ddim", mine, nfe=1), n=8, batch=8).shape == (8, *SHAPE)
    assert sizes == [2] * 4
    assert [len(part) for part, _ in halving(2, 2, lambda part: None)] == [2]


def test_a_classifier_is_called_as_the_network_is() -> None:
    """In eval mode, on states of its own, with the derivatives that guidance by it needs."""
    judge = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2)).to(torch.float32)
    mine = replace(model(conditional(network().train())), classifier=lambda x, tau: judge(x.mul_(1.0)))
    plan = fewer.standard("ddim", mine, nfe=2)
    rows = tuple(
        replace(row, guidance=fewer.registry.find("guidance", "classifier").make(scale=1.0)) for row in plan.rows
    )
    plan = replace(plan, rows=rows)
    found = fewer.sample(mine, plan, n=2)
    assert all(module.training for module in judge.modules())
    judge.eval()
    assert torch.equal(found, fewer.sample(mine, plan, n=2))
    assert not torch.equal(found, fewer.sample(mine, fewer.standard("ddim", mine, nfe=2), n=2))
    with pytest.raises(ForeignError, match="the classifier of mine raised ZeroDivisionError"):
        fewer.sample(replace(mine, classifier=lambda x, tau: 1 / 0), plan, n=2)
