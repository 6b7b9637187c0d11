"""Methods that choose codes and bits: where they begin, what they never make worse, and exact small instances."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fewer import InputError, Model
from fewer.compression.quantise import Task
from fewer.compression.quantise.adaround import Choice
from fewer.compression.quantise.budget import cheapest
from fewer.compression.quantise.flexround import Division, FlexRound
from fewer.compression.quantise.gptq import compensated, inverse, reaching
from fewer.compression.quantise.hawq import HawqV2, mean_traces, quotients
from fewer.compression.quantise.inputs import calibrated
from fewer.compression.quantise.nearest import Nearest
from fewer.compression.quantise.quantise import quantised
from fewer.compression.quantise.reste import ReSTE, binary, signs, slope
from fewer.compression.quantise.slim_llm import SliMLLM, bits_by_salience
from fewer.compression.quantise.states import states_of
from fewer.models.quantised.grid import Codes, Format, Grid
from fewer.models.quantised.network import layers_of
from fewer.models.schedules import betas, discrete


class Network:
    """A module as the network of a model."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return self.module(x, t)


def of(module: nn.Module, shape: tuple[int, ...] = (2, 4, 4)) -> Model:
    return Model(Network(module), discrete(betas("linear")), "data", shape, name="own", hash="own")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


FORMATS = [
    Format(4), Format(3, "asymmetric", group=7), Format(2, "half-step"), Format(4, per="tensor"), Format(1, "asymmetric"),
]  # fmt: skip


@pytest.mark.parametrize("how", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(6, 20), (4, 3, 3, 3)])
def test_flexround_begins_with_rounding_to_nearest(how: Format, shape: tuple[int, ...]) -> None:
    w = drawn(*shape)
    learned, plain = Division(w, how), Codes.nearest(w, how)
    assert torch.equal(learned.codes().codes, plain.codes)
    assert torch.equal(learned.codes().grid.scale, plain.grid.scale)
    assert torch.allclose(learned(), plain.weight, atol=1e-5)


@pytest.mark.parametrize("how", FORMATS, ids=str)
def test_adaround_begins_with_rounding_to_nearest(how: Format) -> None:
    w = drawn(6, 20)
    assert torch.equal(Choice(w, how, 0.0).codes().codes, Codes.nearest(w, how).codes)


def test_a_divisor_moves_by_as_much_as_its_weight_is_large() -> None:
    """d W'/d log S2 = -W / (S2 s3) at S2 = s3 = 1, within the grid."""
    w = drawn(5, 9)
    learned = Division(w, Format(4))
    learned().sum().backward()
    inside = w.abs() < w.abs().amax(1, keepdim=True) - 1e-6
    assert learned.log_s2.grad is not None
    assert torch.allclose(learned.log_s2.grad[inside], -w[inside], atol=2e-3)


def test_the_learned_weight_is_the_one_that_is_stored() -> None:
    learned = Division(drawn(5, 9), Format(3, "asymmetric"))
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter += 0.1 * drawn(*parameter.shape, seed=1)
    assert torch.allclose(learned(), learned.codes().weight, atol=1e-5)


class Plain(nn.Module):
    """Two layers on eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 8)
        for parameter in self.parameters():
            parameter.data = drawn(*parameter.shape, seed=parameter.numel()) / 2

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x.flatten(1)))).view_as(x)


def task(how: Format, levels: int = 3, each: int = 12) -> Task:
    model = of(Plain().requires_grad_(False), (2, 2, 2))
    names = ["first.weight", "second.weight"]
    return Task(model, dict.fromkeys(names, how), states_of(model, levels, each))


def output_error(given: Task, found: object) -> float:
    lighter = of(found.network(given.network), (2, 2, 2))  # type: ignore[attr-defined]
    return float((given.states.outputs(lighter) - given.states.outputs(given.model)).square().sum())


@pytest.mark.parametrize("rate", [1e-2, 3.0])
def test_the_last_block_is_never_worse_than_rounded_to_nearest(rate: float) -> None:
    """With one layer alone to round, its output is the network's; a rate that is far too large must not harm."""
    given = task(Format(2, "asymmetric"))
    alone = Task(given.model, {"second.weight": Format(2, "asymmetric")}, given.states)
    learned = output_error(alone, FlexRound(40, rate).rounded(alone))
    assert learned <= output_error(alone, Nearest().rounded(alone))


def test_gradients_are_on_where_they_are_needed() -> None:
    given = task(Format(4))
    with torch.inference_mode():
        made = quantised(given.model, 4, rounding=FlexRound(2), states=given.states)
    assert made.quantised.weights.keys() == {"first.weight", "second.weight"}


