"""The scale that `--guidance auto` found, kept in the study, so that a search that is resumed does not look for it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from fewer.errors import InputError, first_fault
from fewer.guidance.nearest_scale import Scales
from fewer.measures.interval import Interval
from fewer.models.model import Model
from fewer.tuning.baselines import Scoring
from fewer.tuning.study import STUDY, Study

FOUND = "found scale"
Scale = Annotated[float, Field(ge=1, le=1e6)]


class _Tried(BaseModel):
    """The distance at a scale."""

    scale: Scale
    value: Annotated[float, Field(allow_inf_nan=False)]
    low: float
    high: float
    n: Annotated[int, Field(ge=1)]


class _Found(BaseModel):
    """What is kept of a search of the scale."""

    scale: Scale
    tried: list[_Tried]


def scale_identity(model: Model, scoring: Scoring, seed: int, noises: int) -> dict[str, Any]:
    """What defines the search of a scale: model, data by their content, the distance, and the noises."""
    data, features, metric = scoring.data, scoring.features, scoring.metric
    assert data is not None  # it is checked
    content = hashlib.sha256(data.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
    return {
        "model": model.hash, "seed": seed, "noises": noises, "data": [str(data.dtype), list(data.shape), content],
        "features": None if features is None else features.describe(),
        "metric": None if metric is None else [metric.name, metric.describe()], **model.conditions,
    }  # fmt: skip


def kept_scale(folder: Path | None, resume: bool, defined: dict[str, Any], search: Callable[[], Scales]) -> Scales:
    """What a search of the same definition has kept in the folder, where it is resumed, or else what `search` finds.

    Of what was kept, no evaluations are counted: they were another run's. Raises InputError for a damaged study.
    """
    if folder is None:
        return search()
    path, name = folder / STUDY, f"scale-{hashlib.sha256(json.dumps(defined).encode()).hexdigest()[:16]}"
    if resume and path.exists() and (known := Study(name, path, defined, resume=True).noted(FOUND)) is not None:
        return _scales(known, path)
    found = search()
    tried = [{"scale": scale, **distance.to_dict()} for scale, distance in found.distances.items()]
    Study(name, path, defined, resume=True).note(FOUND, {"scale": found.scale, "tried": tried})
    return found


def _scales(known: Any, path: Path) -> Scales:
    try:
        found = _Found.model_validate(known)
        distances = {each.scale: Interval(each.value, each.low, each.high, each.n) for each in found.tried}
    except ValidationError as error:
        where, what = first_fault(error)
        raise InputError(f"{path} holds a damaged guidance scale: {where}: {what}") from error
    except ValueError as error:
        raise InputError(f"{path} holds a damaged guidance scale: {error}") from error
    return Scales(found.scale, distances, 0)
