"""A network that the user has compiled serves wherever the network itself does, and gives the same samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_networks import a_plan, reuse, small_dit, with_blocks
from torch import Tensor

import fewer
from fewer.blocks.forwards import watched
from fewer.evaluate.leaderboard import compare
from fewer.models.denoiser import Network
from fewer.models.model import Model
from fewer.models.pipelines.folder import DiffusersNetwork

pytestmark = pytest.mark.slow  # the compiler takes seconds for each
graphs: list[Any] = []


def backend(graph: Any, inputs: Any) -> Any:
    """Runs a graph as it is, and counts it."""
    graphs.append(graph)
    return graph.forward


def whole(network: Any) -> Network:
    """What is called is compiled."""
    made: Network = torch.compile(network, backend=backend)
    return made


def inside(network: Any) -> Network:
    """The module inside is compiled."""
    return DiffusersNetwork(torch.compile(network.module, backend=backend), network.wants_labels)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=[whole, inside])
def fast(request: pytest.FixtureRequest) -> Model:
    torch._dynamo.reset()
    graphs.clear()
    model = small_dit(2)
    way: Callable[[Any], Network] = request.param
    return replace(model, network=way(model.network))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_samples(fast: Model) -> None:
    model = small_dit(2)
    plans = (a_plan(3), a_plan(3, guidance=2.0))
    for plan in plans:
        close(fewer.sample(fast, plan, 6, batch=4), fewer.sample(model, plan, 6, batch=4))
    before = len(graphs)
    assert before
    for plan in plans:
        fewer.sample(fast, plan, 6, batch=4, seed=1)
    assert len(graphs) == before  # all is compiled once
    assert fast.parameters == model.parameters
    without = with_blocks(plans[0], {1: {"block.1": reuse(0)}})
    close(fewer.sample(fast, without, 4), fewer.sample(model, without, 4))


def test_tuning_and_comparing(fast: Model) -> None:
    model = small_dit(2)
    found, known = (fewer.tune(each, nfe=2, trials=1, noises=8, fresh=8) for each in (fast, model))
    close(fewer.sample(fast, found.plan, 8), fewer.sample(model, known.plan, 8))
    boards = [compare(each, [2], [known.plan], n=8) for each in (fast, model)]
    one, other = ({row["name"]: row["quality"]["paired_rmse"]["value"] for row in board["rows"]} for board in boards)
    assert one == pytest.approx(other, rel=1e-3)


def test_a_forward_that_is_watched_is_no_part_of_a_graph() -> None:
    """It may decide by row or by layer, which a graph would freeze."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    network.compile(backend=backend)
    traced: list[bool] = []

    def forward(x: Tensor) -> Tensor:
        traced.append(torch.compiler.is_compiling())
        return x

    with watched(network[0], forward) as ran:
        network(torch.zeros(1, 2))
    assert ran.yes
    assert traced == [False]
