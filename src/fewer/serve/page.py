"""The page as HTML: controls, places for the samples, the table of every plan, and the report's table of samplers."""

from __future__ import annotations

from functools import cache

from jinja2 import Template

from fewer.report.html import ranking, samplers, to_use
from fewer.report.samples import SMALL_SIDE
from fewer.report.table import tabulate
from fewer.report.templates import environment
from fewer.results import Objective
from fewer.serve.studio import Studio


def page(studio: Studio) -> str:
    """The page of a studio as it is now."""
    model, results = studio.model, None if studio.folder is None else studio.folder.results
    first = 0 if results is None else to_use(results)
    by = Objective() if results is None else results.objective
    lines = [] if results is None else ranking(results.baselines, results.front, by)
    return _template().render(
        model=model,
        results=results,
        offers=[(offer, tabulate(offer.plan)) for offer in studio.offers],
        front=studio.front,
        seed=studio.seed,
        baselines=studio.baselines,
        counts=(1, 4, 9, 16),
        count=16 if max(model.shape[1:]) <= SMALL_SIDE and model.decode is None else 4,
        labels=_labels(studio),
        first=first,
        **samplers(lines, first, by),
    )


def _labels(studio: Studio) -> list[str]:
    """What a label is called: the prompt, or the number of the class."""
    if studio.model.prompts:
        return [prompt[:80] for prompt in studio.model.prompts]
    return [str(label) for label in range(studio.model.classes or 0)]


@cache
def _template() -> Template:
    return environment("fewer.serve", "fewer.report").get_template("page.html")
