"""Model: a denoiser with conditioning and origin, all that the engine calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError, counted, foreign
from fewer.markup import joined, table
from fewer.models.beginning import Beginning
from fewer.models.denoiser import Denoiser, Network
from fewer.models.distilled import Distilled
from fewer.models.edge import in_eval, without_autocast
from fewer.models.ending import Ended, marked
from fewer.models.mixture import GaussianMixture
from fewer.models.pipelines.cut.fields import fields_of
from fewer.models.pipelines.cut.network import PipelineNetwork
from fewer.models.pipelines.experts import Experts
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.models.reach import hash_of_network, modules_of
from fewer.models.schedules import Schedule
from fewer.registry import ROLES

SCHEDULES = (
    "expected a noise schedule of fewer.models.schedules, such as VarianceExploding(0.002, 80), Flow() or "
    'discrete(betas("linear"))'
)


@dataclass(frozen=True)
class Loaded:
    """The arguments of `fewer.load` that gave a model, beside its device and dtype, by which another process loads it again."""

    model: str
    empty_label: int | None = None
    prompts: tuple[str, ...] | None = None
    negative_prompt: str | None = None
    hash: str | None = None
    call: dict[str, Any] | None = None


@dataclass(frozen=True)
class Model(Denoiser):
    """A pretrained denoiser with its conditioning, its origin, and further networks beside it.

    The first fields are those of `Denoiser`: network, schedule, predicts, shape, and by name clip, sigma_data, device, dtype.

    classes        number of classes K (labels 0 .. K - 1), None for an unconditional network
    empty_label    the label that stands for 'no class', for classifier-free guidance; None where there is none
    prompts        texts of the labels of a text-to-image model
    negative_prompt    text of its empty label, None for the pipeline's default
    encoders_hash      of the content of its text encoders, which `hash` leaves out: a plan plays any prompt
    called_with    hash of the arguments by which a pipeline is called whose loop the network is; "" for other models
    embedded_guidance  the guidance scale that the network takes as an input; None for a network that takes none
    hash           of the network's content, by which a plan names it; "" where its weights are not reached
    known_as       more hashes by which plans name this network, made by a call: of its weights where `hash` is that of a folder
    pipeline       defaults of the diffusers pipeline that the folder holds
    data_range     the values that images take; of samples of 1 or 3 channels it bounds `fewer.solve`'s, too
    decode         from samples to images in `data_range`, None where samples are images
    exact          the mixture whose exact denoiser this is
    weaker         a worse model of the same data and labels, for autoguidance; None for none
    classifier     (x, tau) -> logits (n, classes) of states x (n, *shape) in the flow frame, for classifier guidance
    distilled      of a network whose data prediction is a sample (consistency models): its calls and teacher; None for a denoiser
    experts        of a pipeline with two networks and a boundary: rows of networks 1 and 2 call one of them, others what it takes
    beginning      of a call of a pipeline that begins with noised data (image-to-image); None for pure noise
    others         further models of the same data and labels, which rows of a plan may call in this one's place
    loaded         how `fewer.load` came to it; None for a model that was made in this process
    """

    classes: int | None = None
    empty_label: int | None = None
    _: KW_ONLY
    prompts: tuple[str, ...] = ()
    negative_prompt: str | None = None
    encoders_hash: str = ""
    called_with: str = ""
    embedded_guidance: float | None = None
    hash: str = ""
    known_as: Callable[[], Iterable[str]] = tuple
    pipeline: PipelineDefaults | None = None
    data_range: tuple[float, float] = (-1.0, 1.0)
    decode: Callable[[Tensor], Tensor] | None = None
    exact: GaussianMixture | None = None
    weaker: Model | None = None
    classifier: Callable[[Tensor, float], Tensor] | None = None
    distilled: Distilled | None = None
    beginning: Beginning | None = None
    experts: Experts | None = None
    others: tuple[Model, ...] = ()
    loaded: Loaded | None = None

    def __repr__(self) -> str:
        """One line: the network and its tensors are left out."""
        return f"Model({self.name!r}: {', '.join(f'{key} {value}' for key, value in self._facts.items())})"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return joined([table([self.name, ""], self._facts.items(), left=2)])

    @property
    def _facts(self) -> dict[str, str]:
        """What a reader wants to know first."""
        known = {
            "shape": "x".join(map(str, self.shape)),
            "predicts": self.predicts,
            "schedule": self.schedule.describe(),
            "classes": self.classes,
            "prompts": len(self.prompts) or None,
            "parameters": None if self.parameters is None else f"{self.parameters:,}",
            "pipeline": self.pipeline and self.pipeline.scheduler,
            "distilled to": self.distilled and f"{self.distilled.calls} calls",
            "others": ", ".join(repr(other.name) for other in self.others) or None,
            "on": f"{self.device} in {str(self.dtype).removeprefix('torch.')}",
        }
        return {key: str(value) for key, value in known.items() if value is not None}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.others and isinstance(self.schedule, Ended):
            raise InputError(f"{self.name} ends above the data, and rows of its plans call no second model")
        for other in self.others:
            for what in ("shape", "classes", "prompts", "negative_prompt", "data_range", "device"):
                its, own = getattr(other, what), getattr(self, what)
                if its != own:
                    raise InputError(f"{what} of the second model {other.name} is {its}; {self.name} has {own}")

    @classmethod
    def from_denoiser(
        cls,
        fn: Network,
        schedule: Schedule,
        shape: Sequence[int],
        predicts: str = "data",
        labels: int | None = None,
        *,
        empty_label: int | None = None,
        name: str = "denoiser",
        **fields: Any,
    ) -> Model:
        """A model from any function fn(x, sigma_or_t, labels) and a noise schedule.

        `x` is alpha D + sigma eps under the schedule's process, the second argument the schedule's time of that level
        (sigma for `VarianceExploding`), `labels` the number of classes or None.

        The model's hash is that of the weights which the function reaches now: in its closure, defaults, `self`, attributes,
        and the globals that it names. Where it reaches none, as where it computes by formulas or asks a server, give
        `hash="..."`, any text that changes with the network; without it a search cannot be resumed, and a plan does not know
        its model.

        Raises InputError for what is no function, schedule, shape, prediction or number of classes.
        """
        if not callable(fn):
            raise InputError(f"fn is a {type(fn).__name__}; expected a function fn(x, sigma_or_t, labels)")
        if isinstance(schedule, type) or ROLES["schedule"].missing(schedule):
            raise InputError(f"schedule is {schedule!r:.80}; {SCHEDULES}")
        if not isinstance(shape, Sequence) or isinstance(shape, str):
            raise InputError(f"shape is {shape!r:.80}; expected the sizes of one sample, such as (C, H, W)")
        sizes = tuple(counted("a size of shape", size) for size in shape)
        labels = None if labels is None else counted("labels", labels)
        empty_label = None if empty_label is None else counted("empty_label", empty_label, 0)
        given = {"hash": _hash_of(fn, f"{name} {predicts} {schedule.describe()} {sizes}"), **fields}
        return cls(fn, schedule, predicts, sizes, labels, empty_label, name=name, **given)

    @classmethod
    def from_pipeline(cls, pipe: Any, call: Mapping[str, Any], **fields: Any) -> Model:
        """The model of any diffusers pipeline with one loop over its scheduler's `step`, called as `pipe(**call)`.

        Its network is that loop, which runs in a thread until the model is dropped: guidance, ControlNet, several networks
        and whatever else is between two steps belong to it. Samples are the loop's states. Label k is the k-th condition of
        the call (prompt, class label or image), of which each has as many of the call's samples; a call without conditions
        makes a model without labels. There is no empty label, since the call guides by itself. The pipeline is not changed,
        nor are the call's generators.

        fields  of the Model, in place of those that the pipeline tells, such as name or data_range

        Raises InputError for what is no such pipeline, a call that does not fit, and schedulers whose noise schedule is not
        known; ForeignError for what the call raises.
        """
        return cls(**(fields_of(pipe, call) | fields))

    @classmethod
    def from_mixture(
        cls, mixture: GaussianMixture, schedule: Schedule, *, conditional: bool = False, name: str = "mixture",
        hash: str = "", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
    ) -> Model:  # fmt: skip
        """The exact denoiser of a Gaussian mixture, as a network that predicts the data.

        `conditional` makes the mixture's classes the model's, with the whole mixture as the empty class. `hash` is by default
        that of the mixture and the schedule.
        """
        mixture = mixture.to(device=torch.device(device), dtype=dtype)
        classes = mixture.classes if conditional else None

        def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            tau = schedule.tau(t.double() if t.ndim == 0 else t[0].double())
            return mixture.denoise(x / schedule.scale(tau).to(x.dtype), tau, labels)

        return cls(
            network, schedule, "data", tuple(mixture.shape), classes, classes,
            name=name, hash=hash or _hash_of(network, name), device=torch.device(device), dtype=dtype, exact=mixture,
        )  # fmt: skip

    def logits(self, x: Tensor, tau: float) -> Tensor:
        """The classifier's output on states x (n, *shape) at a level, called as the network is (see `output`).

        Raises InputError where there is no classifier, and ForeignError for what it raises.
        """
        if self.classifier is None:
            raise InputError(f"{self.name} has no classifier: give Model.classifier")
        with (
            without_autocast(x.device.type),
            in_eval(self._classifier_modules),
            foreign(f"the classifier of {self.name}"),
        ):
            return self.classifier(x.clone(), tau)

    @cached_property
    def _classifier_modules(self) -> list[nn.Module]:
        return modules_of(self.classifier)

    def called(self, network: int) -> Model:
        """The model of rows of this network: itself for 0, else one of the others. Raises InputError where it is none."""
        if self.experts is not None and not self.others and 1 <= network <= 2:
            return replace(self, network=self.experts.networks()[network - 1], experts=None)
        if network > len(self.others):
            raise InputError(
                f"the plan calls network {network}, and {self.name} comes with {len(self.others)} others: give the "
                "second model by --with OTHER, or others=[..]"
            )
        return self if network == 0 else self.others[network - 1]

    def labels(self, n: int, labels: Any = None) -> Tensor | None:
        """Checked labels (n,) on the model's device; None draws them evenly: 0, 1, .., K - 1, 0, 1, .."""
        if self.classes is None:
            if labels is not None:
                raise InputError(f"{self.name} has no classes, but labels were given")
            return None
        if labels is None:
            labels = torch.arange(n) % self.classes
        try:
            given: Tensor = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"labels are {labels!r:.80}; expected integers 0 .. {self.classes - 1}") from error
        if given.is_floating_point() or given.dtype == torch.bool:
            raise InputError(f"labels must be integers 0 .. {self.classes - 1}, got {given.dtype}")
        if given.ndim == 0:
            given = given.expand(n)
        if given.shape != (n,):
            raise InputError(f"labels have shape {tuple(given.shape)}; expected ({n},)")
        top = self.classes if self.empty_label is None else max(self.classes, self.empty_label + 1)
        wrong = given[(given < 0) | (given >= top)]
        if len(wrong):
            raise InputError(f"label {int(wrong[0])} is out of range; {self.name} has labels 0 .. {self.classes - 1}")
        return given.to(device=self.device, dtype=torch.int64)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Model:
        """The same model on another device or in another dtype; an nn.Module is moved in place.

        Raises InputError for a model of a pipeline's loop, which runs where the pipeline is.
        """
        device = torch.device(device) if device is not None else self.device
        dtype = dtype or self.dtype
        if isinstance(self.network, PipelineNetwork):
            elsewhere = device.type != self.device.type or device.index not in (None, self.device.index)
            if elsewhere or dtype != self.dtype:
                raise InputError(
                    f"{self.name} runs on {self.device} in {self.dtype}, as its pipeline does: move that with pipe.to(..), and "
                    "make the model again"
                )
            return self
        network: Any = self.network
        module = getattr(network, "module", network)
        if isinstance(module, nn.Module):
            module.to(device=device, dtype=dtype)
        elif hasattr(network, "moved"):  # a network that calls a model of its own
            network = network.moved(device, dtype)
        weaker, others = self.weaker and self.weaker.to(device, dtype), tuple(o.to(device, dtype) for o in self.others)
        return replace(self, network=network, device=device, dtype=dtype, weaker=weaker, others=others)

    def with_guidance(self, scale: float) -> Model:
        """The model whose network takes this guidance scale as its input; likewise its `others`.

        Raises InputError for a network that takes none, and where the scale is no finite number.
        """
        if self.embedded_guidance is None:
            raise InputError(f"the network of {self.name} takes no guidance scale as an input")
        if not -1e6 < scale < 1e6:
            raise InputError(f"guidance is {scale}; expected a finite scale such as 3.5")
        network: Any = self.network
        others = tuple(o if o.embedded_guidance is None else o.with_guidance(scale) for o in self.others)
        return replace(self, network=network.with_guidance(scale), embedded_guidance=float(scale), others=others)

    def is_called(self, hash: str | None) -> bool:
        """Whether this is the network that a plan names by a hash."""
        return hash == self.hash or (bool(hash) and hash in set(self.known_as()))

    @property
    def signature(self) -> dict[str, str]:
        """Name, hash and noise schedule, by which a plan names its model."""
        known = {"name": self.name, "hash": self.hash, "schedule": self.schedule.describe()} | marked(self.schedule)
        if self.beginning is None:
            return known
        level = self.schedule.named(self.beginning.level) if isinstance(self.schedule, Ended) else self.beginning.level
        handed_on = {"handed_on": "yes"} if self.beginning.handed_on else {}
        return known | {"begins": f"{level:.9g}"} | handed_on

    @property
    def start(self) -> float:
        """The level to start from (see `Denoiser.start`), or where the pipeline begins with noised data."""
        return super().start if self.beginning is None else min(super().start, self.beginning.level)

    def describe(self) -> dict[str, Any]:
        """Description of the model in results and reports."""
        return {
            "name": self.name, "hash": self.hash, "shape": list(self.shape), "predicts": self.predicts,
            "schedule": self.schedule.describe(), "parameters": self.parameters, "classes": self.classes,
            **self.conditions,
        }  # fmt: skip

    @property
    def conditions(self) -> dict[str, Any]:
        """Prompts, text encoders, guidance input and call of a pipeline, on which samples depend; {} for others."""
        call = {"call": self.called_with} if self.called_with else {}
        if not self.prompts:
            return call
        optional = {"negative_prompt": self.negative_prompt, "embedded_guidance": self.embedded_guidance}
        known = {name: value for name, value in optional.items() if value is not None}
        return {"prompts": list(self.prompts), "text_encoders": self.encoders_hash, **known, **call}


def _hash_of(network: Network, facts: str) -> str:
    """The hash of a network's weights and of these facts; "" where it reaches no weights."""
    weights = hash_of_network(network)
    return "" if weights is None else hashlib.sha256(f"{facts} {weights}".encode()).hexdigest()
