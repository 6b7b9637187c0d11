"""What is wrong with a list of sigmas, before any network plays it: one function a fault, from the list to the fault or None."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewer.audit.case import Fault
from fewer.audit.faults import FAINT
from fewer.audit.shifts import shift, times_shifted
from fewer.errors import InputError
from fewer.levels import log_s
from fewer.models.schedules import Flow, Schedule, VarianceExploding
from fewer.sigmas import checked_sigmas, is_flow, sigmas_of, taus_of

APART = 1e-3  # share by which levels may be beyond those of the process: they are typed
SHIFTED = 1e-2  # share by which a cleanest level is that of two shifts
IN_LOG_SNR = (
    "dpm-2m",
    "dpm-3m",
    "dpmpp-2m",
    "dpmpp-3m",
    "res-2m",
    "res-3m",
    "res-4m",
    "unipc",
    "unipc-3",
    "deis",
    "deis-3",
)
MULTISTEP = (*IN_LOG_SNR, "lms", "ipndm", "ipndm-v", "dpmpp_2m", "res_multistep")
TIMES = 200.0  # above what is usual for sigma: likely a network time
STABLE_DIFFUSION = 14.65  # above its noisiest level


@dataclass(frozen=True)
class GivenLevels:
    """A list of sigmas, and what is known of who plays it.

    sigmas    as they are given, finite and none negative
    schedule  of the process, None where it is not known
    shift     m of the shift s' = m s that is meant for the levels of a flow, None where none is said
    solver    the solver that is to play them
    """

    sigmas: tuple[float, ...]
    schedule: Schedule | None = None
    shift: float | None = None
    solver: str = "euler"

    def __post_init__(self) -> None:
        checked_sigmas(self.sigmas)
        if self.shift is not None and not self.flow:
            raise InputError("a shift is of the levels of a flow: say that it is one (--flow)")
        if self.shift is not None and not 0.01 <= self.shift <= 100:
            raise InputError(f"shift is {self.shift:g}; expected a factor of sigma / alpha such as 3, from 0.01 to 100")

    @property
    def flow(self) -> bool:
        """Whether sigma is tau."""
        return is_flow(self.schedule)

    @property
    def steps(self) -> int:
        """Steps between the sigmas."""
        return len(self.sigmas) - 1

    @property
    def falling(self) -> bool:
        """Whether each sigma is below the one before it."""
        return all(a > b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))

    def fault(self, name: str, sentence: str, rows: Sequence[int], repair: str) -> Fault:
        """A fault at these numbers of the list, counted from 0."""
        return Fault(name, self.steps, sentence, tuple(rows), repair, measure="none", tune_repairs=False)


def rising(given: GivenLevels) -> Fault | None:
    """Levels above the one before."""
    rows = [n for n in range(1, len(given.sigmas)) if given.sigmas[n] > given.sigmas[n - 1]]
    if not rows:
        return None
    n = rows[0]
    return given.fault(
        "rising levels",
        f"levels rise: number {n} is {given.sigmas[n]:g} after {given.sigmas[n - 1]:g}" + _more(rows),
        rows, "sort them, the noisiest first: no sampler without added noise goes up",
    )  # fmt: skip


def repeated(given: GivenLevels) -> Fault | None:
    """Levels that repeat above 0: a step of no length."""
    rows = [n for n in range(1, len(given.sigmas)) if given.sigmas[n] == given.sigmas[n - 1] > 0]
    if not rows:
        return None
    divides = f"{given.solver} divides by its length: NaN at step {rows[0]}"
    what = divides if given.solver in MULTISTEP else "a call is wasted, and multistep solvers divide by its length: NaN"
    return given.fault(
        "repeated levels", f"levels repeat: number {rows[0]} is {given.sigmas[rows[0]]:g} again, a step of no length; {what}"
        + _more(rows), rows, "leave the second one out",
    )  # fmt: skip


def early_zero(given: GivenLevels) -> Fault | None:
    """A 0 before the end of the list, from which a step is 0 / 0."""
    rows = [n for n in range(given.steps) if given.sigmas[n] == 0]
    if not rows:
        return None
    return given.fault(
        "zero before the end",
        f"level 0 stands at number {rows[0]}, before the end: the step from it divides (x - D) = 0 by sigma = 0, NaN at step "
        f"{rows[0]}",
        rows, "end the list at its first 0",
    )  # fmt: skip


def no_terminal_zero(given: GivenLevels) -> Fault | None:
    """A list that does not end at the data."""
    last = given.sigmas[-1]
    if last == 0:
        return None
    return given.fault(
        "no terminal zero", f"terminal zero missing: the list ends at {last:g}, and samples keep that much noise",
        (given.steps,), "end it with 0 (pipelines of diffusers append that 0 to sigmas= themselves)",
    )  # fmt: skip


def beyond(given: GivenLevels) -> Fault | None:
    """Levels that the process does not have: noisier than its noisiest one."""
    if given.schedule is None:
        return None
    (top,) = sigmas_of([given.schedule.tau_max], given.flow)
    rows = [n for n, sigma in enumerate(given.sigmas) if sigma > top * (1 + (0 if given.flow else APART))]
    if not rows:
        return None
    most = max(given.sigmas)
    repair = f"begin at {top:.6g}"
    if most > TIMES:
        repair += " (these look like network times, which are no sigmas)"
    elif given.flow:
        repair += " (of a flow sigma is tau; if these are s = sigma / alpha, tau is s / (1 + s))"
    return given.fault(
        "beyond the process", f"level {most:g} at number {given.sigmas.index(most)} is not in the process, whose noisiest level is "
        f"{top:.6g}" + _more(rows), rows, repair,
    )  # fmt: skip


def below(given: GivenLevels) -> Fault | None:
    """Levels above 0 that are cleaner than the cleanest one that the network knows."""
    if given.schedule is None:
        return None
    (least,) = sigmas_of([given.schedule.tau_min], given.flow)
    rows = [n for n, sigma in enumerate(given.sigmas) if 0 < sigma < least * (1 - SHIFTED)]
    if not rows:
        return None
    return given.fault(
        "below the process", f"level {given.sigmas[rows[0]]:g} at number {rows[0]} is not in the process: the cleanest that the "
        f"network knows is {least:.4g}" + _more(rows), rows, f"go from {least:.4g} or above to 0",
    )  # fmt: skip


def late_start(given: GivenLevels) -> Fault | None:
    """A first level below the process's noisiest, while samples start from pure noise."""
    schedule, first = given.schedule, given.sigmas[0]
    if schedule is None or first == 0 or beyond(given) is not None or not given.falling:
        return None
    tau = taus_of([first], given.flow)[0]
    if isinstance(schedule, VarianceExploding):
        late = float(log_s(schedule.tau_max) - log_s(tau)) > FAINT
    else:
        late = float(schedule.time(tau)) < float(schedule.time(schedule.tau_max)) - 1
    if not late:
        return None
    (top,) = sigmas_of([schedule.tau_max], given.flow)
    return given.fault(
        "late start", f"late start: the list begins at {first:g}, the process at {top:.6g}, so that pure noise is taken for a "
        "state that holds some data", (0,), f"begin at {top:.6g}, but for image-to-image",
    )  # fmt: skip


