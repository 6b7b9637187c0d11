"""One model and the plans that its page offers; samples are made by one request at a time, and the latest are kept."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.reference import reference_plan
from fewer.images import Pixels, check_picture, pixels
from fewer.integrations.as_it_is import as_it_is
from fewer.models.model import Model
from fewer.noise import Draw, Stream, unit_noise
from fewer.plan import Plan
from fewer.report.folder import Folder
from fewer.report.samples import MOST_SAMPLES, difference, sheet
from fewer.serve.offers import Offer, of_folder, of_model, uploaded

MOST_UPLOADS = 32
KEPT = 32  # sets of samples
LARGEST_SIDE = 512  # pixels of a sample on the page
FINE_CALLS = 128
AGAINST = {
    "standard": "a standard sampler of the same cost",
    "stock": "the pipeline's own scheduler at the same cost",
    "pipeline": "the pipeline as it is, at its own steps",
    "fine": f"the model's own flow in {FINE_CALLS} fine steps",
}


@dataclass(frozen=True)
class Request:
    """A request of the page: plan number, baseline, seed of the noises, number of samples, label of all (None: in turn)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    plan: Annotated[int, Field(ge=0)] = 0
    against: Literal["standard", "stock", "pipeline", "fine"] = "standard"
    seed: Annotated[int, Field(ge=0, le=2**53)] = 0
    n: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = MOST_SAMPLES
    label: Annotated[int | None, Field(ge=0)] = None


@dataclass(frozen=True)
class Shot:
    """Samples of one sampler: in data units and as pixels, and the seconds that they took."""

    name: str
    nfe: int
    samples: Tensor
    images: Pixels
    seconds: float

    def shown(self) -> dict[str, Any]:
        """The shot as JSON values, its images as one sheet."""
        drawn = sheet(self.images, LARGEST_SIDE)
        return {"name": self.name, "nfe": self.nfe, "seconds": round(self.seconds, 3), **vars(drawn)}


@dataclass
class Studio:
    """What a page shows: a model, its plans, and samples of them on request.

    Requests may come from several threads: the network plays one after another, since neither it nor its device is asked to
    bear more. Raises InputError where the model makes no images.
    """

    model: Model
    folder: Folder | None = None
    guidance: float | None = None
    seed: int = 0  # of the noises that the page begins with
    batch: int | None = None
    offers: list[Offer] = field(init=False)
    front: int = field(init=False)
    _playing: threading.Lock = field(default_factory=threading.Lock)
    _shots: OrderedDict[tuple[object, ...], Shot] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        """Make the offers."""
        check_picture(self.model)
        if self.folder is None:
            self.offers = of_model(self.model, self.guidance)
        else:
            self.guidance = self.folder.results.budget.guidance if self.guidance is None else self.guidance
            self.offers = of_folder(self.model, self.folder)
        self.front = len(self.offers)

    def add(self, content: bytes) -> int:
        """Offer an uploaded plan; its number. Raises InputError where the file is no plan, or none that the model can play."""
        with self._playing:
            if len(self.offers) - self.front >= MOST_UPLOADS:
                raise InputError(f"{MOST_UPLOADS} plans were uploaded already: end fewer serve and start it again")
            self.offers.append(uploaded(self.model, content, self.guidance))
            return len(self.offers) - 1

    def compare(self, request: Request) -> dict[str, Any]:
        """Samples of the plan and of the baseline from the same noises, and where they differ, as JSON values.

        Raises InputError for a plan, label or baseline that is not there.
        """
        if request.plan >= len(self.offers):
            raise InputError(f"plan is {request.plan}; the page offers {len(self.offers)}, counted from 0")
        found = self.offers[request.plan]
        with self._playing:
            plan = self._played(("plan", request.plan), found.plan, request)
            other = self._baseline(found, request)
        apart = float((plan.samples - other.samples).square().mean())
        return {
            "plan": plan.shown(), "against": other.shown(),
            "difference": vars(sheet(difference(plan.images, other.images), LARGEST_SIDE)),
            "rmse": float(f"{math.sqrt(apart):.3g}"), "notes": list(found.notes),
        }  # fmt: skip

    def _baseline(self, found: Offer, request: Request) -> Shot:
        """The baseline's samples for a plan."""
        if request.against in ("standard", "fine"):
            fine = request.against == "fine"
            plan = reference_plan(self.model, FINE_CALLS, self.guidance) if fine else found.standard
            return self._played((request.against, plan.name, plan.nfe), plan, request)
        nfe = found.plan.nfe if request.against == "stock" else None
        own = as_it_is(self.model, nfe, self.guidance)
        if own is None:
            raise InputError(
                f"{self.model.name} has no scheduler of its own" + (f" that makes {nfe} evaluations" if nfe else "")
            )

        return self._shot(
            (request.against, nfe), own.name, own.nfe, request,
            lambda noise, labels: own.samples(self.model, noise, labels, request.seed, self.batch),
        )  # fmt: skip

    def _played(self, key: tuple[object, ...], plan: Plan, request: Request) -> Shot:
        """A plan's samples."""

        def play(noise: Tensor, labels: Tensor | None) -> Tensor:
            return sample(self.model, plan, noise=noise, labels=labels, seed=request.seed, batch=self.batch)

        return self._shot(key, plan.name, plan.nfe, request, play)

    def _shot(
        self,
        key: tuple[object, ...],
        name: str,
        nfe: int,
        request: Request,
        play: Callable[[Tensor, Tensor | None], Tensor],
    ) -> Shot:
        """Samples from the noises of the request's seed, made now or found among the latest."""
        full = (*key, request.seed, request.n, request.label)
        if full not in self._shots:
            model = self.model
            noise = unit_noise(request.seed, Stream.SAMPLES.numbers(request.n), model.shape, Draw.START(), model.device)
            labels = model.labels(request.n, request.label)
            began = time.monotonic()
            samples = play(noise, labels)
            self._shots[full] = Shot(name, nfe, samples, pixels(model, samples), time.monotonic() - began)
        self._shots.move_to_end(full)
        while len(self._shots) > KEPT:
            self._shots.popitem(last=False)
        return self._shots[full]

    @property
    def baselines(self) -> dict[str, str]:
        """The baselines that this model has, with what they are."""
        return {name: said for name, said in AGAINST.items() if self.model.pipeline or name in ("standard", "fine")}
