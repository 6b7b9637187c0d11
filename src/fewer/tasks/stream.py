"""A stream of frames, each edited by a plan, all that are under way in one network call: a call in, a frame out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewer.batch import per_sample
from fewer.engine import begin, bind
from fewer.engine.bind import Step
from fewer.engine.play import add, advance
from fewer.errors import InputError
from fewer.guidance.passes import Passes, Past
from fewer.guidance.residual import VIRTUAL, ResidualGuidance
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber, uniform_noise, unit_noise
from fewer.plan import Guidance, Plan
from fewer.registry import part
from fewer.settings import finite


@dataclass
class _Frame:
    """A frame under way: its number, the row that it is at, states and outputs by row, and what the rule keeps of it."""

    number: int
    image: Tensor
    row: int
    states: dict[int, Tensor]
    outputs: dict[int, Tensor] = field(default_factory=dict)
    virtual: Tensor | None = None


@part(
    "stream-batch",
    title="Stream batch: frames at all rows of a plan in one network call, and similar frames skipped",
    source="Kodaira et al. 2023, StreamDiffusion: A Pipeline-level Solution for Real-time Interactive Generation, arXiv:2312.12491",
    papers=(146,),
    role="procedure",
)
class Stream:
    """Edits frames as they come: frame k enters at call k and leaves N - 1 calls later, N the rows that are played.

    A call of the network has a batch of the N frames under way, each at its own row and level (rows of different rules of
    guidance are called by rule). Frame k is what
    `fewer.sample(model, plan, init=frame, strength=strength, seed=seed, first_sample=k)` makes of it.

    strength    level tau in (0, 1] to start at: 1 keeps nothing of the frame
    label       of all frames, None for models without classes
    similarity  eta in [0, 1): a frame is skipped with probability max(0, (cos - eta) / (1 - eta)), cos that of the frame with
                the last one that was not skipped, and the last result stands for it; None skips none
    Residual guidance (`fewer.guidance.residual`) without a fresh row takes the frame itself for the data that it is guided from: no
    pass without the label. Other rules that remember rows are refused.

    Raises InputError for plans with blocks left out, rows of other networks, numbers out of range, a model with classes and no
    label, and frames of another shape.
    """

    def __init__(
        self, model: Model, plan: Plan, *, strength: float = 1.0, label: int | None = None, seed: int = 0,
        similarity: float | None = None,
    ) -> None:  # fmt: skip
        finite("strength", strength, 0, 1)
        if similarity is not None:
            finite("similarity", similarity, 0, 1)
        if strength == 0 or similarity == 1:
            raise InputError(
                f"strength is {strength} and similarity {similarity}; expected strength > 0, similarity < 1"
            )
        self.model, self.plan = model, plan.from_level(strength).check(tuple(model.shape))
        for n, row in enumerate(self.plan.rows):
            rule = row.guidance
            if row.blocks or row.network:
                raise InputError(
                    f"row {n} of plan {plan.name!r} leaves out blocks or calls another network; a stream cannot"
                )
            if rule is not None and (rule.draws or (rule.remembers and not isinstance(rule, ResidualGuidance))):
                raise InputError(
                    f"row {n} of plan {plan.name!r} has {rule.rule}, which draws or remembers; a stream cannot"
                )
        self.steps = bind(model, self.plan)
        if model.classes is not None and label is None:
            raise InputError(f"{model.name} has classes: give the label of the frames, 0 .. {model.classes - 1}")
        self.label = model.labels(1, label)
        self.seed, self.similarity = seed, similarity
        self.calls, self.skipped = 0, 0
        self._frames: deque[_Frame] = deque()
        self._entered, self._kept, self._last = 0, None, None  # type: tuple[int, Tensor | None, Tensor | None]

    @property
    def delay(self) -> int:
        """Calls between a frame's first and its last."""
        return len(self.steps) - 1

    def push(self, frame: Tensor) -> Tensor | None:
        """Take in a frame (*shape); the result (*shape) that this call finishes, or None while the first ones are under way."""
        if tuple(frame.shape) != tuple(self.model.shape):
            raise InputError(f"frame has shape {tuple(frame.shape)}; {self.model.name} needs {tuple(self.model.shape)}")
        image = frame[None].to(device=self.model.device, dtype=torch.float32)
        number = self._entered
        self._entered += 1
        if self._similar(image, number):
            self.skipped += 1
            return self._last
        self._kept = image
        noise = self._unit(number, Draw.START())
        x = begin(self.plan, noise, lambda: self._unit(number, Draw.START_NOISE()))
        x = add(x, 1 - float(self.plan.start.tau), image)
        self._frames.append(_Frame(number, image, 0, {0: x}))
        return self._tick()

    def flush(self) -> list[Tensor]:
        """The results that are still under way, in order."""
        left = []
        while self._frames:
            done = self._tick()
            if done is not None:
                left.append(done)
        return left

    def play(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """The results of frames, as they are finished; none for frames skipped before the first is."""
        for frame in frames:
            done = self.push(frame)
            if done is not None:
                yield done
        yield from self.flush()

    def _unit(self, number: int, draw: DrawNumber) -> Tensor:
        return unit_noise(self.seed, [number], self.model.shape, draw, self.model.device)

    def _similar(self, image: Tensor, number: int) -> bool:
        if self.similarity is None or self._kept is None:
            return False
        cosine = float(F.cosine_similarity(image.flatten().double(), self._kept.flatten().double(), dim=0))
        probability = max(0.0, (cosine - self.similarity) / (1 - self.similarity))
        return float(uniform_noise(self.seed, [number], (1,), Draw.PROBE())) < probability

    def _tick(self) -> Tensor | None:
        """One call for all frames under way, or one a rule of guidance; the result of the oldest where it was at the last row."""
        self.calls += 1
        by_rule: dict[Guidance | None, list[_Frame]] = {}
        for frame in self._frames:
            by_rule.setdefault(self.steps[frame.row].row.guidance, []).append(frame)
        with torch.inference_mode():
            for some in by_rule.values():
                for frame, u in zip(some, self._outputs(some).split(1), strict=True):
                    self._advance(frame, u)
        if self._frames[0].row < len(self.steps):
            return None
        done = self._frames.popleft()
        self._last = done.states[done.row][0].clone()
        return self._last

    def _outputs(self, frames: list[_Frame]) -> Tensor:
        """Outputs u (n, *shape) of frames whose rows have one rule of guidance, from one call."""
        steps = [self.steps[frame.row] for frame in frames]
        x = torch.cat([frame.states[frame.row] for frame in frames])
        c_in, p, q, tau = (_column(steps, name, x) for name in ("c_in", "p", "q", "tau"))
        labels = None if self.label is None else self.label.expand(len(x))
        rule = steps[0].row.guidance
        t = torch.stack([torch.as_tensor(step.t).reshape(()) for step in steps])
        if rule is None:
            return p * x + q * self.model(c_in * x, t, labels)
        past: dict[int, Past] | None = None
        if rule.remembers:  # residual guidance alone
            known = [frame.image if frame.virtual is None else frame.virtual for frame in frames]
            past = {-1: Past(tau, {VIRTUAL: torch.cat(known)})}
        passes = Passes(
            self._repeated,
            x,
            tau,
            c_in * x,
            t,
            labels,
            self.model.empty_label,
            lambda f: p * x + q * f,
            0,
            past,
            self.model,
        )
        u = rule.output(passes)
        if past is not None and VIRTUAL in past.get(0, Past(tau, {})).u:
            for frame, virtual in zip(frames, past[0].u[VIRTUAL].split(1), strict=True):
                frame.virtual = virtual
        return u

    def _repeated(self, x: Tensor, t: Any, labels: Tensor | None) -> Tensor:
        """The network's call, with the frames' times once for each pass."""
        return self.model(x, t.repeat(len(x) // len(t)), labels)

    def _advance(self, frame: _Frame, u: Tensor) -> None:
        step, n = self.steps[frame.row], frame.row
        frame.outputs[n] = self.model.clipped(frame.states[n], step.tau, u)
        frame.states[n + 1] = advance(
            n, step, frame.states, frame.outputs, lambda k: self._unit(frame.number, Draw.ROW(k))
        )
        step.forget(frame.states, frame.outputs)
        frame.row += 1


def _column(steps: list[Step], name: str, like: Tensor) -> Tensor:
    """A number of each step (n, 1, .., 1)."""
    values = [torch.as_tensor(getattr(step, name), dtype=torch.float64).reshape(()) for step in steps]
    return per_sample(torch.stack(values).to(like), like)
