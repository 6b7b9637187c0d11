"""What a callable reaches: the modules, tensors and numbers that decide what it returns, and the hash of all these.

From a function: the cells of its closure, its defaults, and what its code names among the globals. From a bound method or an
object: its attributes, and its methods. From a `functools.partial`: what it was given. Likewise on from there.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEPTH = 16
# packages whose code holds no weights of a user's
LIBRARIES = {"torch", "numpy", "scipy", "diffusers", "transformers", "accelerate", "fewer"}
STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
REGISTRIES = ("_parameters", "_buffers", "_modules", "training")  # of an nn.Module, which its state_dict covers

NUMBERS = (bool, int, float, complex, np.number, np.bool_)
NO_NAMES: frozenset[str] = frozenset()


def modules_of(network: Any) -> list[nn.Module]:
    """The modules that a callable reaches, each once."""
    return [thing for thing in reached(network) if isinstance(thing, nn.Module)]


def hash_of_network(network: Any) -> str | None:
    """sha256 of the weights and numbers that a callable reaches; None where it reaches no weights.

    Weights are the state_dict of each module, with names, shapes and the modules' classes, and all other tensors and numpy
    arrays. Numbers count that no module holds; code and texts do not, since they differ where nothing that matters does.
    """
    digest, weights = hashlib.sha256(), False
    for thing in reached(network):
        if isinstance(thing, nn.Module):
            weights = _add_module(digest, thing) or weights
        elif isinstance(thing, Tensor):
            weights = _add_tensor(digest, thing) or weights
        elif isinstance(thing, np.ndarray):
            weights = _add_array(digest, thing) or weights
        else:
            number = int(thing) if isinstance(thing, int) else complex(thing)
            digest.update(f"number {number!r};".encode())
    return digest.hexdigest() if weights else None


def _add_module(digest: Any, module: nn.Module) -> bool:
    # a wrapper comes before what it wraps, whose name it then has
    kinds = {_unwrapped(f"{name}." if name else ""): type(each).__name__ for name, each in module.named_modules()}
    for name, kind in sorted(kinds.items()):
        digest.update(f"module {name} {kind};".encode())
    state, found = {_unwrapped(name): tensor for name, tensor in module.state_dict().items()}, False
    for name, tensor in sorted(state.items()):
        if isinstance(tensor, Tensor):
            digest.update(f"weight {name};".encode())
            found = _add_tensor(digest, tensor) or found
    return found


def _unwrapped(name: str) -> str:
    """A name as it is without torch.compile."""
    return name.replace("_orig_mod.", "")


def _add_tensor(digest: Any, tensor: Tensor) -> bool:
    """Whether it holds numbers: a tensor of the meta device has none."""
    if type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "__tensor_flatten__"):  # as quantised weights are
        inner, _ = tensor.__tensor_flatten__()
        return all(tuple(_add_tensor(digest, getattr(tensor, name)) for name in inner))  # each is added
    plain = tensor.detach()
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    digest.update(f"{plain.dtype} {tuple(plain.shape)};".encode())
    if plain.is_meta or not plain.numel():
        return False
    digest.update(plain.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy())
    return True


def _add_array(digest: Any, array: np.ndarray[Any, Any]) -> bool:
    if array.dtype.hasobject or not array.size:
        return False
    digest.update(f"{array.dtype} {array.shape};".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return True


def reached(thing: Any) -> Iterator[Any]:
    """The modules, tensors, numpy arrays and numbers that a thing reaches, in an order that its content decides, each once.

    Globals are followed from code of one package, that of the first function or class on the way.
    """
    return _Walk().visit(thing)


class _Walk:
    """A walk over objects, each visited once; `home` is the package whose code is read."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}  # the objects too, so that no other one gets the id of one that is gone
        self.home: str | None = None

    def visit(
        self, thing: Any, depth: int = 0, names: frozenset[str] = NO_NAMES, numbers: bool = True
    ) -> Iterator[Any]:
        """What is reached from a thing; `names` are those that the code which has it uses, `numbers` whether they count."""
        if isinstance(thing, NUMBERS):
            if numbers:
                yield thing
            return
        if depth > DEPTH or thing is None or isinstance(thing, str | bytes | ModuleType) or id(thing) in self.seen:
            return
        self.seen[id(thing)] = thing
        if isinstance(thing, Tensor | np.ndarray | nn.Module):
            yield thing
        parts, names = self._parts(thing, names)
        for each in parts:
            yield from self.visit(each, depth + 1, names, numbers and not isinstance(thing, nn.Module))

    def _parts(self, thing: Any, names: frozenset[str]) -> tuple[Iterable[Any], frozenset[str]]:
        """What a thing consists of, and the names in its own code."""
        match thing:
            case Tensor() | np.ndarray():
                return (), NO_NAMES
            case FunctionType():
                own = _names(thing.__code__)
                return chain(_given_to(thing), self._globals(thing, own)), own
            case type():
                return self._members(thing), NO_NAMES
            case _:
                return _parts(thing, names), NO_NAMES

    def _globals(self, function: FunctionType, names: frozenset[str]) -> Iterator[Any]:
        """Globals that the function's code names, and what it names of modules among them."""
        if not self._read(function):
            return
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            if not isinstance(value, ModuleType):
                yield value
            elif not _of_library(value.__name__):
                yield from (vars(value)[each] for each in sorted(names & vars(value).keys()))

    def _members(self, kind: type) -> Iterator[Any]:
        """Methods and attributes of a class; of special names, the methods alone."""
        if self._read(kind):
            for name, value in vars(kind).items():
                if isinstance(value, FunctionType) or not name.startswith("__"):
                    yield value

    def _read(self, code: FunctionType | type) -> bool:
        """Whether code is read: of no library, and of one package."""
        if _of_library(str(code.__module__)):
            return False
        package = _package(str(code.__module__))
        self.home = self.home or package
        return package == self.home


