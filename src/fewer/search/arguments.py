"""What `fewer.tune` is called with, and the checked request that it makes of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fewer.arguments import as_count, as_count_or_none, as_model, as_number, as_number_or_none
from fewer.errors import InputError
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.features import Features
from fewer.evaluate.objectives import Judging, check_objective, judging_of
from fewer.evaluate.scoring import scoring_of
from fewer.models.model import Model
from fewer.search.columns import check_names
from fewer.search.distilled import criterion_of_distilled, strategy_for, with_teacher
from fewer.search.playable import check_playable, playable_request, whole_rows
from fewer.search.request import (
    Request,
    check,
    enough_noises,
    evaluations_of,
    for_large,
    limited,
    paid_by,
    strategy_of,
)
from fewer.search.space import check_keep
from fewer.search.stages.free_scale import PLACEHOLDER, check_auto
from fewer.search.starts import From, check_starts, split
from fewer.search.strategies.joint import names_of
from fewer.search.strategy import Strategy

MOST_UNASKED = 1024  # noises that an objective has by itself where it needs more than usual


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of `fewer.tune` that say what is searched and by what it is judged; it documents them.

    Those that no model is needed for are checked here: raises InputError as `tune` does.
    """

    nfe: int | Sequence[int] | None = None
    seed: int = 0
    guidance: float | Literal["auto"] | None = None
    keep: Iterable[str] = ()
    margin: float = 0.05
    playable_by: str | None = None
    match: bool = False
    macs: float | Sequence[float] | None = None
    ms: float | Sequence[float] | None = None
    data: Tensor | None = None
    features: Features | None = None
    metric: OwnMetric | None = None
    objective: str = "paired"
    teacher: Model | None = None
    trials: int | None = None
    time: float | None = None
    batch: int | None = None
    noises: int | None = None
    fresh: int | None = None
    evaluations: int | None = None
    strategy: str | Strategy = "regression"
    start_from: From = ()

    def __post_init__(self) -> None:
        checked = {
            "seed": as_count(self.seed, "seed", 0),
            "guidance": self.guidance if self.free_scale else as_number_or_none(self.guidance, "guidance"),
            "keep": check_keep(self.keep),
            "margin": as_number(self.margin, "margin"),
            "trials": as_count_or_none(self.trials, "trials", 0),
            "time": as_number_or_none(self.time, "time"),
            "batch": as_count_or_none(self.batch, "batch"),
            "noises": as_count_or_none(self.noises, "noises", 8),
            "fresh": as_count_or_none(self.fresh, "fresh", 8),
            "evaluations": as_count_or_none(self.evaluations, "evaluations", 0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def free_scale(self) -> bool:
        """Whether the guidance scale is to be found, too."""
        return isinstance(self.guidance, str)

    @property
    def known_scale(self) -> float | None:
        """The guidance scale, or one in its place until it is found."""
        return PLACEHOLDER if isinstance(self.guidance, str) else self.guidance

    def model_of(self, model: Model) -> Model:
        """The model, beside its teacher where there is one."""
        return with_teacher(as_model(model), self.teacher)

    def judging(self, model: Model) -> Judging:
        """By what plans of the model are ranked, and by what the outcome is judged."""
        scoring = scoring_of(model, self.data, self.features, self.metric)
        if model.distilled is None:
            judging = judging_of(self.objective, scoring, model.data_range)
        else:
            criterion = criterion_of_distilled(model, self._objective_of_distilled(model), scoring)
            judging = Judging(criterion, criterion, scoring)
        if isinstance(self.guidance, str):
            if model.distilled is not None:
                raise InputError(
                    f"guidance is auto, which is for denoisers; {model.name} is distilled: give a scale, or none"
                )
            check_auto(self.guidance, model, scoring, judging.search)
        return judging

    def _objective_of_distilled(self, model: Model) -> str:
        word = check_objective(self.objective, self.metric is not None)
        if word != self.objective:
            raise InputError(
                f"objective is {self.objective!r}; {model.name} is distilled, whose plans are searched and judged by one "
                "distance: name its features by --features"
            )
        return word

    def request(self, model: Model) -> Request:
        """The checked request of a model that `model_of` has given, at the guidance scale as far as it is known."""
        return self.requested(model, self.judging(model))(self.known_scale)

    def requested(
        self, model: Model, judging: Judging, late: Callable[[], bool] = lambda: False
    ) -> Callable[[float | None], Request]:
        """The checked request at a guidance scale, of a model that `model_of` has given; `late` ends the clocking of
        milliseconds. Raises InputError as `tune` does.
        """
        kept, playable_by = frozenset(self.keep), self.playable_by
        given = () if isinstance(self.start_from, list | tuple) and not self.start_from else [self.start_from]
        strategy = strategy_for(model, self.strategy, given, macs=self.macs, ms=self.ms, playable_by=self.playable_by)
        if playable_by is not None:
            playable_by, kept = playable_request(playable_by, model, kept)
        without_blocks = "blocks" in kept or model.others or (self.macs, self.ms) == (None, None)
        blocks = () if without_blocks else names_of(model)
        limits = limited(model, blocks, self.nfe, self.match, self.macs, self.ms, late)
        strategies, plans = split(self.start_from, model)

        def request_at(scale: float | None) -> Request:
            budgets = paid_by(model, limits, scale) if limits else evaluations_of(self.nfe, self.match)
            if playable_by is not None and self.match and self.nfe is None:
                budgets = whole_rows(budgets, scale)
            noises, held_out = self._noises(model, judging)
            shown = min(held_out, max(judging.verdict.least, judging.scoring.least))
            request = Request(
                budgets, seed=self.seed, guidance=scale, keep=kept, margin=self.margin, trials=self.trials, time=self.time,
                match=self.match, noises=noises, held_out=held_out, shown_on=shown, objective=judging.search,
                verdict=None if judging.verdict is judging.search else judging.verdict,
                strategy=strategy_of(strategy, "strategy"), start_from=strategies, start_plans=plans, playable_by=playable_by,
                evaluations=for_large(model, budgets, scale) if self._unbounded else self.evaluations,
            )  # fmt: skip
            check(request, model)
            check_names(request, model)
            if playable_by is not None:
                check_playable(playable_by, (request.strategy, *strategies), scale, [budget.nfe for budget in budgets])
            check_starts(request, model)
            return request

        return request_at

    @property
    def _unbounded(self) -> bool:
        """Whether nothing says what the search may cost."""
        return all(given is None for given in (self.evaluations, self.time, self.trials, self.noises))

    def _noises(self, model: Model, judging: Judging) -> tuple[int, int]:
        """Noises of the search, and held-out ones: as many as are given, else what the shape, the criterion and the figures
        that are shown need.
        """

        def enough(needed: int, least: int, most: int) -> int:
            return max(enough_noises(model, least, most), needed if needed <= MOST_UNASKED else 0)

        pairs, shown = model.distilled is None, max(judging.verdict.least, judging.scoring.least)
        return (
            enough(judging.search.least, *(96, 128) if pairs else (128, 256)) if self.noises is None else self.noises,
            enough(shown, *(64, 256) if pairs else (256, 1024)) if self.fresh is None else self.fresh,
        )
