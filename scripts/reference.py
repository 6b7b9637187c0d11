"""docs/reference.md: the public names with their docstrings."""

from __future__ import annotations

import importlib
import inspect
from functools import cached_property
from typing import Any

import fewer
from scripts.docstrings import code, markdown, signature

HEAD = """# Reference

<!-- Made by `make docs-tables` from the docstrings. -->

Every public name with its docstring. Shapes are written (n, C, H, W); tau is the noise level sigma / (alpha + sigma), from 0
(data) to 1 (noise). Methods are on the pages of their rooms, commands on [a page of their own](commands.md)."""

ROOMS = (  # what is public beside the package's own names
    (
        "Noise schedules",
        "fewer.models.schedules",
        ("VarianceExploding", "Flow", "Discrete", "discrete", "betas", "Schedule"),
    ),
    ("Denoisers", "fewer.models.denoiser", ("Denoiser", "Clip")),
    (
        "Exact models with an error",
        "fewer.models.flawed",
        ("FlawedMixture", "Branch", "Rough", "smoothed", "reweighted", "weights_divergence", "fitted"),
    ),
    ("Figures with intervals", "fewer.evaluate.statistics.interval", ("Interval",)),
    ("Monge gap of plans and pairs", "fewer.evaluate.distances.monge_gap", ("plan_monge_gap", "pairs_gap")),
    ("Laws and their expectations", "fewer.evaluate.statistics.expectations", ("Law", "Expectations")),
    ("Samples of posteriors", "fewer.tasks.inverse.solve", ("Solved",)),
    (
        "Operators of inverse problems",
        "fewer.tasks.inverse.operators",
        ("Inpainting", "SuperResolution", "Blur", "Identity", "Matrix", "random_inpainting", "compressed_sensing"),
    ),
    ("Operators of your own", "fewer.tasks.inverse.given_operators", ("as_operator", "linear")),
    ("Operators that give values alone", "fewer.tasks.black_box", ("solve_black_box", "BlackBoxSolved")),
    ("Densities known by their values", "fewer.processes.ensemble_score", ("EnsembleScore", "Drawn")),
    ("Linear noising of any metric", "fewer.processes.flexible", ("FlexibleDiffusion",)),
    ("Linear noising that is fitted", "fewer.processes.flexible_fit", ("fit_flexible", "Fitted")),
    ("Exact posteriors", "fewer.models.linear_posterior", ("LinearPosterior",)),
    ("Figures of posteriors", "fewer.evaluate.posteriors", ("Fidelity", "coverage", "energy_scores")),
    ("Tuned samplers of posteriors", "fewer.search.posteriors", ("tune_posterior", "TunedPosterior")),
    ("Forecasts", "fewer.tasks.series.forecast", ("Forecast",)),
    ("What was observed of a window", "fewer.tasks.series.windows", ("observed",)),
    (
        "Series with known laws",
        "fewer.tasks.series.state_space",
        ("StateSpace", "autoregression", "window_law", "forecast_law"),
    ),
    ("Simple forecasts", "fewer.tasks.series.baselines", ("persistence", "Ridge")),
    (
        "Models of frames with levels of their own",
        "fewer.tasks.series.frames",
        ("frame_model", "velocities", "rolling_levels", "rolling_loss"),
    ),
    ("Regression of fields", "fewer.tasks.series.reduced", ("ReducedRegression",)),
    ("Meshes", "fewer.tasks.series.meshes", ("Mesh",)),
    ("Scores of forecasts", "fewer.evaluate.forecasts", ("ForecastScores", "crps")),
    ("Edited images", "fewer.tasks.editing.edit", ("Edited",)),
    ("Scenes of layers", "fewer.tasks.editing.scenes", ("scene", "Scene", "Layer", "Placed")),
    ("Score distillation", "fewer.tasks.editing.distillation", ("distil", "Distillation")),
    ("Editors that are distilled", "fewer.tasks.editing.selective", ("distil_editor", "DistilledEditor", "entropies")),
    ("Figures of a restoration", "fewer.evaluate.restoration", ("Restoration",)),
    ("Ranking of blocks", "fewer.calibrate.redundant_blocks", ("Change",)),
    ("Results of a search", "fewer.search", ("Result",)),
    ("Parts", "fewer.registry", ("part", "parts", "find")),
    ("Claims", "fewer.claims", ("claim", "Claim", "Measured")),
    ("Writing a solver", "fewer.solvers.trace", ("Trace", "Level", "Output")),
    ("Writing a grid", "fewer.grids", ("Range",)),
)


def page() -> str:
    """The page's text."""
    blocks = [HEAD, "## fewer"]
    for name in sorted(fewer.__all__, key=str.lower):
        if not name.startswith("__"):
            blocks.append(entry(f"fewer.{name}", getattr(fewer, name)))
    for title, module, names in ROOMS:
        blocks.append(f"## {title}")
        blocks += [entry(f"{module}.{name}", getattr(importlib.import_module(module), name)) for name in names]
    return "\n\n".join(blocks) + "\n"


def entry(name: str, thing: Any) -> str:
    """One class or function."""
    told = [] if _is_no_call(thing) else [code(signature(thing), "python")]
    blocks = [f"### `{name}`", *told, markdown(thing.__doc__ or "")]
    if inspect.isclass(thing):
        own = [each for each in thing.__mro__ if each.__module__.split(".")[0] == "fewer"]
        members = {key: value for each in reversed(own) for key, value in vars(each).items() if not key.startswith("_")}
        blocks += [member(key, value) for key, value in members.items()]
    return "\n\n".join(block for block in blocks if block)


def member(name: str, thing: Any) -> str:
    """A method or property of a class; nothing for its fields, which the class tells of."""
    if isinstance(thing, property | cached_property):
        return f"#### `{name}`\n\n{markdown(thing.__doc__ or '')}"
    kind = thing.__func__ if isinstance(thing, classmethod | staticmethod) else thing
    if not inspect.isfunction(kind) or not kind.__doc__:
        return ""
    bound = kind if isinstance(thing, staticmethod) else _without_self(kind)
    return f"#### `{name}`\n\n{code(signature(bound, name), 'python')}\n\n{markdown(kind.__doc__)}"


def _without_self(function: Any) -> Any:
    """A stand-in with the function's signature less its first argument."""
    called = inspect.signature(function)

    def bound() -> None: ...

    bound.__signature__ = called.replace(parameters=list(called.parameters.values())[1:])  # type: ignore[attr-defined]
    return bound


def _is_no_call(thing: Any) -> bool:
    """Protocols are never made, and what exceptions take is no news."""
    return inspect.isclass(thing) and (getattr(thing, "_is_protocol", False) or issubclass(thing, Exception))