def _parts(thing: Any, names: frozenset[str]) -> Iterable[Any]:
    """What an object consists of, or is made from."""
    match thing:
        case MethodType():
            return thing.__self__, thing.__func__
        case functools.partial():
            return thing.func, thing.args, thing.keywords
        case BuiltinFunctionType():
            return (thing.__self__,)
        case weakref.ref():
            return (thing(),)
        case list() | tuple() | deque():
            return tuple(thing)
        case Mapping():
            return tuple(thing.values())
        case staticmethod() | classmethod():
            return (thing.__func__,)
        case property():
            return (thing.fget,)
        case nn.Module():
            return _unregistered(thing)
        case _:
            return *_attributes(thing, names).values(), *type(thing).__mro__


def _unregistered(module: nn.Module) -> Iterator[Any]:
    """Attributes that the state_dict does not know, and classes, of a module of the user's and of those inside of one."""
    for each in module.modules():
        if _of_library(type(each).__module__):
            continue
        for name, value in vars(each).items():
            if name not in REGISTRIES and "hook" not in name and not isinstance(value, NUMBERS):
                yield value
        yield from type(each).__mro__


def _given_to(function: FunctionType) -> Iterator[Any]:
    """What a function was given: the cells of its closure, its defaults and attributes."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # of a cell that is empty still
            yield cell.cell_contents
    yield from (function.__defaults__, function.__kwdefaults__, vars(function))


def _names(code: CodeType) -> frozenset[str]:
    """Names of globals and attributes in a function's code, and in the functions within."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)


def _attributes(thing: Any, names: frozenset[str]) -> dict[str, Any]:
    """An object's attributes by name, sorted: those alone that the code which has it names, where it names no method."""
    slots = {name for kind in type(thing).__mro__ for name in _slots(kind)}
    own = {name: getattr(thing, name) for name in slots if hasattr(thing, name)} | getattr(thing, "__dict__", {})
    methods = any(callable(getattr(type(thing), name, None)) for name in names)
    named = {name: value for name, value in own.items() if name in names}
    return dict(sorted((own if methods or not named else named).items()))


def _slots(kind: type) -> tuple[str, ...]:
    given = vars(kind).get("__slots__", ())
    return (given,) if isinstance(given, str) else tuple(given)


def _package(module: str) -> str:
    return module.partition(".")[0]


@functools.cache
def _of_library(module: str) -> bool:
    """Whether a module is of a library, or of Python: a file of the user's own may be called like one of Python's."""
    package = _package(module)
    if package not in sys.stdlib_module_names:
        return package in LIBRARIES
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return True
    folders = Path(file).resolve().parents
    return "site-packages" not in Path(file).parts and any(folder in folders for folder in STANDARD)
