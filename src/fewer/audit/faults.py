"""The faults that a pipeline's table can have, one function each: from the case to the fault, or None."""

from __future__ import annotations

import numpy as np

from fewer.audit.case import Case, Fault
from fewer.audit.repairs import on_levels, right_times, starting_at, to_data
from fewer.audit.shifts import shifted_twice
from fewer.audit.table import log_s_distance, point_mass, time_offsets
from fewer.errors import InputError
from fewer.levels import log_s, s_of_tau
from fewer.models.denoiser import UNSAFE_START
from fewer.models.schedules import VarianceExploding
from fewer.plan import Plan
from fewer.plan.unrolled import unrolled

FAINT = 0.02  # of the noise: a share of data at the start that is taken for none
ROUNDED = 0.05  # training times that a whole time may be off its level without a word
WHOLE = 1.001  # training times that rounding, of either kind, is off at most, in float32
APART = 1e-3  # in log s or as a share: above what float32 tables of schedulers are off
RESIDUE = 1e-3  # standard deviation of noise in the result that is taken for none


def late_start(case: Case) -> Fault | None:
    """The first call is at a level below the schedule's noisiest, or the safe start, while its input is pure noise.

    Leading spacing does it, the more the fewer the steps (Lin et al. 2024; Martin Garcia et al. 2025). Trailing spacing does
    not, and is the repair where the scheduler has it; since it moves the other levels too, and noise prediction is at its
    worst at the top, its cost can come out below 1. Elsewhere the first call alone is moved to the top.
    """
    plan, schedule = case.plan, case.model.schedule
    first, top, start = float(plan.rows[0].tau), schedule.tau_max, case.model.start
    if isinstance(schedule, VarianceExploding):
        late = float(log_s(start) - log_s(first)) > FAINT
    else:
        late = float(schedule.time(first)) < float(schedule.time(start)) - 1
    if not late:
        return None
    spacing = case.options.get("timestep_spacing")
    why = f"{spacing} spacing starts below the noisiest time" if spacing else "the table starts below the noisiest time"
    sentence = (
        f"{why}: at {case.steps} steps the first call is given t = {case.times[0]:.4g} "
        f"(s = sigma/alpha = {s_of_tau(first):.3g}) while its input is the noise of t = {float(schedule.time(top)):.4g} "
        f"(s = {s_of_tau(top):.3g})"
    )
    if spacing in (None, "trailing"):
        repaired = None if second_stages(case) else starting_at(plan, start)
        return Fault("late start", case.steps, sentence, (0,), "start at the noisiest level", repaired)
    return Fault("late start", case.steps, sentence, (0,), "timestep_spacing='trailing'", _trailing(case))


def _trailing(case: Case) -> Plan | None:
    """The table with trailing spacing, without what that adds to the rows' ends; None where it is no repair."""
    try:
        trailing = case.but(timestep_spacing="trailing")
    except InputError:
        return None
    if late_start(trailing) is not None:  # the scheduler's own schedule ends below the network's
        return None
    plan = trailing.plan
    for own, theirs, repair in (
        (off_levels(case), off_levels(trailing), on_levels),
        (residual_noise(case), residual_noise(trailing), to_data),
    ):
        if theirs is not None and own is None:
            plan = repair(plan) or plan
    return plan


def terminal_snr(case: Case) -> Fault | None:
    """The noisiest trained state still shows data, and the start is pure noise: non-zero terminal SNR (Lin et al. 2024).

    It changes the law of the samples rather than their paths, so that it is measured on the law (`fewer.audit.cost`).
    """
    top = case.model.schedule.tau_max
    s = s_of_tau(top)
    if 1 / s <= FAINT:
        return None
    sentence = (
        f"non-zero terminal SNR: at the noisiest time the state holds data, alpha/sigma = {1 / s:.3g} "
        f"(SNR {s**-2:.3g}), while samples start from pure noise: their overall brightness comes out narrower than the "
        "data's"
    )
    return Fault(
        "terminal SNR", case.steps, sentence, (0,), "no table has it: a start that holds the data's mean and spread",
        measure="spread of the samples' means, repaired over as it is", tune_repairs=False,
    )  # fmt: skip


def zero_alpha(case: Case) -> Fault | None:
    """Noise prediction where alpha is nearly zero: an error of the network is multiplied by s = sigma / alpha."""
    model = case.model
    if model.predicts not in ("noise", "score"):
        return None
    at = [s_of_tau(float(row.tau)) for row in case.plan.rows]
    rows = tuple(n for n, s in enumerate(at) if s > UNSAFE_START)
    if not rows:
        return None
    sentence = f"{zero_alpha_words(at[0], case.times[0])}, as fewer's plans do"
    repaired = starting_at(case.plan, model.start)
    return Fault("alpha near zero", case.steps, sentence, rows, "start at s = 64", repaired)


def zero_alpha_words(s: float, t: float) -> str:
    """The warning of noise prediction at s, which is at time t."""
    return (
        f"noise prediction where alpha is nearly zero (s = sigma/alpha = {s:.3g} at t = {t:.4g}): an error of the network "
        "is multiplied by s there, and clipping does not cure it; start at s = 64 instead"
    )


