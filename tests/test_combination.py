"""What a pipeline makes of its network's passes is read off its own code, whatever it does to them on the way to `step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewer.integrations.combination import read
from fewer.integrations.tape import Node, Taped, plain

SCALE = 3.0


def halves(both: Tensor) -> Tensor:
    empty, label = both.chunk(2)
    return empty + SCALE * (label - empty)


def label_first(both: Tensor) -> Tensor:
    label, empty = both.chunk(2)
    return label + (SCALE - 1) * (label - empty)


def doubled(both: Tensor) -> Tensor:
    """As DiT's pipeline keeps its state, and cuts off a learned variance."""
    half = label_first(both[:, :2])
    return torch.cat([torch.cat([half, half]), both[:, 2:]], dim=1).split(2, dim=1)[0]


def rescaled(both: Tensor) -> Tensor:
    out, label = halves(both), both.chunk(2)[1]
    axes = list(range(1, out.ndim))
    return 0.3 * out * (label.std(dim=axes, keepdim=True) / out.std(dim=axes, keepdim=True)) + 0.7 * out


def frames(both: Tensor) -> Tensor:
    """A scale for each entry along an axis, 1 for the first, and rows that are folded into others."""
    empty, label = both.chunk(2)
    scales = torch.linspace(1, SCALE, both.shape[2])[:, None]
    return (empty + scales * (label - empty)).permute(0, 2, 1, 3).reshape(-1, 4)


def in_place(both: Tensor) -> Tensor:
    out = both.clone()
    n = len(out) // 2
    out[n:] -= out[:n]
    out[n:] *= SCALE
    return -(out[:n].add_(out[n:])).to(torch.float64)


def one_by_one(label: Tensor, empty: Tensor) -> Tensor:
    mixed = empty + SCALE * (label - empty)
    return mixed * (label.norm(dim=-1, keepdim=True) / mixed.norm(dim=-1, keepdim=True))


CODE: dict[str, tuple[Callable[..., Tensor], int]] = {
    code.__name__: (code, label)
    for code, label in (
        (halves, 1),
        (label_first, 0),
        (doubled, 0),
        (rescaled, 1),
        (frames, 1),
        (in_place, 1),
        (one_by_one, 0),
    )
}


def drawn(n: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, 3, 5, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


def taped(*outputs: Tensor) -> tuple[list[Any], dict[Node, Tensor]]:
    nodes = {Node(): output for output in outputs}
    return [Taped.of(output.clone(), node) for node, output in nodes.items()], nodes


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CODE)
def test_passes_and_the_one_with_the_prompt_are_found(name: str, n: int, dtype: torch.dtype) -> None:
    """And where all passes are the same, what goes on is that pass, as the code hands it on."""
    code, label = CODE[name]
    outputs = [drawn(n, 1, dtype), drawn(n, 2, dtype)] if code is one_by_one else [drawn(2 * n, 1, dtype)]
    given, leaves = taped(*outputs)
    out = code(*given)
    torch.testing.assert_close(plain(out), code(*outputs))
    found = read(out.node, leaves)
    assert found is not None
    assert (len(found.passes), found.label()) == (2, label)
    assert all(len(units) == n for units in found.passes)
    other = drawn(n, 5, dtype)
    alone = code(other, other) if code is one_by_one else code(torch.cat([other, other]))
    torch.testing.assert_close(found.of(list(other)), alone)


def test_samples_are_no_passes_of_each_other() -> None:
    """Of a call that holds samples alone every row goes on by itself, equal ones too."""
    (given,), leaves = taped(drawn(1, 1).repeat(4, 1, 1, 1))
    found = read((2 * given).node, leaves)
    assert found is not None
    assert (len(found.passes), len(found.passes[0])) == (1, 4)


def test_three_passes_are_counted() -> None:
    (given,), leaves = taped(drawn(6, 1))
    empty, label, changed = given.chunk(3)
    found = read((empty + SCALE * (label - empty) + 2 * (label - changed)).node, leaves)
    assert found is not None
    assert (len(found.passes), len(found.passes[0])) == (3, 2)


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_a_scale_that_does_not_grow_tells_no_prompt(scale: float) -> None:
    (given,), leaves = taped(drawn(2, 1))
    empty, label = given.chunk(2)
    out = scale * (empty + label) if scale == 0 else empty + scale * (label - empty)
    found = read(out.node, leaves)
    assert found is not None
    assert found.label() is None


def test_samples_with_other_passes_than_their_neighbours_are_not_understood() -> None:
    (given,), leaves = taped(drawn(3, 1))
    out = torch.cat([given[:1] + SCALE * (given[1:2] - given[:1]), given[2:]])
    assert read(out.node, leaves) is None
