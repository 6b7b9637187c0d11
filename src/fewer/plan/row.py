"""The plan: a table with one row per network call. It holds every sampler that is linear with Gaussian noise.

In the flow frame (see fewer.models.schedules), with state x = (1 - tau) D + tau eps and output u = eps - D:

    start    x_0 = scale z + sum_k gains_k <v_k, z> v_k + noise z_0 + offset
    row n    u_n = network(x_n, t(tau_n)), guided
             x_{n+1} = sum_{j <= n} (a_nj x_j + b_nj u_j) + noise_n z_n + offset_n         a_nn = 1 unless said, else 0

tau_n is the level of the state, and t(tau_n) its time under the noise schedule of the model that plays the plan (see
fewer.engine.times). A row stores a time t_n only where the network is to get another one on purpose. Coefficients are
floats or tensors that broadcast to a sample. z is the starting noise, z_n fresh unit noise.

Blocks of the network that row n names in its `blocks` are not run: each gives a combination of its outputs in earlier
rows, y_n = sum_{j < n} w_nj y_j + offset_n (see `Shortcut`). A row may call another network than the model's own, since u
means the same on every network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import Field, PlainValidator
from torch import Tensor

from fewer.noise import MOST
from fewer.plan.values import STRICT, Coefficient, Level, NamedTensor, guidance_rule

Weights = Annotated[Mapping[int, Coefficient], Field(max_length=MOST)]
BlockName = Annotated[str, Field(min_length=1, max_length=200)]


class Guidance(Protocol):
    """Guidance rule of a row: the passes that it makes, and the one output that they give."""

    @property
    def rule(self) -> str:
        """The part's name."""

    @property
    def passes(self) -> int:
        """Network evaluations of a guided call."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """Condition of each pass in turn: "label" (conditional), "empty" (unconditional) or another class ("reference")."""

    @property
    def remembers(self) -> bool:
        """Whether the rule uses passes of earlier rows, which the engine then keeps."""

    @property
    def draws(self) -> bool:
        """Whether the rule draws noise, which makes its plans stochastic."""

    def parameters(self) -> dict[str, Any]:
        """Parameters in the plan's file: numbers and tuples of numbers."""

    def output(self, passes: Any) -> Tensor:
        """The guided u (n, *shape) of a row; `passes` (fewer.guidance.passes) makes its network calls."""


@runtime_checkable
class LooksBack(Protocol):
    """A guidance rule that weighs earlier rows and can do without them."""

    def reaching(self, rows: int) -> Guidance:
        """The rule in a run that has only so many rows before this one."""


@dataclass(frozen=True)
class Start:
    """The state before the first call, at level `tau`: scale z + sum_k gains_k <v_k, z> v_k + noise z_0 + offset.

    `noise` is for samplers that add noise before their first call; `offset` for starts that know the data's mean;
    `directions` v (K, *shape), orthonormal, with `gains` (K,), for starts that know its covariance too.
    """

    __pydantic_config__ = STRICT

    tau: Level
    scale: Coefficient
    noise: Coefficient = 0.0
    offset: Coefficient = 0.0
    directions: NamedTensor | None = None
    gains: NamedTensor | None = None

    @property
    def plain(self) -> bool:
        """Whether it is tau z, the state of pure noise at its level, as nearly every sampler starts."""
        numbers = (self.tau, self.scale, self.noise, self.offset)
        known = self.directions is None and not any(isinstance(number, Tensor) for number in numbers)
        return known and numbers == (self.tau, self.tau, 0, 0)


@dataclass(frozen=True)
class Shortcut:
    """Output of a block in a row that does not run it: y_n = sum_j weights_j y_j + offset, over earlier rows j.

    y is the block's branch (see fewer.blocks.find): the residual that the block adds, else its output. Weights may be
    tensors that broadcast to a branch without its batch. A skip names no rows; a reuse is {j: 1}; forecasts weigh several
    rows; a scale and a shift per channel repair a reuse.
    """

    __pydantic_config__ = STRICT

    weights: Weights = field(default_factory=dict)
    offset: Coefficient = 0.0


@dataclass(frozen=True)
class Row:
    """One network call and the step after it. `guidance` None means one pass with the sample's own label.

    offset   added to every sample, for solvers that use statistics of the model's output
    blocks   shortcuts, by name, of the blocks that this row does not run
    network  number of the network that the row calls: 0 the model itself, k the k-th of its others
    t        network time in place of the schedule's time at `tau`, a time of the noise schedule that the plan names for this
             network (see `Plan`); None, as nearly always, for the schedule's time
    """

    __pydantic_config__ = STRICT

    tau: Level
    b: Weights
    a: Weights | None = None
    noise: Coefficient = 0.0
    guidance: Annotated[Guidance, PlainValidator(guidance_rule)] | None = None
    offset: Coefficient = 0.0
    blocks: Annotated[Mapping[BlockName, Shortcut], Field(max_length=MOST)] = field(default_factory=dict)
    network: Annotated[int, Field(ge=0, le=100)] = 0
    t: Level | None = None

    @property
    def passes(self) -> int:
        """Network evaluations of this row."""
        return 1 if self.guidance is None else self.guidance.passes

    @property
    def conditions(self) -> tuple[str, ...]:
        """Condition of each pass in turn (see `Guidance.conditions`)."""
        return ("label",) if self.guidance is None else self.guidance.conditions


def is_zero(value: Coefficient) -> bool:
    """Whether a coefficient is 0 everywhere."""
    return not bool(value.any()) if isinstance(value, Tensor) else value == 0
