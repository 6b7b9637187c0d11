"""The worker's end: bytes of a request in, bytes of an answer out. Any executor can run it, since it needs nothing else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from fewer.errors import ForeignError, InputError, NotFinite, first_line, out_of_memory, reason
from fewer.models.model import Model
from fewer.workers.message import header, packed, unpacked
from fewer.workers.reference import Reference, numerics, set_numerics, versions

ERRORS = {
    "input": InputError,
    "not finite": NotFinite,
    "foreign": ForeignError,
    "memory": MemoryError,
    "fault": RuntimeError,
}
_one = threading.Lock()  # a model is played by one thread at a time


def request(reference: str, play: Any) -> bytes:
    """The message that asks for a play of the model of a reference; without one, that the model be loaded."""
    return packed({"versions": versions(), "numerics": numerics(), "model": reference, "play": play})


def answer(message: bytes) -> bytes:
    """Play what a request asks for, of a model that is loaded at the first request; errors are part of the answer."""
    try:
        with _one:
            return packed(_made(message))
    except Exception as error:  # whatever it is, the search has to hear of it
        return packed({"error": _kind(error), "said": _said(error)})


def result(message: bytes, device: torch.device | str = "cpu") -> Any:
    """What an answer holds, on a device; raises the error that it tells of."""
    found = unpacked(message, device)
    if isinstance(found, Mapping):
        raise ERRORS[found["error"]](found["said"])
    return found


def _made(message: bytes) -> Any:
    asked = {
        key: value for key, value in json.loads(header(message))["dict"] if key in ("versions", "numerics", "model")
    }
    _check_versions(dict(asked["versions"]["dict"]))
    model = _model(asked["model"])
    set_numerics(dict(asked["numerics"]["dict"]))
    play = unpacked(message, model.device)["play"]
    return () if play is None else play.made(model)


def _check_versions(asked: dict[str, str]) -> None:
    """Raise InputError where this worker's packages would compute something else than the search's."""
    for name, version in versions().items():
        if asked.get(name) != version:
            raise InputError(f"worker on {socket.gethostname()} has {name} {version}, the search has {asked.get(name)}")


@lru_cache(maxsize=2)
def _model(reference: str) -> Model:
    try:
        return Reference.read(json.loads(reference)).load()
    except InputError as error:
        raise InputError(f"worker on {socket.gethostname()}: {error}") from error


def _kind(error: Exception) -> str:
    if out_of_memory(error):
        return "memory"
    kinds = ("not finite", "input", "foreign")
    return next((kind for kind in kinds if isinstance(error, ERRORS[kind])), "fault")


def _said(error: Exception) -> str:
    """The error's line; of too little memory the words by which it is known as such."""
    if isinstance(error, InputError | ForeignError):
        return str(error)
    return f"out of memory: {first_line(error)}" if out_of_memory(error) else f"a worker raised {reason(error)}"
