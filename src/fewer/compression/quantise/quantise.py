"""`quantised`: a model whose network has fewer bits for its weights, and for what its layers are given where asked."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from fewer.blocks.find import network_of
from fewer.compression.asked import ForSomeFormats, resolve_as
from fewer.compression.folder import light_folder
from fewer.compression.quantise import Task
from fewer.compression.quantise.inputs import Per as InputPer
from fewer.compression.quantise.inputs import calibrated
from fewer.compression.quantise.states import EACH, LEVELS, States, states_of
from fewer.compression.subject import check_called, with_network
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.pipelines.network_files import WEIGHTS, network_folder
from fewer.models.quantised import file
from fewer.models.quantised.grid import Format, Kind, Per
from fewer.models.quantised.network import Quantised, file_bits, layers_of
from fewer.models.reach import hash_of_network
from fewer.registry import guarded, name_of

NOTHING: Mapping[str, Any] = MappingProxyType({})
FULL = 32  # bits of a weight of the network as it is loaded


@dataclass(frozen=True, eq=False)
class QuantisedModel:
    """A quantised model with its codes.

    model      plays plans as the model that it was made of does; its weights are the values of the codes in the model's dtype
    quantised  the codes, and the grids of inputs
    full       bits of all tensors of the network that it was made of, in float32
    """

    model: Model
    quantised: Quantised
    full: int

    @property
    def bits(self) -> int:
        """Of all tensors of the network in its file, codes, scales and zeros included, without the file's header."""
        return file_bits(network_of(self.model), self.quantised.sizes)

    @property
    def share(self) -> float:
        """Size of the network's tensors in its file, of that in float32."""
        return self.bits / self.full

    def save(
        self, out: Path, source: Path, facts: Mapping[str, Any] = NOTHING, files: Mapping[str, Any] = NOTHING,
        force: bool = False,
    ) -> Path:  # fmt: skip
        """Write the folder of the model, made from the folder `source`, with quantised weights; whole or not at all.

        facts  further keys of its fewer.json
        files  further JSON files by their names
        force  though `out` has others' files

        `fewer.load(out)` reads it. Raises InputError where `out` has a stranger's files, is `source`, or cannot be written.
        """
        part = network_folder(source)
        with light_folder(source, out, facts, files, force) as light:
            for path in part.glob("*.json"):
                if not path.name.startswith(WEIGHTS):
                    shutil.copyfile(path, light / path.name)
            file.write(light / file.NAME, network_of(self.model), self.quantised)
        return out


def full_bits(model: Model) -> int:
    """Bits of all tensors of a model's network in float32, shared ones counted once."""
    tensors = {id(t): t for t in network_of(model).state_dict(keep_vars=True).values()}
    return FULL * sum(t.numel() for t in tensors.values())


def quantised(
    model: Model, bits: int | Mapping[str, int] | Literal["mixed"] = 8, *, size: float | None = None,
    kind: Kind = "symmetric", per: Per = "channel", group: int | None = None, rounding: Any = "nearest",
    allocation: Any = "hawq-v2", inputs: int | None = None, inputs_per: InputPer = "tensor",
    skip: Sequence[str] = (), data: Tensor | None = None, labels: Any = None, states: States | None = None, seed: int = 0,
) -> QuantisedModel:  # fmt: skip
    """The model with fewer bits.

    bits      of every weight of linear layers and convolutions; or of each by the beginning of its name, "" for all others; or
              "mixed": as `allocation` chooses within `size`
    size      with "mixed": of the network's tensors in its file, as a share in (0, 1) of that in float32, scales included
    kind, per, group   of the weights' grids (`fewer.models.quantised.grid.Format`)
    rounding  a rounding of room `compress`, or an object of one's own
    inputs    bits of what those layers are given; None leaves it. `inputs_per` "tensor": a fixed grid of each layer, calibrated on
              all noise levels; "token": found at each call
    skip      beginnings of names of weights that stay as they are
    data, labels  images (n, *shape) to calibrate on with their labels; by default the model's own samples are taken
    states    in place of both

    Raises InputError for bits, sizes and names that there are not, data of another shape, and a network that is no module or
    has no such layer.
    """
    formats, budget = formats_of(model, bits, size, Format(8, kind, per, group), skip)
    chooser, spread = resolve_as(rounding, "rounding"), resolve_as(allocation, "bit allocation")
    check_formats(chooser, formats)
    given = states or states_of(model, LEVELS, EACH, seed, data, labels)
    images = data if states is None else None
    task = Task(model, formats, given, seed, images, labels if images is not None else None)
    with torch.inference_mode(False), torch.enable_grad():  # whatever is on around
        if budget is not None:
            with guarded("compress", allocation):
                task = replace(task, formats=spread.formats(task, budget))
        with guarded("compress", rounding):
            found: Quantised = chooser.rounded(task)
    lighter = made(model, found)
    if size is not None and file_bits(network_of(lighter), found.sizes) > size * full_bits(model):
        raise InputError(
            f"{name_of('compress', chooser)} stores more than its formats say, which a size does not allow: give bits alone"
        )
    if inputs is not None:
        layers = [layer for name, layer in task.layers.items() if name in found.weights]
        own = calibrated(lighter, given, layers, inputs, inputs_per)
        found = replace(found, inputs=own)
        lighter = made(model, found)
    return QuantisedModel(lighter, found, full_bits(model))


