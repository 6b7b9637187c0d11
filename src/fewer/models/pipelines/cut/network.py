"""A pipeline's loop as the network of a model.

The call has a fixed number of samples, each with conditions of its own: its prompt, class label or image. Label k of the model
is the k-th of the call's conditions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.models.pipelines.cut.loop import Cut


class PipelineNetwork:
    """A pipeline's loop as network(x, t, labels) -> output, guided as the pipeline guides.

    classes  number of the call's conditions, each of which has as many of the call's samples; None for no conditions
    size     number of the call's samples
    copies   of all samples in the loop's state: 2 in pipelines that double it for their second pass (DiT), else 1
    """

    def __init__(self, cut: Cut, classes: int | None, size: int, copies: int) -> None:
        self.cut, self.classes, self.size, self.copies = cut, classes, size, copies
        self.filler = self.sample_states(cut.noise)

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Output (n, *shape) of states x (n, *shape) of any labels (n,), by as many turns of the loop as they need."""
        time, *rest = t.unique().tolist()
        if rest:
            raise InputError("a pipeline's loop has one time for all samples of a call")
        turns, places = self._seats(len(x), labels)
        outputs: list[Tensor] = []
        for turn in range(int(turns.max()) + 1):
            here = turns == turn
            state = self.filler.clone()
            state[places[here]] = x[here]
            outputs.append(self._turn(state, time)[places[here]])
        order = torch.argsort(turns, stable=True)
        return torch.cat(outputs)[torch.argsort(order)]

    def sample_states(self, whole: Tensor) -> Tensor:
        """The states (size, *shape) of the call's samples in the loop's whole one."""
        state = whole[: len(whole) // self.copies]
        return state.reshape(self.size, *_sample_shape(state, self.size))

    def images(self, x: Tensor) -> Tensor:
        """Images (n, ..) in [-1, 1] that the pipeline decodes from its last states x (n, *shape)."""
        images: list[Tensor] = []
        for some in x.split(self.size):
            state = self.filler.clone()
            state[: len(some)] = some
            result = self.cut.finished(self._whole(state), output_type="pt", return_dict=True)
            found = next(iter(result.values()))  # some return arrays (n, height, width, channels) in any case
            found = torch.from_numpy(found).movedim(-1, 1) if isinstance(found, np.ndarray) else found
            images.append(found[: len(some)])
        return 2 * torch.cat(images) - 1

    def _turn(self, state: Tensor, t: float) -> Tensor:
        whole = self._whole(state)
        out = self.cut(whole, t)
        out = out[: len(out) // self.copies]
        return out.reshape(self.size, *_sample_shape(out, self.size))

    def _whole(self, state: Tensor) -> Tensor:
        """The loop's state of all samples of a call."""
        one = state.reshape(-1, *self.cut.noise.shape[1:])
        return torch.cat([one] * self.copies)

    def _seats(self, n: int, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """The turn of each of n samples, and its place in the call: those of its label, one after the other."""
        if self.classes is None or labels is None:
            number = torch.arange(n)
            return number // self.size, number % self.size
        labels, each = labels.cpu(), self.size // self.classes
        number = nn.functional.one_hot(labels, self.classes).cumsum(0).gather(1, labels[:, None])[:, 0] - 1
        return number // each, labels * each + number % each


def _sample_shape(state: Tensor, size: int) -> tuple[int, ...]:
    """Of one of `size` samples: with the rows that it has, where they are several (as of a video's frames)."""
    rows = len(state) // size
    return tuple(state.shape[1:]) if rows == 1 else (rows, *state.shape[1:])
