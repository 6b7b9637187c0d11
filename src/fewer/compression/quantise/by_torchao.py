"""A model whose linear layers torchao computes from int8 weights, by its own kernels. Needs the extra `torchao`.

torchao's names move from version to version: what is asked for is looked up, and where it is not there, the error says which
version was found and what that has.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from importlib import metadata
from typing import Any, Literal

from torch import nn

from fewer.blocks.find import network_of
from fewer.compression.subject import with_network
from fewer.errors import InputError, first_line
from fewer.models.model import Model

Inputs = Literal["float", "int8"]
NAMES: dict[str, tuple[str, ...]] = {  # newest first: settings' classes, then the functions of versions before 0.10
    "float": ("Int8WeightOnlyConfig", "int8_weight_only"),
    "int8": ("Int8DynamicActivationInt8WeightConfig", "int8_dynamic_activation_int8_weight"),
}


def on_torchao(model: Model, inputs: Inputs = "float") -> Model:
    """A copy of the model with int8 weights in its linear layers; other layers stay as they are.

    inputs  "float": weights alone are int8; "int8": inputs too, with a scale for each token, found at each call

    Raises InputError where the extra is missing, or has neither name, for a network that is no module or has no linear layer, and
    where torchao refuses the network.
    """
    if inputs not in NAMES:
        raise InputError(f"inputs are {inputs!r:.80}; expected one of {', '.join(NAMES)}")
    network = copy.deepcopy(network_of(model))
    if not any(isinstance(each, nn.Linear) for each in network.modules()):
        raise InputError(f"{model.name} has no linear layer, and torchao quantises no other")
    quantise, settings = _found(inputs)
    try:
        quantise(network, settings())
    except Exception as error:  # torchao raises many types for layers and machines that it does not take
        raise InputError(f"torchao {version()} cannot quantise {model.name}: {first_line(error)}") from error
    digest = hashlib.sha256(f"torchao {version()} {inputs} {model.hash}".encode()).hexdigest()
    return replace(with_network(model, network), hash=digest, known_as=tuple, loaded=None)


def version() -> str:
    """Of the torchao that is installed."""
    return metadata.version("torchao")


def _found(inputs: Inputs) -> tuple[Any, Any]:
    """torchao's function `quantize_`, and its settings for int8."""
    try:
        from torchao import quantization
    except Exception as error:  # its libraries may not fit this torch, which is an OSError and others
        raise InputError(f"torchao is needed (pip install 'fewer[torchao]'), and: {first_line(error)}") from error
    for name in NAMES[inputs]:
        if hasattr(quantization, "quantize_") and hasattr(quantization, name):
            return quantization.quantize_, getattr(quantization, name)
    there = ", ".join(name for name in dir(quantization) if "int8" in name.lower())
    raise InputError(f"torchao {version()} has none of {', '.join(NAMES[inputs])}; it has {there or 'no int8'}")
