"""Noise by name: no two streams or draws share bits, and a sample's noise does not depend on its batch."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

import fewer
from fewer.noise import MOST, Draw, Stream, check_disjoint, unit_noise


@pytest.mark.parametrize("kind", [Stream, Draw])
def test_no_two_names_share_a_number(kind):
    ends = [each.ends for each in kind]
    assert all(a[1] < b[0] or b[1] < a[0] for a, b in combinations(ends, 2))


def test_names_that_share_a_number_are_refused():
    class Overlapping(fewer.noise._Numbers):
        ONE = range(5, 0, -1)
        TWO = range(5, 9)

    with pytest.raises(ValueError, match="ONE and TWO share"):
        check_disjoint(Overlapping)


def test_ends_of_all_ranges_give_different_bits():
    draws = [kind(k) for kind in Draw for k in {0, len(kind.value) - 1}]
    numbers = [stream.numbers(1, first)[0] for stream in Stream for first in (0, len(stream.value) - 1)]
    noise = torch.cat([unit_noise(0, numbers, (2,), draw) for draw in draws])
    assert len(noise.unique(dim=0)) == len(draws) * len(numbers)


def test_rows_are_as_many_as_a_plan_has():
    assert len({Draw.ROW(k) for k in range(MOST)} | {Draw.GUIDANCE(k) for k in range(MOST)}) == 2 * MOST
    for kind in (Draw.ROW, Draw.GUIDANCE):
        with pytest.raises(fewer.InputError, match="number 10000 is beyond"):
            kind(MOST)


def test_a_stream_ends_before_the_next():
    assert Stream.HELD_OUT.numbers(1 << 20)[-1] + 1 == Stream.CHOICE.numbers(1)[0]
    with pytest.raises(fewer.InputError, match="held-out noise has 1048576 numbers"):
        Stream.HELD_OUT.numbers(2, (1 << 20) - 1)


def test_samples_are_numbered_as_users_number_them():
    assert Stream.SAMPLES.numbers(3) == range(3)
    assert torch.equal(unit_noise(0, Stream.SAMPLES.numbers(2, 1), (3,)), unit_noise(0, range(3), (3,))[1:])
