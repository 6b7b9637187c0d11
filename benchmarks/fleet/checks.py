"""What is asked of each pipeline: that it loads, tunes, applies, and is restored to the bit."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

import fewer
from benchmarks.fleet.calls import call
from benchmarks.fleet.parts import pipeline
from benchmarks.fleet.search import short_search
from fewer.errors import first_line
from fewer.models.model import Model
from fewer.plan import Start

STEPS = 4  # rows of the standard plan
NEAR = 1e-4  # largest difference, relative to the largest number
NEAR_MASKED = 3e-3  # where known data is put back: pipelines do so from their second turn on, the cut at each
CHECKS = ("loads", "applies", "restored", "tunes")
BY_LEVEL = (
    "Cosmos2_5_PredictBasePipeline",
)  # whose networks are told the level itself, not its time, which schedulers round
SCALING = ("scale_model_input", "first_input")  # methods of schedulers that make the input of the network


class Differs(Exception):
    """A check that does not hold."""


@dataclass
class Outcome:
    """What came of a class: each check's word, "" for one that holds."""

    name: str
    guided: bool
    built: str = ""
    found: dict[str, str] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass
class Turn:
    """A call of the scheduler's step: the network's input and output, the time, the state and the next one.

    inputs  None where more than the state was made ready for the network
    """

    inputs: Tensor | None
    output: Tensor
    t: float
    sample: Tensor
    after: Tensor

    def beside(self, other: Turn) -> Turn:
        """This turn and one of a second state, as `fewer.models.pipelines.cut.joint` has both."""
        both = {
            name: [getattr(each, name) for each in (self, other)] for name in ("inputs", "output", "sample", "after")
        }
        joined = {
            name: None if any(part is None for part in each)
            else torch.cat([part.flatten(1) for part in each], dim=1)
            for name, each in both.items()
        }  # fmt: skip
        return replace(self, **joined)


def examine(name: str, guided: bool, checks: tuple[str, ...] = CHECKS, steps: int = STEPS) -> Outcome:
    """The outcome of a class, with guidance or without, by calls of so many steps."""
    outcome = Outcome(name, guided)
    try:
        run = Run.of(name, guided, steps)
        before = run.images()
    except Exception as error:
        outcome.built = said(error)
        return outcome
    tests = {"loads": run.loads, "applies": run.applies, "restored": lambda: run.restored(before), "tunes": run.tunes}
    for check in checks:
        try:
            tests[check]()
            outcome.found[check] = ""
        except Exception as error:
            outcome.found[check] = said(error)
        fewer.unapply(run.pipe)
    return outcome


def said(error: BaseException) -> str:
    """An error in a line; of a library that is missing only which."""
    missing = re.search(r"requires the (\S+) library", str(error)) if isinstance(error, ImportError) else None
    if missing:
        return f"needs the library {missing[1]}, which is not installed"
    return f"{'' if isinstance(error, Differs) else type(error).__name__ + ': '}{first_line(error)}"