def test_learned_rounding_lowers_the_error_of_both_layers() -> None:
    given = task(Format(2, "asymmetric"))
    assert output_error(given, FlexRound(60, 1e-2).rounded(given)) < 0.8 * output_error(given, Nearest().rounded(given))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_bits_are_the_best_choice_within_the_budget(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 4))
    options = {
        f"w{i}": {b: (data.draw(st.floats(0, 10)), data.draw(st.integers(1, 60)) * 8) for b in (2, 3, 4)}
        for i in range(n)
    }
    budget = data.draw(st.integers(0, 1200))
    every = [
        (sum(error for error, _ in chosen), sum(size for _, size in chosen))
        for chosen in itertools.product(*(own.values() for own in options.values()))
    ]
    fitting = [error for error, size in every if size <= budget]
    if not fitting:
        with pytest.raises(InputError, match="the fewest that there are"):
            cheapest(options, budget)
        return
    bits = cheapest(options, budget)
    chosen = [options[name][b] for name, b in bits.items()]
    assert sum(size for _, size in chosen) <= budget
    assert sum(error for error, _ in chosen) == pytest.approx(min(fitting))


@given(st.integers(0, 2**40))
def test_a_budget_of_odd_sizes_is_never_exceeded(left: int) -> None:
    options = {f"w{i}": {b: (1.0 / b, b * 1_000_003 + i) for b in (2, 4, 8)} for i in range(5)}
    budget = sum(own[2][1] for own in options.values()) + left
    assert sum(options[name][b][1] for name, b in cheapest(options, budget).items()) <= budget


def test_hutchinsons_estimate_is_the_trace() -> None:
    """Of a quadratic form z^T H z has mean tr H, and its value itself where H is diagonal, as signs square to one."""
    a = drawn(6, 6)
    h = a @ a.T
    w = drawn(6, seed=1).requires_grad_(True)
    draw = torch.Generator().manual_seed(0)
    found = [quotients(w @ h @ w / 2, {"w": w}, draw)["w"] for _ in range(400)]
    assert sum(found) / 400 == pytest.approx(float(h.trace()), rel=0.1)
    diagonal = quotients((w * h.diagonal() * w).sum() / 2, {"w": w}, draw)["w"]
    assert diagonal == pytest.approx(float(h.trace()), rel=1e-5)


def test_traces_are_those_of_the_loss() -> None:
    """Of a linear layer F = W x the loss mean || F - F* ||^2 has the Hessian 2 / N sum x x^T for each row."""
    given = task(Format(4), levels=2, each=20)
    alone = Task(given.model, {"second.weight": Format(4)}, given.states)
    network = given.network
    wanted = 0.0
    for level in range(2):
        seen: list[Tensor] = []
        hook = network.get_submodule("second").register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append(args[0])
        )
        given.states.output(given.model, level)
        hook.remove()
        wanted += 2 * float(seen[0].square().sum()) / (20 * 8) / 2  # of one row, of eight; and the mean over two levels
    found = mean_traces(alone, draws=200)["second.weight"]
    assert found * 12 == pytest.approx(wanted, rel=0.1)


def test_inputs_have_the_bits_that_the_budget_has_on_average() -> None:
    given = task(Format(8))
    found = HawqV2((2, 4, 8), draws=2).inputs(given, 5.0)
    assert found.keys() == {"first", "second"}
    assert (8 * found["first"].bits + 12 * found["second"].bits) / 20 <= 5.0
    with pytest.raises(InputError, match="the fewest that there are"):
        HawqV2((4, 8)).inputs(given, 3.0)


def test_gptq_moves_the_columns_that_are_left_to_where_they_are_best() -> None:
    """Column 0 rounded coarsely, column 1 finely: column 1 is then the least squares solution, to half of its step."""
    w, x = drawn(5, 2), drawn(400, 2, seed=1)
    x[:, 1] += x[:, 0]
    codes = compensated(w, inverse(x, 1e-6), Format(2, "asymmetric", group=1), (2, 8), reaching)
    moved = codes.weight
    best = w[:, 1] + (w[:, 0] - moved[:, 0]) * float(x[:, 0] @ x[:, 1] / (x[:, 1] @ x[:, 1]))
    assert bool(((moved[:, 1] - best).abs() <= 0.51 * codes.grid.scale[:, 1]).all())
    assert codes.grid.bits == (2, 8)


