"""Two states in one loop, as of a video and its sound: the pipeline steps the second by a copy of its scheduler.

They are asked for as one, each sample's numbers of the first before those of the second. A turn has its first state before it has
given the second output, so that a question takes two turns: one that deals out both states, and one that answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.models.pipelines.cut.exchange import Ask

if TYPE_CHECKING:
    from fewer.models.pipelines.cut.stand_in import StandIn


class Joint:
    """The two states of a loop.

    ask      the question whose states the turn under way deals out; None in a turn that answers
    given    what the turn has handed to the first `step`: output and state
    initial  both states of the first turn
    """

    def __init__(self, loop: StandIn) -> None:
        self.loop = loop
        self.ask: Ask | None = None
        self.given: tuple[Tensor, Tensor] | None = None
        self.initial: tuple[Tensor, Tensor] | None = None

    def first(self, output: Tensor, sample: Tensor) -> Tensor:
        """The first state of the next turn."""
        if self.ask is not None:
            return self._part(0, self.ask.x).to(sample, copy=True)
        if self.given is not None:
            raise InputError(
                "the pipeline copies its scheduler, and does not step by the copy: it cannot be asked for its outputs"
            )
        self.given = output, sample
        return sample.clone()

    def second(self, output: Tensor, sample: Tensor) -> Tensor:
        """The second state of the next turn. Waits for a question, or begins the turn that answers it."""
        if self.ask is not None:
            x = self._part(1, self.ask.x).to(sample, copy=True)
            self.loop.begin(self.ask, sample)
            self.ask = None
            return x
        if self.given is None or len(self.given[1]) != len(sample):
            raise InputError(
                "the pipeline steps two states of other numbers of samples: it cannot be asked for its outputs"
            )
        samples = self.given[1], sample
        if self.initial is None:
            self.initial = self.given[1].clone(), sample.clone()
        answers = [self._answer(place, out, samples[place]) for place, out in enumerate((self.given[0], output))]
        self.given = None
        self.ask = self.loop.handed(_joined(answers), _joined(samples))
        self.loop.steps += 1
        return sample.clone()

    def _answer(self, place: int, output: Tensor, sample: Tensor) -> Tensor:
        assert self.initial is not None
        asked = None if self.loop.asked is None else self._part(place, self.loop.asked)
        return self.loop.answer(output, sample, asked, self.initial[place])

    def _part(self, place: int, whole: Tensor) -> Tensor:
        """A state's numbers in those of both."""
        assert self.initial is not None
        sizes = [each[0].numel() for each in self.initial]
        part: Tensor = whole.split(sizes, dim=1)[place]
        return part.reshape(len(whole), *self.initial[place].shape[1:])


class Second:
    """The copy of the scheduler by which a pipeline steps its second state: at the times of the first."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._joint.loop, name)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        """Those of the first: a turn has one time."""
        self._joint.loop.set_timesteps(num_inference_steps, device, timesteps, sigmas, mu)

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, return_dict: bool = True, **more: Any
    ) -> Any:
        """The second state of the next turn."""
        return self._joint.loop.shown_as(self._joint.second(model_output, sample), return_dict)


def _joined(states: Any) -> Tensor:
    """Both states as one (n, numbers)."""
    return torch.cat([each.flatten(1) for each in states], dim=1)
