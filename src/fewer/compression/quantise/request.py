"""What `compress --bits` is asked for, checked before anything is computed, and what it would take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fewer.arguments import as_count, as_count_or_none, as_data, as_model
from fewer.blocks.find import network_of
from fewer.compression.asked import named_as
from fewer.compression.evidence import calls_of_evidence
from fewer.compression.foresee import not_counted, timed
from fewer.compression.quantise import Rounding
from fewer.compression.quantise.nearest import Nearest
from fewer.compression.quantise.quantise import check_formats, formats_of, full_bits
from fewer.compression.quantise.states import EACH, LEVELS
from fewer.compression.request import BATCH, FEWEST, NOISES
from fewer.evaluate.cost.pace import Forecast
from fewer.evaluate.scoring import Scoring, scoring_of
from fewer.models.model import Model
from fewer.models.quantised.grid import Codes, Format, Kind
from fewer.models.quantised.network import file_bits
from fewer.registry import name_of


@dataclass(frozen=True)
class BitsRequest:
    """What is asked for, of which nothing has been computed yet.

    formats  of each weight; `size`: the share that the tensors may take where bits are mixed
    kind     of the grids; `rounding` chooses codes on them
    inputs   bits of what layers are given
    images   clean samples (N, *shape), or None; `scoring` of the evidence from so many `noises`, in batches of `batch`
    """

    model: Model
    formats: dict[str, Format]
    size: float | None
    kind: Kind
    rounding: Rounding
    inputs: int | None
    images: Tensor | None
    scoring: Scoring
    noises: int
    batch: int


def requested_bits(
    model: Model | str | Path, bits: Any = 8, size: float | None = None, *, rounding: Any = "nearest",
    inputs: int | None = None, group: int | None = None, data: Tensor | str | Path | None = None, features: Any = None,
    noises: int = NOISES, batch: int | None = None,
) -> BitsRequest:  # fmt: skip
    """The arguments of `compress_bits`, checked. Raises InputError as that does."""
    model, count = as_model(model), as_count(noises, "noises", FEWEST)
    images, own_batch = as_data(data, model), as_count_or_none(batch, "batch")
    scoring = scoring_of(model, images, features, None)
    scoring.check(count)
    chooser = named_as(rounding, "rounding", batch=own_batch)
    kind: Kind = getattr(chooser, "kind", "symmetric" if group is None and bits != 1 else "asymmetric")
    formats, _ = formats_of(model, bits, size, Format(8, kind, "channel", group))
    check_formats(chooser, formats)
    return BitsRequest(model, formats, size, kind, chooser, inputs, images, scoring, count, own_batch or BATCH)


def foresee_bits(asked: BitsRequest) -> Forecast:
    """Evaluations by stage, time here, and the size that would be left, by rounding to nearest where bits are not mixed."""
    states = LEVELS * EACH if asked.images is None else 0
    stages = {
        "states to calibrate on": states,
        "samples of both networks, and their clock": calls_of_evidence(
            asked.noises, asked.batch, None, own=asked.images is None
        ),
    }
    names = [] if isinstance(asked.rounding, Nearest) else [name_of("compress", asked.rounding)]
    names += [] if asked.size is None else ["the allocation of bits"]
    names += [] if asked.inputs is None else ["the grids of inputs"]
    whole = full_bits(asked.model)
    notes = (
        *not_counted(names),
        f"{'at most' if asked.size else 'about'} {size_left(asked) * whole / 8:,.0f} of {whole // 8:,} bytes would be left "
        f"({size_left(asked):.1%} of the network's tensors in float32)",
    )
    return timed(asked.model, asked.batch, stages, notes)


def size_left(asked: BitsRequest) -> float:
    """Share of the network's tensors in float32 that those in the file would take."""
    if asked.size is not None:
        return asked.size
    network = network_of(asked.model)
    sizes = {name: Codes.nearest(network.get_parameter(name), how).size for name, how in asked.formats.items()}
    return file_bits(network, sizes) / full_bits(asked.model)