def test_gptq_of_inputs_without_correlation_is_rounding_to_nearest() -> None:
    w, eye = drawn(5, 8), torch.eye(8)
    how = Format(3, "asymmetric", group=4)
    codes = compensated(w, inverse(eye, 0.01), how, (3, 3), reaching)
    assert torch.equal(codes.codes, Codes.nearest(w, how).codes)


def test_salient_groups_have_as_many_bits_more_as_others_have_less() -> None:
    w, x = drawn(16, 24), drawn(300, 24, seed=1)
    x[:, :4] *= 30
    how = Format(2, "asymmetric", group=4)
    bits = bits_by_salience(w, x, inverse(x, 0.01).diagonal().float(), how)
    assert sum(bits) == 2 * 6
    assert bits[0] == 3

    def divergence(chosen: tuple[int, ...]) -> float:
        wanted = (x @ w.T).log_softmax(1)
        return float(
            (wanted.exp() * (wanted - (x @ Grid.of(w, how, chosen).nearest(w).T).log_softmax(1))).sum(1).mean()
        )

    assert divergence(bits) <= divergence((2,) * 6)


@pytest.mark.parametrize(
    "how", [Format(8, group=4), Format(2, group=4), Format(2, "asymmetric"), Format(3, "asymmetric", group=16)], ids=str
)
def test_there_are_no_bits_beyond_the_ends(how: Format) -> None:
    w, x = drawn(4, 12), drawn(50, 12, seed=1)
    assert set(bits_by_salience(w, x, torch.ones(12), how)) == {how.bits}


def test_a_last_group_of_fewer_columns_keeps_its_bits() -> None:
    w, x = drawn(16, 18), drawn(300, 18, seed=1)
    x[:, 16:] *= 30
    how = Format(2, "asymmetric", group=4)
    bits = bits_by_salience(w, x, inverse(x, 0.01).diagonal().float(), how)
    assert bits[-1] == 2
    assert sum(bits) == 2 * 5


def test_a_calibrated_grid_is_not_worse_than_the_one_that_reaches_to_the_ends() -> None:
    w, how = drawn(6, 40), Format(3, "asymmetric")
    own, plain = SliMLLM().calibrated(w, torch.ones(40), how), Grid.of(w, how)
    mine, its = ((grid.nearest(w) - w).abs().pow(2.4).sum(1) for grid in (own, plain))
    assert bool((mine <= its * 1.001).all())


@given(st.floats(1, 6), st.floats(0.11, 1.49))
def test_the_slope_is_the_derivative_of_the_power(o: float, z: float) -> None:
    h = 1e-6
    wanted = ((z + h) ** (1 / o) - (z - h) ** (1 / o)) / (2 * h)
    both = slope(torch.tensor([z, -z], dtype=torch.float64), o)
    assert both.tolist() == pytest.approx([wanted, wanted], rel=1e-4)
    near, far = slope(torch.tensor([0.05, 1.6], dtype=torch.float64), o).tolist()
    assert near == pytest.approx(0.1 ** (1 / o) / 0.1)
    assert far == 0


def test_one_bit_is_the_sign_times_the_mean_size() -> None:
    w = drawn(4, 3, 3, 3)
    wanted = w.sign() * w.flatten(1).abs().mean(1).view(-1, 1, 1, 1)
    assert torch.allclose(signs(w).weight, wanted, rtol=1e-3)
    assert torch.allclose(binary(w.flatten(1), 1.0).view_as(w), wanted)


def test_one_bit_is_asked_for_as_such() -> None:
    with pytest.raises(InputError, match="one bit on half-step grids"):
        ReSTE(1).rounded(task(Format(4)))


def test_the_layer_that_sees_the_state_keeps_its_input() -> None:
    class Seen(Plain):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.second(torch.tanh(self.first(x)))

    model = of(Seen(), (2, 2, 8))
    states = states_of(model, 2, 2)
    assert calibrated(model, states, ["first", "second"]).keys() == {"second"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FlexRound(0).rounded(task(Format(4))), "steps, batch, lr"),
        (lambda: HawqV2(()), "choices"),
        (lambda: HawqV2((9,)), "bits are 9"),
        (lambda: ReSTE(power=0.5), "power"),
        (lambda: SliMLLM(damping=0.0), "damping"),
        (lambda: states_of(of(Plain()), 0), "levels is 0"),
    ],
)
def test_settings_that_there_are_not(make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()  # type: ignore[operator]


def test_layers_are_found_by_their_weights() -> None:
    assert layers_of(Plain()) == {"first.weight": ("first",), "second.weight": ("second",)}
    assert math.isfinite(output_error(task(Format(4)), Nearest().rounded(task(Format(4)))))
