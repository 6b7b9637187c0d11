"""Grids that are regular in the network's time t, from t_T (the start) to t_0 (the cleanest trained level)."""

from __future__ import annotations

import numpy as np

from fewer.errors import InputError
from fewer.grids import Levels, Range
from fewer.registry import part


@part(
    "uniform",
    title="n intervals from t_T to t_0, the last call's at the n-th time",
    source="Lu et al. 2022, DPM-Solver, arXiv:2206.00927",
)
def uniform(span: Range, n: int) -> Levels:
    """t_i = t_T + (t_0 - t_T) i / n for i = 0 .. n - 1; the linspace of diffusers' DPM-Solver, DEIS and UniPC."""
    return span.at_times(np.linspace(span.t_start, span.t_end, n + 1)[:-1])


@part(
    "linspace",
    title="n times from t_T to t_0, both ends included",
    source="Karras et al. 2022, arXiv:2206.00364; diffusers' linspace",
)
def linspace(span: Range, n: int) -> Levels:
    """t_i = t_T + (t_0 - t_T) i / (n - 1); the linspace of diffusers' DDIM, Euler and Heun (n = 1: t_T, not t_0)."""
    return span.at_times(np.linspace(span.t_start, span.t_end, n))


@part(
    "quadratic",
    title="regular in sqrt(t)",
    source="Song et al. 2021, DDIM (appendix D.2), arXiv:2010.02502; Lu et al. 2022, arXiv:2206.00927",
)
def quadratic(span: Range, n: int) -> Levels:
    """sqrt(t_i) = sqrt(t_T) + (sqrt(t_0) - sqrt(t_T)) i / n. Raises InputError where times are negative, as log sigma is."""
    if span.t_end < 0:
        raise InputError(
            f"steps 'quadratic' cannot place {n} calls: times go down to {span.t_end:.4g}, and have no square root"
        )
    return span.at_times(np.linspace(np.sqrt(span.t_start), np.sqrt(span.t_end), n + 1)[:-1] ** 2)


@part(
    "leading",
    title="multiples of N / n, which never reach the start",
    source="Song et al. 2021, DDIM, arXiv:2010.02502; diffusers' leading",
)
def leading(span: Range, n: int) -> Levels:
    """t_i = t_0 + (n - 1 - i) (t_T - t_0 + 1) / n: the first time lies almost a whole interval below t_T.

    As in diffusers' DDIM, Euler and Heun, which round N / n down; its DPM-Solver, DEIS and UniPC divide by n + 1 and
    leave out the time 0. (1 is the distance of two training times, 0 where times are not counted.)
    """
    width = (span.t_start - span.t_end + span.unit) / n
    return span.at_times(span.t_end + width * np.arange(n - 1, -1, -1))


@part(
    "trailing",
    title="multiples of N / n counted from the start",
    source="Lin et al. 2024, arXiv:2305.08891; diffusers' trailing",
)
def trailing(span: Range, n: int) -> Levels:
    """t_i = t_T - i (t_T - t_0 + 1) / n, with 1 as in `leading`."""
    width = (span.t_start - span.t_end + span.unit) / n
    return span.at_times(span.t_start - width * np.arange(n))


@part("simple", title="ComfyUI's simple", source="Comfy Org, ComfyUI (simple)", ranked=False)
def simple(span: Range, n: int) -> Levels:
    """Every (N / n)-th training time from the start on: the levels of `trailing`, but for rounding."""
    return trailing(span, n)


@part(
    "sgm-uniform",
    title="ComfyUI's sgm_uniform",
    source="Stability AI, generative-models; ComfyUI (sgm_uniform)",
    ranked=False,
)
def sgm_uniform(span: Range, n: int) -> Levels:
    """The n + 1 times of a linspace from t_T to t_0 without the last: the levels of `uniform`."""
    return uniform(span, n)


@part("normal", title="ComfyUI's normal", source="Comfy Org, ComfyUI (normal)", ranked=False)
def normal(span: Range, n: int) -> Levels:
    """n times of a linspace from t_T to t_0, both included: the levels of `linspace`."""
    return linspace(span, n)


@part("ddim-uniform", title="ComfyUI's ddim_uniform", source="Comfy Org, ComfyUI (ddim_uniform)", ranked=False)
def ddim_uniform(span: Range, n: int) -> Levels:
    """Each time of `leading` and 1: diffusers' leading with an offset of 1, as Stable Diffusion has it.

    t_i = t_0 + 1 + (n - 1 - i) (t_T - t_0 + 1) / n, with 1 as in `leading`. ComfyUI rounds N / n down, so that it may
    place a level more.
    """
    width = (span.t_start - span.t_end + span.unit) / n
    return span.at_times(np.minimum(span.t_end + span.unit + width * np.arange(n - 1, -1, -1), span.t_start))
