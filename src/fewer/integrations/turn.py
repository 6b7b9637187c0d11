"""One row of a plan that guides, in a pipeline: the network's passes that it makes there, and those that the row asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.integrations.calls import Call, same
from fewer.integrations.combination import Combination, read
from fewer.integrations.tape import Taped, plain

Places = dict[int, tuple[int, tuple[int, ...]]]  # call -> its number of rows, and those of a pass


@dataclass
class Turn:
    """The calls of row `number` of the plan `name` in a pipeline of class `kind`; the row makes a pass under each of `conditions`.

    guidance  the guidance scales of the pipeline's call
    last      calls of the row before, which this one's are expected to be like
    expected  where the passes with the prompt and without it are in these; None where that is not known
    """

    name: str
    kind: str
    guidance: dict[str, Any]
    number: int
    conditions: tuple[str, ...]
    last: Sequence[Call] = ()
    expected: dict[str, Places] | None = None
    calls: list[Call] = field(default_factory=list)

    def following(self, last: Turn | None) -> Turn:
        """The same after the turn `last`, of whose calls all but the outputs is kept."""
        if last is None:
            return self
        return replace(self, last=[replace(call, outputs={}) for call in last.calls], expected=last.expected)

    def called(self, call: Call) -> object:
        """What the pipeline gets as the output of this call: only the rows that are expected to count are run."""
        k = len(self.calls)
        like = self.last[k] if k < len(self.last) and len(self.last[k]) == len(call) else None
        wanted = self._wanted(call)
        call.need(wanted if wanted or like or self.calls else range(len(call)))
        self.calls.append(call)
        return call.tell(like or next((each for each in self.calls if each.outputs), None))

    def _wanted(self, call: Call) -> Sequence[int]:
        """Rows of a call that are expected to be of the conditions; those of wrong guesses are run at the step."""
        n, k = len(call), len(self.calls)
        if len(self.conditions) == 2:
            return range(n)
        (condition,) = self.conditions
        if self.expected is not None:
            rows, those = self.expected[condition].get(k, (n, ()))
            return those if rows == n else range(n)
        halves = call.given.rows(0, n // 2), call.given.rows(n // 2, n)
        if k == 0 and n % 2 == 0 and torch.equal(halves[0].x, halves[1].x) and not halves[0].same(halves[1]):
            return range(n // 2, n) if condition == "label" else range(n // 2)
        first = self.calls[0] if self.calls else call
        again = first.network is call.network and same(first.given.x, call.given.x) and not first.given.same(call.given)
        return () if again and condition == "label" and len(first.outputs) == n else range(n)

    def passes(self, output: Tensor) -> dict[str, Tensor]:
        """What the pipeline would hand to `step`, were the pass under each condition its only one.

        output is what it does hand to it. Raises InputError where its passes are not those of the row, or not understood.
        """
        combination = self._combination(output)
        passes = combination.passes
        if len(passes) > 2:
            raise self._refused(
                f"{self.kind} makes {len(passes)} passes there; rows know two, with the prompt and without it"
            )
        if len(passes) == 1:
            if self.conditions != ("label",):
                scales = (
                    " and ".join(f"{name}={scale}" for name, scale in self.guidance.items()) or "no scale to guide by"
                )
                raise self._refused(
                    f"{self.kind} makes one pass there, with {scales}: call it so that it makes another without the prompt "
                    "(some do so for a scale above 1, some for a negative prompt, some never), or play a plan without guidance"
                )
            return {"label": self._only(combination, 0)}
        label = combination.label()
        if label is None:
            raise self._refused(
                f"neither of the two passes of {self.kind} has a weight there that grows with a guidance scale"
            )
        self._check_conditions(combination)
        places = {"label": label, "empty": 1 - label}
        self.expected = {condition: self._places(combination, p) for condition, p in places.items()}
        return {condition: self._only(combination, places[condition]) for condition in self.conditions}

    def _combination(self, output: Tensor) -> Combination:
        strange = self._refused(f"what {self.kind} makes there of its network's output is not understood")
        if not isinstance(output, Taped):
            raise strange
        calls, made_of = {call.node: call for call in self.calls}, output.node.leaves()
        if not made_of or not all(leaf in calls for leaf in made_of):
            raise strange
        returned = {
            call.node: call.returned for call in self.calls if call.node in made_of and call.returned is not None
        }
        if not _equal(output.node.played(returned), plain(output)):
            raise strange
        combination = read(output.node, returned)
        if combination is None:
            raise strange
        return combination

    def _only(self, combination: Combination, p: int) -> Tensor:
        """What goes to `step` where all passes are pass p, which is run where it has not been."""
        calls = {call.node: call for call in self.calls}
        for k, (_, rows) in self._places(combination, p).items():
            self.calls[k].need(rows)
        return combination.of([calls[leaf].outputs[row] for leaf, row in combination.passes[p]])

    def _places(self, combination: Combination, p: int) -> Places:
        units = combination.passes[p]
        rows = {k: tuple(row for leaf, row in units if leaf is call.node) for k, call in enumerate(self.calls)}
        return {k: (len(self.calls[k]), those) for k, those in rows.items()}

    def _check_conditions(self, combination: Combination) -> None:
        """Raises InputError where both passes have the same arguments and other outputs: the network was changed in one."""
        one, other = (
            [(call, row) for leaf, row in units for call in self.calls if call.node is leaf]
            for units in combination.passes
        )
        for (a, i), (b, j) in zip(one, other, strict=True):
            mine, theirs = a.given.rows(i, i + 1), b.given.rows(j, j + 1)
            if not mine.same(theirs):
                return
        for (a, i), (b, j) in zip(one, other, strict=True):
            a.need([i])
            b.need([j])
            if not _equal(a.outputs[i], b.outputs[j]):
                raise self._refused(
                    f"both passes of {self.kind} have the same prompt there, and the network is changed in one of them (as by PAG)"
                )

    def _refused(self, why: str) -> InputError:
        return InputError(f"plan {self.name!r} guides by row {self.number}, but {why}")


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the rounding of their dtype; NaN is equal to itself."""
    if one.shape != other.shape:
        return False
    return torch.allclose(
        one, other, rtol=0, atol=64 * torch.finfo(one.dtype).eps * float(one.abs().max()), equal_nan=True
    )