def infinite_log_snr(given: GivenLevels) -> Fault | None:
    """Pure noise under a solver that works in log-SNR, which is infinite there."""
    if not (given.flow and given.sigmas[0] == 1 and given.solver in IN_LOG_SNR):
        return None
    return given.fault(
        "infinite log-SNR", f"log-SNR is infinite at level 1: {given.solver} works in it, and engines that take it as it is give "
        "NaN at step 0", (0,), "begin at 0.9999, or play the list by euler",
    )  # fmt: skip


def shifted_twice(given: GivenLevels) -> Fault | None:
    """Levels of a flow that are regular ones shifted twice, or whose cleanest level is."""
    levels = np.array([sigma for sigma in given.sigmas if sigma > 0])
    m = given.shift
    if m is None or m == 1 or not given.falling or levels[0] > 1:
        return None
    repair = f"shift regular levels once, or give unshifted ones to an engine that shifts by {m:g} itself"
    if shifts_of(given) == 2:
        what = f"shift applied twice (shift = {m:g}): the levels are shift(shift(regular levels))"
        return given.fault("shift twice", what, range(len(levels)), repair)
    lowest = Flow().tau_min
    if shifts_of(given) == 1 and np.isclose(levels[-1], shift(shift(lowest, m), m), rtol=SHIFTED):
        what = (
            f"shift applied twice (shift = {m:g}) to the cleanest level: it is {levels[-1]:.4g} where one shift of {lowest:g} "
            f"gives {float(shift(lowest, m)):.4g}"
        )
        return given.fault("shift twice", what, (len(levels) - 1,), repair)
    return None


def shifts_of(given: GivenLevels) -> int | None:
    """How often regular levels were shifted to be these, with or without the 0 at the end; None where that is not seen."""
    if given.shift is None or given.shift == 1 or not given.falling:
        return None
    whole = np.array(given.sigmas)
    counts = [times_shifted(levels, given.shift) for levels in (whole[whole > 0], whole) if len(levels) > 2]
    return next((count for count in counts if count is not None), None)


def _more(rows: Sequence[int]) -> str:
    return f" ({len(rows)} such)" if len(rows) > 1 else ""


KINDS = (
    rising, repeated, early_zero, beyond, late_start, shifted_twice, infinite_log_snr, below, no_terminal_zero,
)  # fmt: skip


def faults_of(given: GivenLevels) -> list[Fault]:
    """Every fault of the list, in the order in which they matter along it; empty where there is none."""
    return [fault for kind in KINDS if (fault := kind(given)) is not None]


def remarks(given: GivenLevels) -> list[str]:
    """What was seen that is no fault, and what could not be looked at."""
    found = []
    if (count := shifts_of(given)) is not None and count < 2:
        how = "regular, without any shift" if count == 0 else f"regular ones shifted once by {given.shift:g}"
        then = (
            "an engine that does not shift by itself plays them unshifted"
            if count == 0
            else "give them to no engine that shifts"
        )
        found.append(f"the levels are {how}: {then}")
    if given.schedule is None:
        above = given.sigmas[0] > STABLE_DIFFUSION
        noisy = f"; {given.sigmas[0]:g} is above all of Stable Diffusion's, as EDM networks have it" if above else ""
        found.append(f"which levels the process has is not known: name the model, or say --flow{noisy}")
    return found