def formats_of(
    model: Model, bits: int | Mapping[str, int] | str, size: float | None, how: Format, skip: Sequence[str] = ()
) -> tuple[dict[str, Format], int | None]:
    """The format of each weight, and of "mixed" bits how many their codes may take together. Raises InputError as `quantised`."""
    formats = _formats(model, bits, skip, how)
    check_called(model)
    if (bits == "mixed") != (size is not None):
        raise InputError(
            f"bits are {bits!r:.80} and size is {size}; expected a size with 'mixed' bits, and with those alone"
        )
    return formats, None if size is None else code_budget(model, formats, size)


def check_formats(rounding: object, formats: Mapping[str, Format]) -> None:
    """Raise InputError for formats that a rounding does not make."""
    if isinstance(rounding, ForSomeFormats):
        rounding.check_formats(formats)


def made(model: Model, found: Quantised) -> Model:
    """The model with these weights and inputs: a copy, with a hash of its own."""
    network = network_of(model)
    lighter = with_network(model, found.network(network))
    weights = hash_of_network(lighter.network)
    facts = json.dumps({name: vars(grid) for name, grid in found.inputs.items()}, sort_keys=True)
    digest = hashlib.sha256(f"quantised {weights} {facts}".encode()).hexdigest()
    return replace(lighter, hash=digest, known_as=tuple, loaded=None)


def code_budget(model: Model, formats: Mapping[str, Format], size: float) -> int:
    """Bits for the codes of the weights that have formats where all tensors may take a share `size` of their float32 size.

    Raises InputError for a share outside of (0, 1), and one that the tensors which are not quantised exceed.
    """
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < 1:
        raise InputError(f"size is {size!r:.80}; expected a share between 0 and 1")
    others, full = file_bits(network_of(model), dict.fromkeys(formats, 0)), full_bits(model)
    if others >= size * full:
        raise InputError(f"size is {size}; what is not quantised takes {others / full:.4f} of the network already")
    return int(size * full) - others


def _formats(
    model: Model, bits: int | Mapping[str, int] | str, skip: Sequence[str], how: Format
) -> dict[str, Format]:  # fmt: skip
    """The format of each weight."""
    names = [name for name in layers_of(network_of(model)) if not any(_begins(name, each) for each in skip)]
    for each in (*skip, *(bits if isinstance(bits, Mapping) else ())):
        if not any(_begins(name, each) for name in layers_of(network_of(model))):
            raise InputError(f"{model.name} has no weight whose name begins with {each!r:.80}")
    if not names:
        raise InputError(f"{model.name} has no linear layer and no convolution to quantise")
    if isinstance(bits, str) and bits != "mixed":
        raise InputError(f"bits are {bits!r:.80}; expected 1 .. 8, 'mixed', or bits by names")
    if not isinstance(bits, Mapping):
        return dict.fromkeys(names, how if isinstance(bits, str) else replace(how, bits=bits))
    longest = {name: max((each for each in bits if _begins(name, each)), key=len, default=None) for name in names}
    return {name: replace(how, bits=bits[each]) for name, each in longest.items() if each is not None}


def _begins(name: str, start: str) -> bool:
    """Whether a dotted name begins with these words."""
    return not start or f"{name}.".startswith(f"{start}.")