def rounded_times(case: Case) -> Fault | None:
    """The time inputs are whole, although the levels lie between the levels of whole times."""
    apart = np.abs(time_offsets(case.plan, case.model.schedule))
    whole = all(t.is_integer() for t in case.times)
    if isinstance(case.model.schedule, VarianceExploding) or not whole or apart.max() > WHOLE or apart.max() <= ROUNDED:
        return None
    rows = tuple(np.flatnonzero(apart > ROUNDED).tolist())
    sentence = (
        f"rounded times: {len(rows)} of {len(apart)} calls are given a whole time that is not that of their level, off by "
        f"up to {apart.max():.2g}"
    )
    repaired = right_times(case.plan)
    return Fault("rounded times", case.steps, sentence, rows, "tell the network the level's own time", repaired)


def wrong_times(case: Case) -> Fault | None:
    """The time input is that of another level than the one that the state is at."""
    schedule = case.model.schedule
    by_level = isinstance(schedule, VarianceExploding)
    apart = time_offsets(case.plan, schedule)
    rows = tuple(np.flatnonzero(np.abs(apart) > (APART if by_level else WHOLE)).tolist())
    if not rows:
        return None
    worst = max(rows, key=lambda n: abs(apart[n]))
    row = case.plan.rows[worst]
    sentence = (
        f"wrong times: {len(rows)} of {len(apart)} calls are given the time of another noise level; call {worst} is given "
        f"t = {case.times[worst]:.4g} at the level of t = {float(schedule.time(float(row.tau))):.4g}"
    )
    return Fault(
        "wrong times", case.steps, sentence, rows, "tell the network the level's own time", right_times(case.plan)
    )


def off_levels(case: Case) -> Fault | None:
    """A step ends on another level than the one that the next call takes its input to be at.

    Where N is no multiple of n, DDIM with trailing spacing steps down by N // n and rounds its times otherwise. Tables
    that add noise are not looked at: for data of some width their noise need not be that of a point. Nor are those whose
    weights a search has found on the model: the best prediction of a state is nearer to the mean than the state.
    """
    if case.plan.stochastic or case.plan.recipe.strategy is not None:
        return None
    data, noise = point_mass(case.plan)
    named = [float(tau) for tau in case.plan.levels]
    off = [_off(float(d), float(e), tau) for d, e, tau in zip(data, noise, named, strict=True)]
    rows = tuple(n for n in range(1, len(case.plan.rows)) if off[n] > APART)
    if not rows:
        return None
    worst = max(rows, key=lambda n: off[n])
    assumed, actual = (
        float(case.model.schedule.time(tau)) for tau in (named[worst], noise[worst] / (data[worst] + noise[worst]))
    )
    sentence = (
        f"steps end off the next level: {len(rows)} of {len(case.plan.rows)} calls take their input to be at another level "
        f"than it is; call {worst} at that of t = {assumed:.4g}, while it is at that of t = {actual:.4g}"
    )
    return Fault("off levels", case.steps, sentence, rows, "end each step on the next level", on_levels(case.plan))


def _off(data: float, noise: float, tau: float) -> float:
    """How far a state with these shares is from level tau, in log s and in scale."""
    return max(log_s_distance(noise / (data + noise), tau), abs(data + noise - 1))


def residual_noise(case: Case) -> Fault | None:
    """The last step ends above level 0, so that noise is left in the result; not told of weights that a search has found."""
    if case.plan.recipe.strategy is not None:
        return None
    data, noise = point_mass(case.plan)
    left = float(noise[-1])
    if left <= RESIDUE:
        return None
    sentence = (
        f"residual noise: the result still holds noise of standard deviation {left:.3g} "
        f"(and {float(data[-1]):.4g} of the data), since the last step does not go on to level 0"
    )
    how = {"set_alpha_to_one": "set_alpha_to_one=True", "final_sigmas_type": "final_sigmas_type='zero'"}
    repair = next((words for option, words in how.items() if option in case.options), "end the last step at level 0")
    return Fault("residual noise", case.steps, sentence, (len(case.plan.rows) - 1,), repair, to_data(case.plan))


def wasted_calls(case: Case) -> Fault | None:
    """Calls whose output nothing uses, or that repeat an earlier call: the same state at the same time.

    A second stage (Heun, PNDM's second call, Runge-Kutta) has an earlier call's time at another state: no waste. Leaving
    a wasted call out changes no sample, so that the fault costs evaluations and no quality.
    """
    states, times, n = unrolled(case.plan), case.times, len(case.times)
    unused = {i for i in range(n) if not np.any(states[i + 1 :, 1 + i])}
    again = {
        i
        for i in range(n)
        if any(times[i] == times[j] and np.allclose(states[i], states[j], 1e-9, 1e-12) for j in range(i))
    }
    rows = tuple(sorted(unused | again))
    if not rows:
        return None
    sentence = (
        f"wasted calls: {len(rows)} of {n} change nothing ({len(again)} repeat an earlier call at the same state and time, "
        f"the output of {len(unused - again)} is not used)"
    )
    return Fault(
        "wasted calls", case.steps, sentence, rows, "leave them out: the samples stay the same", measure="none"
    )


def second_stages(case: Case) -> tuple[int, ...]:
    """Rows at an earlier row's time and another state: second stages of Heun, PNDM and the like."""
    states, times = unrolled(case.plan), case.times
    return tuple(
        i
        for i in range(len(times))
        for j in [next((j for j in range(i) if times[j] == times[i]), None)]
        if j is not None and not np.allclose(states[i], states[j], 1e-9, 1e-12)
    )


KINDS = (
    late_start, terminal_snr, zero_alpha, shifted_twice, wrong_times, rounded_times, off_levels, residual_noise, wasted_calls,
)  # fmt: skip


def audit(case: Case) -> list[Fault]:
    """Every fault of the table, in the order in which they matter along it; empty where there is none."""
    return [fault for kind in KINDS if (fault := kind(case)) is not None]