@dataclass
class Run:
    """A pipeline and its call."""

    pipe: Any
    told: dict[str, Any]
    steps: int
    model: Model | None = None

    @classmethod
    def of(cls, name: str, guided: bool, steps: int) -> Run:
        """The tiny pipeline of a class."""
        pipe = pipeline(name)
        return cls(pipe, call(type(pipe), guided), steps)

    def images(self, steps: int | None = None) -> list[Tensor]:
        """What the call gives."""
        told = dict(self.told)
        names = inspect.signature(type(self.pipe).__call__).parameters
        if "generator" in names:
            told["generator"] = torch.Generator().manual_seed(0)
        if "num_inference_steps" in names:
            told["num_inference_steps"] = steps or self.steps
        torch.manual_seed(0)
        return tensors(self.pipe(**told))

    def turns(self, steps: int | None = None) -> list[Turn]:
        """The calls of the scheduler's step that the call makes."""
        with recorded(self.pipe.scheduler) as turns:
            self.images(steps)
        return turns

    def cut(self) -> Model:
        """The model of the call."""
        if self.model is None:
            self.model = Model.from_pipeline(self.pipe, self.told | {"generator": torch.Generator().manual_seed(0)})
        return self.model

    def loads(self) -> None:
        """Asked for the states and times of the pipeline's own run, the cut gives the outputs of its network."""
        turns, model = self.turns(), self.cut()
        if type(self.pipe).__name__ in BY_LEVEL:
            own = self.pipe.scheduler
            turns = [
                replace(turn, t=float(s) * own.config.num_train_timesteps)
                for turn, s in zip(turns, own.sigmas, strict=False)
            ]
        kept = untouched(turns)
        for turn in (turns[0], turns[len(turns) // 2]):
            asked = turn.sample if turn.inputs is None else turn.inputs
            ours = model.network.cut(asked, turn.t)[:, : turn.sample.shape[1]]
            check_same(ours[kept], turn.output[:, : turn.sample.shape[1]][kept], "the network's output")

    def applies(self) -> None:
        """A standard plan plays in the pipeline as on the cut."""
        self.plays(fewer.standard("dpmpp-2m", self.cut(), nfe=self.steps))

    def tunes(self) -> None:
        """The plan of a short search plays in the pipeline as on the cut."""
        self.plays(short_search(self.cut()))

    def plays(self, plan: fewer.Plan) -> None:
        """The pipeline under a plan makes the samples that `fewer.sample` makes from its first state."""
        model, rows = self.cut(), len(plan.rows)
        steps = self.leaving(rows)
        fewer.apply(plan, self.pipe)
        turns, noised = self.turns(steps), self.pipe.scheduler.run.noised
        fewer.unapply(self.pipe)
        first = rows - len(turns)
        if first < 0:
            raise Differs(f"{len(turns)} calls of step for {rows} rows")
        tail = plan.from_row(first)
        begun, state = turns[0], samples(model, turns[0].sample)
        if first > 0 or noised or begun.inputs is not None:  # else the state is the noise of the plan's own start
            given = begun.sample if begun.inputs is None else begun.inputs
            state = samples(model, given) / float(model.affine(float(tail.start.tau)).c_in)
            tail = replace(tail, start=Start(tau=tail.start.tau, scale=1.0))
        going_on = replace(model, beginning=None)  # from a state that has its data
        ours = fewer.sample(going_on, tail, noise=state, labels=model.labels(len(state)))
        kept = samples(model, untouched(turns).float()) > 0
        within = NEAR if bool(kept.all()) else NEAR_MASKED
        check_same(ours[kept], samples(model, turns[-1].after)[kept], "the samples", within)

    def leaving(self, rows: int) -> int:
        """The number of steps of which the call makes so many: more of them where its strength leaves some out."""
        if self.cut().beginning is None:
            return rows
        for steps in range(rows, 4 * rows):
            if len(self.turns(steps)) == rows:
                return steps
        raise Differs(f"the call makes {rows} steps of no number of them")

    def restored(self, before: list[Tensor]) -> None:
        """After `unapply` the pipeline is as it was: its scheduler, and its images to the bit."""
        own, parts = self.pipe.scheduler, dict(vars(self.pipe))
        plan, steps = fewer.standard("euler", self.cut(), nfe=self.steps), self.leaving(self.steps)
        fewer.apply(plan, self.pipe)
        try:
            self.images(steps)
        finally:
            fewer.unapply(self.pipe)
        if self.pipe.scheduler is not own or vars(self.pipe).keys() != parts.keys():
            raise Differs("the pipeline has not its own parts again")
        after = self.images()
        if len(after) != len(before) or not all(map(torch.equal, after, before)):
            raise Differs("the pipeline's own images are other ones than before")


@contextmanager
def recorded(scheduler: Any) -> Iterator[list[Turn]]:
    """The calls of this scheduler's step within; those of its copy, by which pipelines step a second state, beside them."""
    kind, turns = type(scheduler), []
    own = {name: getattr(kind, name) for name in ("step", *SCALING) if hasattr(kind, name)}
    inputs: list[Tensor] = []

    @functools.wraps(own["step"])
    def step(self: Any, *args: Any, **more: Any) -> Any:
        bound = inspect.signature(own["step"]).bind(self, *args, **more)
        output, t, sample = list(bound.arguments.values())[1:4]
        fitting = inputs and inputs[-1].shape[1:] == sample.shape[1:] and len(inputs[-1]) % len(sample) == 0
        given = (
            inputs[-1][: len(sample)] if fitting else None if inputs else sample.detach().clone()
        )  # one of batched passes
        kept = [each.detach().clone() for each in (output, sample)]
        inputs.clear()
        made = own["step"](self, *args, **more)
        after = made[0] if isinstance(made, tuple) else made.prev_sample
        sign = 1 if more.get("per_token_timesteps") is None else -1  # such steps are given D - eps
        t = float(torch.as_tensor(t).flatten()[0])
        turn = Turn(given, sign * kept[0], t, kept[1], after.detach().clone())
        if self is scheduler:
            turns.append(turn)
        else:
            turns[-1] = turns[-1].beside(turn)
        return made

    def scaling(name: str) -> Any:
        @functools.wraps(own[name])
        def scaled(self: Any, sample: Tensor, *args: Any, **more: Any) -> Tensor:
            found = own[name](self, sample, *args, **more)
            inputs.append(found.detach().clone())
            return found

        return scaled

    with ExitStack() as patches:
        for name in own:
            patches.enter_context(mock.patch.object(kind, name, step if name == "step" else scaling(name)))
        yield turns


def untouched(turns: list[Turn]) -> Tensor:
    """Where the pipeline goes on with what step returned: elsewhere, as outside of masks, it puts back what it knows."""
    kept = torch.ones_like(turns[0].sample, dtype=torch.bool)
    for before, turn in pairwise(turns):
        kept &= before.after == turn.sample
    return kept if bool(kept.any()) else torch.ones_like(kept)


def samples(model: Model, state: Tensor) -> Tensor:
    """The samples (n, *shape) of a loop's whole state."""
    network = model.network
    return state[: len(state) // network.copies].reshape(network.filler.shape).float()


def tensors(result: Any) -> list[Tensor]:
    """The tensors and images of a pipeline's result."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, np.ndarray):
        return [torch.from_numpy(result)]
    if isinstance(result, dict):
        return [each for value in result.values() for each in tensors(value)]
    if isinstance(result, list | tuple):
        return [each for value in result for each in tensors(value)]
    return [torch.from_numpy(np.array(result))] if hasattr(result, "tobytes") else []


def check_same(ours: Tensor, theirs: Tensor, what: str, within: float = NEAR) -> None:
    """Raises Differs unless they are the same to rounding."""
    if ours.shape != theirs.shape:
        raise Differs(f"{what} has shape {tuple(ours.shape)} for {tuple(theirs.shape)}")
    apart = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))
    if not apart < within:
        raise Differs(f"{what} differs by {apart:.2g}, relative to the largest")
