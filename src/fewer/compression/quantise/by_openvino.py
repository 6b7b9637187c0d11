"""A model on OpenVINO's runtime for CPUs, in float32 or, quantised by NNCF, in int8. Needs the extra `openvino`."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fewer.blocks.find import network_of
from fewer.compression.quantise.states import States
from fewer.errors import InputError
from fewer.models.model import Model

ATTENTION = ("Attention", "MultiheadAttention")
PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
PACKAGES = ("openvino", "nncf")


@dataclass(eq=False)
class OpenVINONetwork:
    """A network (x, t, labels) -> output that a graph of OpenVINO computes, compiled anew for each size of a batch.

    threads  of the runtime; it is given as many as torch has at the first call of a size
    """

    graph: Any
    core: Any
    compiled: dict[tuple[int, int], Any] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Output (n, ..) float32."""
        given = [x, t.expand(len(x)), *([] if labels is None else [labels])]
        request = self._for(len(x))
        arrays = [each.detach().cpu().contiguous().numpy() for each in given]
        return torch.from_numpy(request(arrays)[0].copy())

    def _for(self, n: int) -> Any:
        key = (n, torch.get_num_threads())
        if key not in self.compiled:
            graph = self.graph.clone()
            graph.reshape({port: [n, *_sizes(port)[1:]] for port in graph.inputs})
            settings = {
                "INFERENCE_NUM_THREADS": key[1], "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
            }  # fmt: skip
            self.compiled[key] = self.core.compile_model(graph, "CPU", settings)
        return self.compiled[key]


class _Called(nn.Module):
    """The model's network as a module with positional tensors."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.inner, self.call = network_of(model), model.network

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.call(x, t, labels)


def packages() -> tuple[Any, Any]:
    """openvino and nncf. Raises InputError, which names the extra, where one is missing or does not load."""
    try:
        import nncf
        import openvino
    except Exception as error:  # a library of theirs that does not fit this machine is an OSError, and there are others
        raise InputError(
            f"{' and '.join(PACKAGES)} are needed (pip install 'fewer[openvino]'), and: {type(error).__name__}: {error}"
        ) from error
    return openvino, nncf


def on_openvino(model: Model, states: States, int8: bool = False) -> Model:
    """The model with its network computed by OpenVINO on the CPU; with `int8`, weights and inputs of layers are int8.

    states  that NNCF sees ranges on, and of which the first shows how the network is called
    int8    NNCF's quantize: symmetric weights per channel, asymmetric inputs per tensor, with bias correction, and smoothing for
            networks with attention. The layer that is given the state keeps its input (see `fewer.compression.quantise.inputs`)

    Raises InputError where the extra is missing, and for a network that is no module, is on no CPU, or cannot be traced.
    """
    openvino, nncf = packages()
    if model.device.type != "cpu":
        raise InputError(f"{model.name} is on {model.device}; OpenVINO's runtime here takes the CPU")
    examples = list(_given(model, states))
    sizes = [[-1, *each.shape[1:]] for each in examples[0]]
    try:
        with quietly():
            graph = openvino.convert_model(_Called(model).eval(), example_input=examples[0], input=sizes)
    except Exception as error:  # torch's tracer and the converter raise many types
        raise InputError(
            f"OpenVINO cannot read the network of {model.name}: {type(error).__name__}: {error}"
        ) from error
    if int8:
        graph = _int8(nncf, graph, model, [[each.numpy() for each in some] for some in examples])
    digest = hashlib.sha256(f"openvino {int8} {model.hash}".encode()).hexdigest()
    network = OpenVINONetwork(graph, openvino.Core())
    return replace(model, network=network, hash=digest, known_as=tuple, loaded=None, dtype=torch.float32)


def _given(model: Model, states: States) -> Iterator[tuple[Tensor, ...]]:
    """What the network is given at each level."""
    for tau, x in zip(states.tau, states.x, strict=True):
        c_in, _, _ = model.affine(tau)
        t = torch.full((len(x),), float(model.schedule.time(tau)), dtype=torch.float32)
        yield (float(c_in) * x, t, *([] if states.labels is None else [states.labels]))


def _int8(nncf: Any, graph: Any, model: Model, examples: list[Any]) -> Any:
    attention = any(type(each).__name__ in ATTENTION for each in network_of(model).modules())
    kind = nncf.ModelType.TRANSFORMER if attention else None
    first = nncf.IgnoredScope(names=_reading(graph.inputs[0].get_node()))
    nncf.set_log_level(40)  # errors alone
    with quietly():
        return nncf.quantize(
            graph, nncf.Dataset(examples), preset=nncf.QuantizationPreset.MIXED, subset_size=len(examples),
            model_type=kind, ignored_scope=first,
        )  # fmt: skip


@contextmanager
def quietly() -> Iterator[None]:
    """Meanwhile no warnings of torch's tracer, and no bars of NNCF's on stdout."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _reading(parameter: Any) -> list[str]:
    """Names of the products that an input of the graph comes to first."""
    found, left, seen = [], [parameter], set()
    while left:
        node = left.pop()
        for port in node.outputs():
            for target in port.get_target_inputs():
                after = target.get_node()
                name = after.get_friendly_name()
                if name in seen:
                    continue
                seen.add(name)
                if after.get_type_name() in PRODUCTS:
                    found.append(name)
                else:
                    left.append(after)
    return found


def _sizes(port: Any) -> list[int]:
    """Sizes of a graph's input, of which the first may be open."""
    return [dimension.get_length() if dimension.is_static else -1 for dimension in port.get_partial_shape()]
