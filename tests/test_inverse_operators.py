"""Operators of inverse problems: adjoints, systems, shapes, and what users bring."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer import InputError
from fewer.errors import ForeignError
from fewer.tasks.inverse import operators
from fewer.tasks.inverse.given_operators import Function, as_operator, linear
from fewer.tasks.inverse.operators import Blur, Divided, Identity, Inpainting, Linear, Matrix, SuperResolution
from fewer.tasks.inverse.words import NAMED

SHAPES = [(4,), (1, 4, 4), (3, 4, 6)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def each_of(shape: tuple[int, ...]) -> dict[str, Linear]:
    named = {name: make(shape) for name, make in NAMED.items()}
    blurred = Blur(shape, 1.7)
    return named | {  # type: ignore[return-value]
        "divided": Divided(SuperResolution(shape), 0.5 + normal(*SuperResolution(shape).measured).abs()),
        "function": linear(lambda x: 2 * x.flatten(1).cumsum(1), shape),
        "with an adjoint": linear(blurred, shape, blurred.adjoint),
        "singular": Matrix(torch.ones(3, math.prod(shape)), shape),
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(seed=st.integers(0, 2**20))
@settings(max_examples=5, deadline=None)
def test_adjoints_matrices_and_systems(shape: tuple[int, ...], seed: int) -> None:
    for name, a in each_of(shape).items():
        assert tuple(a.shape) == shape
        x, y = normal(3, *shape, seed=seed), normal(3, *a.measured, seed=seed + 1)
        seen, back = a(x), a.adjoint(y)
        assert (seen.shape, back.shape) == (y.shape, x.shape)
        assert torch.allclose((seen * y).flatten(1).sum(1), (x * back).flatten(1).sum(1)), name
        assert torch.allclose(x.flatten(1) @ a.matrix.T, seen.flatten(1)), name
        v = a.solve(y, 0.7, 0.2)
        assert torch.allclose(0.7 * a(a.adjoint(v)) + 0.2 * v, y, atol=1e-8), name
        shortest = a.adjoint(a.solve(y, 1.0, 0.0)).flatten(1)
        assert torch.allclose(shortest, y.flatten(1) @ torch.linalg.pinv(a.matrix).T, atol=1e-6), name
        assert a(x.float()).dtype == a.adjoint(y.float()).dtype == torch.float32


def test_systems_too_large_for_eigenvalues_have_the_same_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    y = normal(3, 1, 4, 4)
    whole = Blur((1, 4, 4)).solve(y, 2.0, 0.1)
    monkeypatch.setattr(operators, "DENSE", 4)
    assert torch.allclose(Blur((1, 4, 4)).solve(y, 2.0, 0.1), whole, atol=1e-4)


def test_what_operators_mean() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert SuperResolution((1, 4, 4))(x).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert torch.allclose(Blur((1, 4, 4))(x).sum(), x.sum())  # the kernel's weights sum to one
    for wide in (100.0, 1e300):
        assert torch.allclose(Blur((1, 4, 4), wide)(x), x.mean().expand(1, 1, 4, 4), atol=0.01)
    for narrow in (0.1, 1e-300):
        assert torch.allclose(Blur((1, 4, 4), narrow)(x), x, atol=1e-5)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 1, 2] = True
    assert Inpainting(mask)(x).tolist() == [[6.0]]
    assert Identity((2,))(x.view(8, 2)).equal(x.view(8, 2))
    seen = operators.random_inpainting((3, 4, 4), 0.25).mask
    assert int(seen.sum()) == 12
    assert seen.equal(seen[:1].expand(3, 4, 4))
    assert operators.compressed_sensing((1, 4, 4), 0.25).measured == (4,)


def test_what_users_bring() -> None:
    shape = (1, 2, 2)
    physics = SimpleNamespace(
        A=lambda x: x.mean((2, 3)), A_adjoint=lambda y: (y[..., None, None] / 4).expand(-1, -1, 2, 2)
    )
    for given_operator, measured in (
        (torch.ones(3, 4), (3,)), (physics, (1,)), ("deblur", shape), (lambda x: x.exp(), shape), (Identity(shape), shape),
        (SimpleNamespace(A=torch.exp), shape), ("torch:tanh", shape),
    ):  # fmt: skip
        assert as_operator(given_operator, shape).measured == measured
    assert isinstance(as_operator(physics, shape), Linear)
    assert not isinstance(as_operator(SimpleNamespace(A=torch.exp), shape), Linear)


@pytest.mark.parametrize(
    ("operator", "word"),
    [
        (torch.ones(3, 5), "expected \\(m, 4\\)"),
        (torch.full((3, 4), math.inf), "not finite"),
        ("inpant", "expected inpaint, super"),
        ("no_such_module:f", "no_such_module"),
        (5, "operator is a int"),
        (Identity((4,)), "measures samples of shape \\(4,\\)"),
        (lambda x: x.int(), "returned int32"),
        (lambda x: x[:1], "returned shape"),
        (lambda x: x.new_zeros(len(x), 0), "hold nothing"),
    ],
)
def test_what_is_refused(operator: object, word: str) -> None:
    with pytest.raises(InputError, match=word):
        as_operator(operator, (1, 2, 2)).measured  # noqa: B018  functions are tried when they are first asked


def test_code_of_users_is_named() -> None:
    with pytest.raises(ForeignError, match="operator raised RuntimeError"):
        Function(lambda x: x @ torch.ones(7, 7), (1, 2, 2))(torch.ones(1, 1, 2, 2))
    with pytest.raises(InputError, match="not linear"):
        linear(lambda x: x + 1, (4,))
    with pytest.raises(InputError, match="no derivative"):
        linear(lambda x: x.detach(), (4,)).adjoint(torch.ones(1, 4))
    with pytest.raises(InputError, match="sizes that it divides"):
        SuperResolution((1, 5, 4))
    with pytest.raises(InputError, match="bool tensor"):
        Inpainting(torch.zeros(4, dtype=torch.bool))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("chunk", [8, 300, 2**20])
def test_matrices_and_spectra_are_the_same_in_any_chunks(
    shape: tuple[int, ...], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "CHUNK", chunk)
    for name, a in each_of(shape).items():
        d = math.prod(shape)
        columns = a(torch.eye(d, dtype=torch.float64).view(d, *shape)).flatten(1).T
        assert torch.allclose(a.matrix, columns), name
        values, vectors = a.spectrum
        assert torch.allclose(vectors * values @ vectors.T, columns @ columns.T, atol=1e-12), name


class Counted(Linear):
    """A matrix that counts its products with samples and measurements, each alone, and how many there are at once at most."""

    def __init__(self, dense: Tensor) -> None:
        self.dense, self.shape, self.took, self.most = dense, (dense.shape[1],), 0, 0

    @property
    def measured(self) -> tuple[int, ...]:
        return (len(self.dense),)

    def counted(self, product: Tensor) -> Tensor:
        self.took, self.most = self.took + len(product), max(self.most, len(product))
        return product

    def __call__(self, x: Tensor) -> Tensor:
        return self.counted(x @ self.dense.to(x).T)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.counted(y @ self.dense.to(y))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 2000))
def test_a_matrix_takes_the_fewer_products_of_its_two_sides(m: int, d: int, chunk: int) -> None:
    """As many as A has rows, or columns where those are fewer; at once no more than the chunk holds."""
    a = Counted(normal(m, d))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "CHUNK", chunk)
        assert torch.equal(a.matrix, a.dense)
    assert a.took == min(m, d)
    assert a.most == 1 or 8 * a.most * (m + d) <= chunk


def test_few_measured_values_of_large_images_are_solved_for() -> None:
    """A matrix between all values of the image would take 4 TiB, A itself is not needed either."""
    shape = (3, 512, 512)
    for a in (SuperResolution(shape, 128), Divided(SuperResolution(shape, 128), torch.full((3, 4, 4), 0.5))):
        b = normal(2, *a.measured)
        v = a.solve(b, 2.0, 0.1)
        assert torch.allclose(2 * a(a.adjoint(v)) + 0.1 * v, b, atol=1e-8)
    assert torch.allclose(SuperResolution(shape, 128).matrix.sum(1), torch.ones(48, dtype=torch.float64))


def test_a_matrix_that_cannot_fit_is_refused_in_one_line_that_says_what_to_do() -> None:
    for make, instead in (
        (lambda: Blur((3, 4096, 4096)).matrix, "a method that needs no matrix"),
        (lambda: operators.compressed_sensing((3, 4096, 4096)), "a smaller share"),
        (lambda: as_operator("compressed-sensing,share=0.5", (3, 4096, 4096)), "a smaller share"),
    ):
        with pytest.raises(InputError, match=instead) as said:
            make()
        assert "\n" not in str(said.value)
