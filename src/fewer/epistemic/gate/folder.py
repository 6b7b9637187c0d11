"""A gate's folder: gate.json, and the two plans as files of their own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from fewer.epistemic.gate.gate import MOST, Gate, Origin, Pairs
from fewer.epistemic.gate.promise import Promise
from fewer.errors import InputError
from fewer.files import Record, json_text, read_as, write_atomically
from fewer.plan import Plan
from fewer.registry import name_of

SCHEMA = 1
FILE, CHEAP, DEAR = "gate.json", "cheap.json", "dear.json"
NAMES = (FILE, CHEAP, DEAR, "cheap.safetensors", "dear.safetensors")
LARGEST = 2**28  # bytes of gate.json

Number = Annotated[float, Field(allow_inf_nan=False)]
Features = Annotated[tuple[Number, ...], Field(min_length=1, max_length=20_000)]


class Known(Record):
    """`Pairs`."""

    features: Annotated[tuple[Features, ...], Field(min_length=1, max_length=MOST)]
    errors: Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=1, max_length=MOST)]

    @classmethod
    def of(cls, pairs: Pairs) -> Known:
        """Of pairs. Raises InputError for more than a file holds."""
        if len(pairs) > MOST:
            raise InputError(f"a gate's file holds at most {MOST:,} samples of each kind; these are {len(pairs):,}")
        return cls(features=tuple(map(tuple, pairs.features.tolist())), errors=tuple(pairs.errors.tolist()))

    def pairs(self, path: Path, rows: int) -> Pairs:
        """The pairs. Raises InputError where they are of no plan of so many rows."""
        if {len(each) for each in self.features} != {2 * rows - 3} or len(self.features) != len(self.errors):
            raise InputError(f"{path} holds features of another plan than {CHEAP}, or not as many as errors")
        return Pairs(torch.tensor(self.features, dtype=torch.float64), torch.tensor(self.errors, dtype=torch.float64))


class Named(Record):
    """`Origin`."""

    name: Annotated[str, Field(max_length=500)]
    hash: Annotated[str, Field(max_length=500)]
    guidance: float | None
    conditions: Annotated[str, Field(max_length=500)]


class Content(Record):
    """gate.json."""

    gate: Annotated[int, Field(ge=1, le=SCHEMA)]
    error: float
    share: float
    confidence: float
    among: Annotated[int, Field(ge=1)]
    predictor: Annotated[str, Field(max_length=200)]
    of: Named
    label: int | None
    learnt: Known
    held_out: Known


def save(gate: Gate, folder: str | Path) -> Path:
    """Write the gate's files into a folder. Raises InputError, and writes nothing, for predictors that are no registered parts,
    which no file names, and for more samples than a file holds.
    """
    folder = Path(folder)
    name = name_of("uncertainty", gate.predictor)
    if not isinstance(gate.predictor, str):
        raise InputError(f"predictor {name} has settings of its own: give a registered one's name to save the gate")
    promise = gate.promise
    content = Content(
        gate=SCHEMA, error=promise.error, share=promise.share, confidence=promise.confidence,
        among=promise.among, predictor=name,
        of=Named(**asdict(gate.of)), label=gate.label, learnt=Known.of(gate.learnt), held_out=Known.of(gate.held_out),
    )  # fmt: skip
    written = json_text(content.to_dict()).encode()
    if len(written) > LARGEST:
        raise InputError(
            f"{FILE} would be {len(written) >> 20} MiB, and at most {LARGEST >> 20} are read: take fewer noises"
        )
    gate.cheap.save(folder / CHEAP)
    gate.dear.save(folder / DEAR)
    write_atomically(folder / FILE, written)
    return folder / FILE


def load(folder: str | Path) -> Gate:
    """The gate of a folder. Raises InputError that says what is wrong with it; never runs code of a file."""
    folder = Path(folder)
    path = folder / FILE
    content = read_as(Content, path, "gate", LARGEST)
    cheap, dear = Plan.load(folder / CHEAP), Plan.load(folder / DEAR)
    return Gate(
        cheap, dear, Promise(content.error, content.share, content.confidence, content.among),
        content.learnt.pairs(path, len(cheap.rows)), content.held_out.pairs(path, len(cheap.rows)),
        content.predictor, content.label, of=Origin(**dict(content.of)),
    )  # fmt: skip
