"""The engine: a plan is bound to a model, and played."""

from fewer.engine.bind import Step, bind
from fewer.engine.play import Callback, Draws, History, advance, begin, begun, output, play
from fewer.engine.sample import MICRO_BATCH, check_fit, sample
from fewer.engine.times import times

__all__ = [
    "MICRO_BATCH",
    "Callback",
    "Draws",
    "History",
    "Step",
    "advance",
    "begin",
    "begun",
    "bind",
    "check_fit",
    "output",
    "play",
    "sample",
    "times",
]
