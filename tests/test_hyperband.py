"""Hyperband: the paper's brackets, and which points go on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_functions import played, quadratic

from fewer.search.blackbox.hyperband import Hyperband, brackets


def test_hyperband_brackets_are_those_of_the_paper() -> None:
    """R = 81, eta = 3: the table of the paper (n_i, r_i)."""
    table = [[bracket.rung(i, 3) for i in range(bracket.rungs)] for bracket in brackets(81, 3)]
    assert table == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@given(st.integers(1, 300), st.integers(2, 5))
def test_every_bracket_ends_with_the_whole_resource(most: int, eta: int) -> None:
    for bracket in brackets(most, eta):
        n, r = bracket.rung(bracket.rungs - 1, eta)
        assert n >= 1
        assert r == pytest.approx(most)
        assert bracket.r >= 1


def test_hyperband_goes_on_with_the_best() -> None:
    found = played(Hyperband(most=9), quadratic, np.full(2, 0.9), 9 + 3)
    first, second = found[:9], found[9:]
    assert sorted(v for _, v in second) == sorted(v for _, v in first)[:3]
    assert {q.span[1] for q, _ in first} == {1 / 9}
    assert {q.span[1] for q, _ in second} == {1 / 3}
