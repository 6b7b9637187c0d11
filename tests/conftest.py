"""Tests use no network: the hub's client is told so before anything reads it. And what tests of searches share."""

# fewer and torch are imported where they are used: the process that hands out the tests needs neither
from __future__ import annotations

import gc
import logging
import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from searches import Searches

os.environ["HF_HUB_OFFLINE"] = "1"


settings.register_profile("quick", max_examples=40)


def pytest_configure(config: pytest.Config) -> None:
    """Where slow tests are left out, tests that do not say how many examples they draw have 40 in place of 100."""
    if config.getoption("markexpr") == "not slow":
        settings.load_profile("quick")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What imports and collection make stays to the end: the garbage collector is kept from looking through it again and again.

    Later it looks after every 20,000 new objects in place of 700: tests make many that live for milliseconds.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()


@pytest.fixture
def few_standards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches rank few standard plans."""
    from few_standards import keep_few

    keep_few(monkeypatch.setattr)


@pytest.fixture(scope="module")
def short_evidence() -> Iterator[None]:
    """Lighter networks are judged by plans of 4 calls in place of 10."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewer.compression.evidence.CALLS", 4)
        yield


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What fewer logs meanwhile: pytest's own fixture, which listens to every logger in every test, is off."""
    listener, logger = _Listener(), logging.getLogger("fewer")
    logger.addHandler(listener)
    yield listener.messages
    logger.removeHandler(listener)


@pytest.fixture(scope="session")
def searches() -> Iterator[Searches]:
    """A process whose children run commands, begun once."""
    from searches import Searches

    made = Searches()
    yield made
    made.close()
