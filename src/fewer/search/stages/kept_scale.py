"""The scale that `--guidance auto` found, kept in the study, so that a search that is resumed does not look for it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fewer.calibrate.nearest_scale import Scales
from fewer.errors import InputError
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics.interval import Interval
from fewer.files import checked
from fewer.models.model import Model
from fewer.search.study import STUDY, Study

FOUND = "found scale"
Scale = Annotated[float, Field(ge=1, le=1e6)]


class _Tried(BaseModel):
    """A scale, and beside it the keys of the distance's interval."""

    model_config = ConfigDict(extra="allow")
    scale: Scale


class _Kept(BaseModel):
    """The record of a search of the scale."""

    scale: Scale
    tried: list[_Tried]


def scale_identity(model: Model, scoring: Scoring, seed: int, noises: int) -> dict[str, Any]:
    """Definition of the search of a scale: model, data by their content, the distance, and the noises."""
    return {"model": model.hash, "seed": seed, "noises": noises, **scoring.identity(), **model.conditions}


def kept_scale(folder: Path | None, resume: bool, defined: dict[str, Any], search: Callable[[], Scales]) -> Scales:
    """Scales that a search of the same definition has kept in the folder, where it is resumed, or else those of `search`.

    No evaluations are counted for kept ones: they were another run's. Raises InputError for a damaged study.
    """
    if folder is None:
        return search()
    path, name = folder / STUDY, f"scale-{hashlib.sha256(json.dumps(defined).encode()).hexdigest()[:16]}"
    if resume and path.exists() and (known := Study(name, path, defined, resume=True).noted(FOUND)) is not None:
        damaged = f"{path} holds a damaged guidance scale"
        kept = checked(_Kept, known, damaged, whole="")
        try:
            distances = {each.scale: Interval.from_dict(each.model_extra or {}) for each in kept.tried}
        except InputError as error:
            raise InputError(f"{damaged}: {error}") from error
        return Scales(kept.scale, distances, 0)
    scales = search()
    tried = [{"scale": scale, **distance.to_dict()} for scale, distance in scales.distances.items()]
    Study(name, path, defined, resume=True).note(FOUND, {"scale": scales.scale, "tried": tried})
    return scales
