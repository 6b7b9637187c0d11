"""The role of a search strategy: what one makes, and what a search has to know of it before it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fewer.plan import Plan
from fewer.search.limit import Limit
from fewer.search.objective import Objective
from fewer.search.space import Anchor, Space

Column = Literal["steps", "solver", "guidance", "passes", "blocks", "networks"]
NUMBERS: frozenset[Column] = frozenset({"steps", "solver", "guidance"})  # levels, weights and scales of rows
SAVING: frozenset[Column] = frozenset({"blocks", "networks"})  # by which a row costs less than a whole call


@dataclass(frozen=True)
class Candidate:
    """A plan with its score on the search's noises (`Objective.score`, by default the RMSE), and what its strategy needs to go on
    from it.
    """

    plan: Plan
    error: float
    strategy: str
    state: dict[str, Any] = field(default_factory=dict)


class Strategy(ABC):
    """A generator of candidate plans: a frozen dataclass whose fields are the method's settings and make up its `repr`.

    from_plans  whether it begins with plans that are given (`Space.starts`), too
    prepares    whether `prepare` fits solvers to the model
    renoises    whether it moves the noise that rows add, for distilled models, which it goes with alone
    by_objective  whether its candidates' errors are their `Objective.score`, so that it can search by any objective
    begins_with  the strategy whose choice it begins with, where the user gives no plan to begin with
    unpaired    whether it can search by no other than an unpaired one, since its plans add noise
    """

    from_plans: bool = False
    prepares: bool = False
    by_objective: bool = False
    renoises: bool = False
    unpaired: bool = False
    begins_with: Strategy | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The name under which a study keeps its candidates."""

    @property
    @abstractmethod
    def columns(self) -> frozenset[Column]:
        """The columns of a plan's table that it moves; none where every search begins with its plans.

        One that moves "blocks" or "networks" needs a limit in multiply-adds or milliseconds.
        """

    @property
    @abstractmethod
    def candidates(self) -> int:
        """The largest number of candidates."""

    def levels_alone(self, solver: Any) -> bool:
        """Whether its plans are this solver's at other levels, and nothing else, where the solver is kept; by default not."""
        return False

    @property
    def consistent(self) -> bool:
        """Whether every plan that it makes is exact on straight lines."""
        return False

    @abstractmethod
    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Candidates in turn; `done` holds those of an interrupted search, which are not made again."""

    def choose(self, done: list[Candidate]) -> Candidate:
        """The one to recommend of those that were made: by default that of the lowest error."""
        return min(done, key=lambda candidate: candidate.error)

    def prepare(self, objective: Objective, space: Space, seed: int) -> Mapping[str, Anchor]:
        """Solvers fitted to the model, by name, which other strategies may move coefficients around; none by default."""
        return {}

    def within(self, limit: Limit, steps: Candidate | None) -> tuple[Strategy, ...]:
        """The strategies that search for plans of at most this cost, for one that moves "blocks" or "networks".

        steps  the best plan of whole calls that the budget pays for, where there is one
        """
        return (self,)

    def without_steps(self, done: list[Candidate]) -> Candidate | None:
        """The best candidate in which levels and weights are still a standard plan's, where the strategy makes such."""
        return None
