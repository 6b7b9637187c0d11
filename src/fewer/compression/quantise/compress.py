"""`fewer compress --bits`: a quantised network of a model with its evidence, written as a folder that `fewer.load` reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fewer.compression.evidence import Evidence, evidence_of
from fewer.compression.folder import EVIDENCE, source_of
from fewer.compression.quantise.quantise import QuantisedModel, full_bits, quantised
from fewer.compression.quantise.request import requested_bits
from fewer.compression.request import NOISES
from fewer.errors import InputError
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.registry import name_of
from fewer.versions import versions


@dataclass(frozen=True)
class FewerBits:
    """A quantised model with what was done for it: the evidence, whose bytes are those of both networks' tensors in files."""

    made: QuantisedModel
    of: Model
    evidence: Evidence
    choice: dict[str, Any]

    @property
    def model(self) -> Model:
        """The quantised model."""
        return self.made.model

    @property
    def lines(self) -> list[str]:
        """What came of it, in words."""
        bits = self.bits
        spread = ", ".join(f"{list(bits.values()).count(b)} weights of {b:g} bits" for b in sorted(set(bits.values())))
        size = f"size of the network's tensors in its file: {self.made.share:.4f} of that in float32 ({spread})"
        slower = self.evidence.time.low > 1
        clock = (
            ["the quantised network is slower than the full one here: its weights become float32 again"]
            if slower
            else []
        )
        return [size, *self.evidence.lines, *clock]

    @property
    def bits(self) -> dict[str, float]:
        """Weight -> its bits, the mean over groups where those differ."""
        return {name: sum(each.grid.bits) / len(each.grid.bits) for name, each in self.made.quantised.weights.items()}

    def to_dict(self) -> dict[str, Any]:
        """For evidence.json."""
        return {
            "model": self.of.name, "choice": self.choice, "size": {"bits": self.made.bits, "share": self.made.share},
            "bits": self.bits, **self.evidence.to_dict(), "versions": versions(),
        }  # fmt: skip

    @property
    def reads(self) -> str:
        """Who reads its folder."""
        return "fewer reads it"

    def save(self, folder: str | Path, force: bool = False) -> Path:
        """Write it as a folder that `fewer.load` reads, whole or not at all; `force`: though it has others' files."""
        more = {EVIDENCE: self.to_dict()}
        return self.made.save(Path(folder), source_of(self.of), {"compressed": self.choice}, more, force)


@in_own_precision
def compress_bits(
    model: Model | str | Path, bits: Any = 8, size: float | None = None, *, rounding: Any = "nearest", inputs: int | None = None,
    group: int | None = None, data: Tensor | str | Path | None = None, features: Any = None, noises: int = NOISES,
    batch: int | None = None, seed: int = 0, progress: Callable[[str, int, int], object] | None = None,
) -> FewerBits:  # fmt: skip
    """A model with fewer bits for its weights, and for what its layers are given where asked, with its evidence.

    bits      8 or any of 1 .. 8, or "mixed": of each weight as many as serve the loss best within `size`
    size      with "mixed": share in (0, 1) that the network's tensors may take in their file, of that in float32
    rounding  how codes are chosen (`fewer methods --room compress`)
    inputs    bits of what layers are given
    group     columns of a weight that share a scale, on asymmetric grids; None: one scale a channel, symmetric; a rounding that is
              for grids of another kind says so in its `kind`, which is taken
    data, features, noises, batch, seed   as of `fewer.compress`

    The given model is not changed. Raises InputError as `quantised` does.
    """
    asked = requested_bits(
        model, bits, size, rounding=rounding, inputs=inputs, group=group, data=data, features=features, noises=noises,
        batch=batch,
    )  # fmt: skip
    full, chooser = asked.model, asked.rounding
    report = progress or (lambda stage, done, total: None)
    report("calibration states", 0, 1)
    made = quantised(
        full, bits, size=size, kind=asked.kind, group=group, rounding=chooser, inputs=inputs, data=asked.images, seed=seed,
    )  # fmt: skip
    report("samples of both networks", 0, 1)
    evidence = evidence_of(full, made.model, asked.scoring, asked.noises, asked.batch, seed)
    evidence = replace(evidence, bytes=(full_bits(full) // 8, made.bits // 8))
    choice = {
        "bits": bits, "size": size, "rounding": name_of("compress", chooser), "inputs": inputs, "group": group,
        "kind": asked.kind, "data": "the data given" if asked.images is not None else "samples of the model", "seed": seed,
    }  # fmt: skip
    return FewerBits(made, full, evidence, choice)


def read_bits(given: str) -> int | str:
    """What --bits says. Raises InputError for anything but 1 .. 8 and mixed."""
    if given == "mixed":
        return given
    if given.isdecimal() and len(given) == 1 and 1 <= int(given) <= 8:
        return int(given)
    raise InputError(f"--bits is {given!r:.80}; expected 1 .. 8 or mixed")
