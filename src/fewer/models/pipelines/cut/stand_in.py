"""A stand-in for a pipeline's scheduler: its `step` hands out what the loop gives it, and returns the state that is asked for.

The loop runs in a thread of its own. Whoever asks puts an `Ask` into the exchange, and the loop's next turn answers it by a
`Handed`. Each turn begins with the time that was asked for, and its network is given the state that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.models.pipelines.cut.exchange import Ask, Exchange, Handed, LetGo
from fewer.models.pipelines.cut.joint import Joint, Second
from fewer.models.pipelines.cut.known import Fixed, Known, Process, held
from fewer.models.pipelines.scheduler_config import DECIDING, ENDING
from fewer.models.pipelines.whole_times import ByTime, plainly
from fewer.models.schedules import Discrete, Flow

TABLES = ("alphas_cumprod", "alphas", "betas")  # numbers of the training process, which some pipelines read


class Stepped(NamedTuple):
    """The output of `step`, read as those of diffusers' schedulers: by name, by place, and of LCM's as `denoised`, too."""

    prev_sample: Tensor
    pred_original_sample: Tensor
    denoised: Tensor

    def __getitem__(self, key: Any) -> Any:
        """By place, or as dictionaries are read."""
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)


class StandIn:
    """Plays the part of a pipeline's scheduler for one call of the pipeline.

    steps   turns so far, and `length` those that the loop has room for
    now     time of the turn under way, after the first
    asked   state of the turn under way, after the first
    over    whether the loop has been given its last state
    given   the arguments by which the pipeline has set the times
    begins  number of the step whose time the pipeline has noised data at, before the first turn; None where it has not
    shown   whether the data itself is given to the pipeline in place of its noised state, before the first turn
    known   data that the pipeline puts back into parts of its states, where it has asked for their noised states, and `places`
            where it has put some back so far; None before the first turn of which it is known
    packed  known data and noise in the layout of the states, of pipelines that have them noised in another
    initial  state of the first turn, of which a pipeline may hold parts as they are
    joint   both states of a loop that has two
    kind    class of the pipeline's own scheduler
    whole   whether its times are whole numbers
    by_level  whether its levels are its times, divided by their number
    ends    number of times that it lists after that of its last step
    """

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, own: Any, exchange: Exchange, shown: bool = False) -> None:
        self.config: Mapping[str, Any] = own.config
        self.process = Process.of(own)
        self.top = self.process.top(own)
        self.exchange = exchange
        self.steps, self.length, self.over = 0, 0, False
        self.now: Tensor | None = None
        self.asked: Tensor | None = None
        self.given: dict[str, Any] = {}
        self.known: Known | None = None
        self.places: Tensor | None = None
        self.packed: Known | None = None
        self.initial: Tensor | None = None
        self.joint: Joint | None = None
        self.begins: int | None = None
        self.shown = shown
        schedule = self.process.schedule
        self.by_level = isinstance(schedule, Flow) or getattr(schedule, "time_input", "") == "sigma-1000"
        self.ends = int(type(own).__name__ in ENDING)
        self.kind = type(own)
        self.modes = ExitStack()
        for name in TABLES:
            if name in vars(own):
                setattr(self, name, vars(own)[name])
        self.whole = isinstance(schedule, Discrete) and float(getattr(own, "init_noise_sigma", 1.0)) == 1
        if isinstance(schedule, Discrete):
            self.alphas_cumprod = ByTime.of(own.alphas_cumprod, schedule)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """That of the pipeline's own scheduler where pipelines decide by it what they tell their network."""
        return self.kind if self.kind.__name__ in DECIDING else StandIn

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the pipeline reads its scheduler's {name!r}, which is not known for times that are asked for"
        )

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        **more: Any,
    ) -> None:
        """Begin the loop. Its length is as asked for; its times will be those that are asked for."""
        listed = next((each for each in (timesteps, sigmas) if each is not None), None)
        self.length = self.num_inference_steps = int(num_inference_steps or 0) if listed is None else len(listed)
        arguments = {
            "num_inference_steps": num_inference_steps,
            "timesteps": timesteps,
            "sigmas": sigmas,
            "mu": mu,
            **more,
        }
        self.given = {name: value for name, value in arguments.items() if value is not None}
        times = torch.linspace(self.top, 0, self.length + self.ends, dtype=torch.float32, device=device)
        self.timesteps = Times.of(times, self)
        if self.by_level:
            self.sigmas = Times.of(self.timesteps.as_subclass(Tensor) / (self.top + 1), self, self.top + 1)

    def __deepcopy__(self, memo: Any) -> Any:
        """The scheduler of the loop's second state."""
        if self.joint is not None or self.asked is not None:
            raise InputError("the pipeline copies its scheduler, to denoise more than two states at once")
        self.joint = Joint(self)
        return Second(self.joint)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Nothing: a turn has the time that is asked for, wherever the loop begins."""

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The sample itself: the state that is asked for is the network's input."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """The data at a time; before the first turn the noise, or the data where they are to be shown."""
        self.known = Known(original_samples, noise)
        t = float(torch.as_tensor(timesteps).flatten()[0])
        if self.now is None:
            self.begins = round((1 - t / self.top) * (self.length - 1)) if self.length > 1 else 0
            return original_samples.to(noise) if self.shown else noise
        return self.process.noised(original_samples, noise, t).to(noise)

    def scale_noise(self, sample: Tensor, timestep: Any, noise: Tensor) -> Tensor:
        """`add_noise`, as pipelines of flow models call it."""
        return self.add_noise(sample, noise, timestep)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        *args: Any,
        per_token_timesteps: Tensor | None = None,
        return_dict: bool = True,
        **more: Any,
    ) -> Any:
        """Hand out the output of this turn, and wait for the state of the next; InputError where it is not the state asked for.

        With per_token_timesteps the output is D - eps, as diffusers' flow schedulers have it.
        """
        output = model_output if per_token_timesteps is None else -model_output
        if self.joint is not None:
            return self.shown_as(self.joint.first(output, sample), return_dict)
        if self.initial is None:
            self.initial = sample.clone()
        ask = self.handed(self.answer(output, sample, self.asked, self.initial), sample)
        self.begin(ask, sample)
        return self.shown_as(ask.x.to(sample, copy=True), return_dict)  # in which the pipeline may write

    def handed(self, output: Tensor, sample: Tensor) -> Ask:
        """Hand out the turn's output and state, and wait for the next question."""
        self.modes.close()
        self.exchange.answers.put(Handed(output, sample))
        ask = self.exchange.asks.get()
        if ask is None:
            raise LetGo
        return ask

    def begin(self, ask: Ask, like: Tensor) -> None:
        """Begin the turn that answers."""
        for mode in ask.modes:
            self.modes.enter_context(mode)
        self.steps += 1
        self.over = ask.last
        self.now = torch.tensor(ask.t, dtype=torch.float32, device=like.device)
        self.asked = ask.x

    def shown_as(self, x: Tensor, return_dict: bool) -> Any:
        """The output of a `step` that returns this state."""
        return Stepped(x, x, x) if return_dict else (x, x)

    def answer(self, output: Tensor, sample: Tensor, asked: Tensor | None, initial: Tensor) -> Tensor:
        """The network's output at the state asked for: where the pipeline has put back data that it knows, or holds its first
        state, one that predicts them.

        Raises InputError where the state was changed in another way.
        """
        if asked is None or self.now is None:
            return output
        same = _same(sample, asked)
        if same and (self.places is None or not bool(self.places.any())):
            return output
        t = float(self.now)
        found = None if same else held(sample, asked, initial)
        for known in (self.known, self.packed):
            if found is None and known is not None:
                found = known.put_back(self.process, sample, asked, t, self.places)
                self._learn(found)
        if found is None and same:
            return output
        if found is None:
            raise InputError(
                "the pipeline changes the state between calls of its scheduler's step, as callbacks do: it cannot be asked for the "
                "network's output at a state"
            )
        answer = output[:, : sample.shape[1]]
        of_known = self.process.output(found.data.double(), asked.to(sample).double(), t)
        return torch.where(found.where, of_known.to(answer), answer)

    def _learn(self, found: Fixed | None) -> None:
        """Keep where known data have been put back."""
        if found is not None:
            self.places = found.where if self.places is None else self.places | found.where


