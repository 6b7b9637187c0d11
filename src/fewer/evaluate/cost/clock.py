"""Multiply-accumulates, peak memory and time of a call."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from time import perf_counter

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler import profile
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewer.blocks.flops import FlopCounter
from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval

LEAST = 6  # of fewer values not even the smallest and largest bracket the median with 95 % confidence

Side = Callable[[], object]
Timer = Callable[[], float]


def macs(fn: Side) -> int:
    """Multiply-accumulates of one call of fn in matrix products and convolutions: half of torch's flop count.

    Elementwise work is not counted. Attention is run by its plain formula meanwhile, since the fused kernel of the CPU
    is not counted by torch's counter.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounter() as counter:
        fn()
    return int(counter.get_total_flops() // 2)


def peak_memory(fn: Side, device: torch.device | str = "cpu") -> int:
    """Bytes: the most that one call of fn holds at a time on `device`, above what was held before the call.

        max_t (held(t) - held(before)), at least 0

    What fn returns counts, and so does scratch memory inside of torch's operators; what libraries below torch take for
    themselves (oneDNN's and cuBLAS' own buffers) does not. On the CPU every allocation and release of torch's CPU
    allocator is recorded by its profiler, of all threads; memory that was made before the call and is released by fn
    is not taken off. On CUDA it is torch's own count of tensors' bytes (max_memory_allocated), whose peak is reset.
    Call fn once before where it loads or compiles at first use. Raises InputError for a device of another kind, or one
    that is not there.
    """
    where = torch.device(device)
    if where.type == "cuda" and torch.cuda.is_available():
        torch.cuda.synchronize(where)
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
        fn()
        torch.cuda.synchronize(where)
        return torch.cuda.max_memory_allocated(where) - before
    if where.type != "cpu":
        raise InputError(f"device is {str(device)!r}; expected cpu, or cuda where torch finds one")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler else writes lines of its own to stderr
    with profile(profile_memory=True) as seen:
        fn()
    changes = [e for e in seen.kineto_results.events() if e.name() == "[memory]" and e.device_type() == DeviceType.CPU]
    changes.sort(key=lambda event: event.start_ns())
    return int(max(accumulate((event.nbytes() for event in changes), initial=0)))


def clock(
    sides: Mapping[str, Side],
    repeats: int = 30,
    warmup: int = 3,
    threads: int | None = None,
    timer: Timer | None = None,
) -> dict[str, Interval]:
    """Seconds that one call of each side takes: the median of `repeats` rounds, with a 95 % interval.

    A round calls every side once, in an order shuffled anew, so that drift and neighbours touch all alike. `warmup`
    rounds come first and do not count. `threads` sets torch's number of CPU threads meanwhile. A CUDA device in use is
    synchronised before each reading; `timer` is as `rounds` has it. The interval needs no assumption on the times' distribution
    (order statistics).
    Raises InputError for no sides, fewer than 6 repeats or a negative warmup.
    """
    return {name: median(seconds) for name, seconds in rounds(sides, repeats, warmup, threads, timer).items()}


def clock_ratio(a: Side, b: Side, repeats: int = 30, warmup: int = 3, threads: int | None = None) -> Interval:
    """Time of a over time of b: the median of the rounds' ratios, with a 95 % interval; below 1 where a is faster.

    Both are called in every round (see `clock`), so what slows the machine for longer than a round cancels.
    """
    seconds = rounds({"a": a, "b": b}, repeats, warmup, threads)
    return median([of_a / of_b for of_a, of_b in zip(seconds["a"], seconds["b"], strict=True)])


def rounds(
    sides: Mapping[str, Side],
    repeats: int = 30,
    warmup: int = 3,
    threads: int | None = None,
    timer: Timer | None = None,
) -> dict[str, list[float]]:
    """Side -> its seconds in each round, of which `clock` takes the median: for ratios of sides of the same round.

    timer  gives seconds, by default the clock's: `time.process_time` those that this process computes in all of its threads

    Raises as `clock` does.
    """
    if not sides:
        raise InputError("sides must name at least one callable, got none")
    if repeats < LEAST:
        raise InputError(f"repeats must be at least {LEAST} for a 95 % interval of a median, got {repeats}")
    if warmup < 0:
        raise InputError(f"warmup must be at least 0, got {warmup}")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order, shuffler = list(sides), random.Random(0)
    with cpu_threads(threads):
        for number in range(warmup + repeats):
            shuffler.shuffle(order)
            for name in order:
                elapsed = _seconds(sides[name], timer or perf_counter)
                if number >= warmup:
                    seconds[name].append(elapsed)
    return seconds


def _seconds(side: Side, timer: Timer) -> float:
    _synchronise()
    start = timer()
    side()
    _synchronise()
    return timer() - start


def _synchronise() -> None:
    """Wait for all CUDA devices, where this process has used any."""
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """Torch's number of CPU threads meanwhile; None leaves it."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def median(values: Sequence[float]) -> Interval:
    """The median and a 95 % interval, of at least 6 independent values.

    Its ends are the order statistics x_(k), x_(n+1-k) with P(Binomial(n, 1/2) < k) <= 2.5 %, k the largest such.
    Raises InputError for fewer values.
    """
    n, ordered = len(values), sorted(values)
    if n < LEAST:
        raise InputError(f"values must be at least {LEAST} for a 95 % interval of a median, got {n}")
    at_most = accumulate(math.comb(n, i) for i in range(n))  # 2^n P(Binomial(n, 1/2) <= i)
    k = next(i for i, ways in enumerate(at_most) if 40 * ways >= 2**n)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return Interval(middle, ordered[k - 1], ordered[n - k], n)
