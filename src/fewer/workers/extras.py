"""The packages of clusters, which are extras of fewer."""

from __future__ import annotations

from importlib.util import find_spec

from fewer.errors import InputError

MODULES = {"dask": "distributed", "ray": "ray"}  # by the first word of an address


def check_installed(address: str) -> None:
    """Raise InputError where the package of the cluster at an address is not installed."""
    if find_spec(MODULES[_kind(address)]) is None:
        raise missing(address)


def missing(address: str) -> InputError:
    """The error that says what to install for the cluster at an address."""
    kind = _kind(address)
    return InputError(f"workers at {address} need {kind.title()}: pip install 'fewer[{kind}]'")


def _kind(address: str) -> str:
    return address.partition(":")[0]