class Times(Tensor):
    """Times (n,) of a loop, also where they are sliced or moved: a turn's own is the one that was asked for.

    `per` divides the turn's own, for levels in place of times.
    """

    loop: StandIn
    per: float

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """As the times of the pipeline's own scheduler have it."""
        return torch.int64 if self.loop.whole else torch.float32

    @staticmethod
    def of(values: Tensor, loop: StandIn, per: float = 1.0) -> Times:
        """These values as the times of a loop."""
        made = values.as_subclass(Times)
        made.loop, made.per = loop, per
        return made

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every operation on times: rows of floats that come from them are times again."""
        out = plainly(func, args, kwargs)
        first = next((each for each in args if isinstance(each, Times)), None)
        if first is None or type(out) is not Tensor or out.ndim != 1 or not out.is_floating_point():
            return out
        return Times.of(out, first.loop, first.per)

    def __iter__(self) -> Iterator[Tensor]:
        """The time of each turn, until the loop has been given its last state."""
        plain = self.as_subclass(Tensor).unbind()
        self.loop.length = len(plain)
        for value in plain:
            yield value if self.loop.now is None else self.loop.now / self.per
            if self.loop.over:
                return

    def __getitem__(self, key: Any) -> Tensor:
        """The time at a place: that of another turn than the one under way is not asked for yet, and nothing can be made of it."""
        if self.loop.now is None or not isinstance(key, int):
            return super().__getitem__(key)
        if key != self.loop.steps:
            return torch.empty(()).as_subclass(NotAsked)
        return self.loop.now / self.per


class NotAsked(Tensor):
    """The time of another turn, which pipelines may hand on to `step`: the plan knows it. It is none of the times that are known,
    and what is made of it alone is not known either; InputError for any other use of it.
    """

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Operations that have no other tensor, and give one."""
        if func in (torch.eq, Tensor.eq, Tensor.__eq__, torch.ne, Tensor.ne, Tensor.__ne__):
            return torch.tensor(func.__name__ in ("ne", "__ne__"))
        others = [each for each in (*args, *(kwargs or {}).values()) if isinstance(each, Tensor)]
        out = plainly(func, args, kwargs) if all(isinstance(each, NotAsked) for each in others) else None
        if isinstance(out, Tensor):
            return out.as_subclass(NotAsked)
        raise InputError("the pipeline reads the time of another step: it cannot be asked for the network's output")


def _same(sample: Tensor, asked: Tensor) -> bool:
    """Whether the state has the numbers that were asked for, NaN too."""
    if sample.shape != asked.shape:
        return False
    return torch.allclose(sample, asked.to(sample), rtol=0, atol=0, equal_nan=True)
