"""Tests use no network: the hub's client is told so before anything reads it. And what tests of searches share."""

import gc
import logging
import os
from collections.abc import Generator, Iterator

import pytest
from few_standards import keep_few
from searches import Searches

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What imports and collection make stays to the end: the garbage collector is kept from looking through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def few_standards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches rank few standard plans."""
    keep_few(monkeypatch.setattr)


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
    made = Searches()
    yield made
    made.close()
