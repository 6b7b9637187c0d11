"""Diffusers schedulers: their noise schedule, prediction type and clipping, as a model has them."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError, first_line
from fewer.models.angles import Angle, Cosine
from fewer.models.denoiser import Clip
from fewer.models.schedules import Discrete, Flow, Schedule, VarianceExploding, betas, discrete

BOUNDS = ("clip_sample", "thresholding", "clip_denoised")  # options that bound the data prediction
# schedulers whose times end with the one after their last step, which pipelines leave out
ENDING = ("DDPMWuerstchenScheduler", "SCMScheduler")
DECIDING = ("DDPMWuerstchenScheduler",)  # schedulers by whose class pipelines decide what time they tell their network
PREDICTS = {"epsilon": "noise", "sample": "data", "v_prediction": "velocity", "flow_prediction": "flow"}

# entries of a FewerScheduler's configuration that are not its own scheduler's
PLANNED = (
    "_class_name",
    "plan",
    "process",
    "predicts",
    "clip",
    "tensors",
    "schedule",
    "exploding",
    "scheduler",
    "front",
)


def class_named(name: Any) -> Any:
    """The class of diffusers that has this name; None where there is none.

    diffusers is imported here, on first use: it takes seconds, and a model that is no pipeline needs nothing of it.
    """
    import diffusers

    return getattr(diffusers, name, None) if isinstance(name, str) else None


@contextmanager
def quiet(library: Any = None) -> Iterator[None]:
    """Silence warnings and progress bars of diffusers, or of a `library` by its logging: fewer checks what they say."""
    if library is None:
        from diffusers.utils import logging

        library = logging
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


def make_scheduler(name: Any, config: dict[str, Any]) -> Any:
    """A diffusers scheduler from its class name and configuration; InputError where that is not possible."""
    kind = class_named(name) if isinstance(name, str) and "Scheduler" in name else None
    if kind is None or not hasattr(kind, "from_config"):
        raise InputError(f"unknown scheduler {name!r}; expected the class name of a diffusers scheduler")
    try:
        with quiet():
            return kind.from_config(config)
    except Exception as error:  # schedulers raise many types for what they do not take
        raise InputError(f"{name} cannot be built from its configuration: {first_line(error)}") from error


def planned_scheduler(config: Mapping[str, Any]) -> Any:
    """The pipeline's own scheduler in the configuration of a FewerScheduler. Raises InputError where there is none."""
    if config.get("scheduler") is None:
        raise InputError(
            f"the scheduler of plan {config.get('plan', {}).get('name')!r} does not say which scheduler it was made from: give "
            "the pipeline one"
        )
    return make_scheduler(config["scheduler"], {name: each for name, each in config.items() if name not in PLANNED})


def check_one_scheduler(pipe: Any) -> None:
    """Raises InputError for a pipeline that steps a second state, its sound, by levels of their own."""
    if getattr(pipe, "audio_scheduler", None) is not None:
        raise InputError(
            f"{type(pipe).__name__} steps its sound by an audio_scheduler of its own, and a plan has one list of levels: without "
            "it (pipe.audio_scheduler = None) both states go by the plan's"
        )


def options(scheduler: Any) -> dict[str, Any]:
    """The scheduler's configuration without entries that its class has no parameter for, and so ignores."""
    known = inspect.signature(type(scheduler).__init__).parameters
    return {key: value for key, value in scheduler.config.items() if key in known}


def settings(scheduler: Any) -> dict[str, Any]:
    """All of the scheduler's configuration as JSON values, from which `make_scheduler` makes it again."""
    config = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    return dict(json.loads(json.dumps(config, default=str)))


def schedule_of(scheduler: Any) -> tuple[Schedule, str, float]:
    """Noise schedule, prediction, and standard deviation of the data (for EDM networks) of a diffusers scheduler."""
    name, config = type(scheduler).__name__, options(scheduler)
    if name.startswith(("FlowMatch", "FlowMap")):
        if (scheduler.config.get("sigma_max") or 1) > 1:
            return _of_sigmas(name, scheduler.config), "noise", 0.5
        rising = bool(config.get("invert_sigmas"))  # these networks are given 0 for noise, and predict D - eps
        return Flow(config["num_train_timesteps"], rising), "data-flow" if rising else "flow", 0.5
    if name == "DDPMWuerstchenScheduler":
        return Cosine(float(config["s"]), _number(config, "scaler")), "noise", 0.5
    if name == "SCMScheduler" and config.get("prediction_type") == "trigflow":
        return Angle(_number(config, "sigma_data")), "trigflow", _number(config, "sigma_data")
    if name == "IPNDMScheduler" and config.get("trained_betas") is None:
        return Angle(1.0, 1.0), "velocity", 0.5
    prediction = config.get("prediction_type", "epsilon")
    if not isinstance(prediction, str) or prediction not in PREDICTS:
        raise InputError(f"prediction_type is {prediction!r}; expected one of {', '.join(PREDICTS)}")
    if name == "CMStochasticIterativeScheduler":
        low, high = _number(config, "sigma_min"), _number(config, "sigma_max")
        return VarianceExploding(low, high, "quarter-log-1000"), "consistency", _number(config, "sigma_data")
    if name.startswith("EDM"):
        if prediction != "epsilon":
            raise InputError(f"{name} with prediction_type {prediction!r} is not supported; expected 'epsilon'")
        low, high = _number(config, "sigma_min"), _number(config, "sigma_max")
        return VarianceExploding(low, high, "quarter-log"), "edm", _number(config, "sigma_data")
    if prediction == "flow_prediction" or config.get("use_flow_sigmas"):
        return Flow(config["num_train_timesteps"]), PREDICTS[prediction], 0.5
    if config.get("timestep_type", "discrete") != "discrete":
        raise InputError(f"timestep_type {config['timestep_type']!r} is not supported; expected 'discrete'")
    if "beta_schedule" not in config or not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(f"{name} has no beta_schedule; fewer cannot tell its noise levels")
    return _discrete(name, config, scheduler.alphas_cumprod), PREDICTS[prediction], 0.5


def _of_sigmas(name: str, config: Mapping[str, Any]) -> VarianceExploding:
    """The schedule of a scheduler of flows whose levels go beyond 1: sigmas of data with noise beside them, as Cosmos has them."""
    steps = config.get("num_train_timesteps")
    if steps != 1000 or config.get("sigma_min") is None:
        raise InputError(
            f"{name} has levels up to {config['sigma_max']:g}, of data with noise beside them; expected 1000 times and a sigma_min"
        )
    return VarianceExploding(_number(config, "sigma_min"), _number(config, "sigma_max"), "sigma-1000")


def noise_scale(schedule: Schedule) -> float:
    """The deviation of the noise that pipelines begin with under their own scheduler, where they scale it by themselves; else 1."""
    match schedule:
        case VarianceExploding(sigma_max=top, time_input="sigma-1000"):
            return top
        case Angle(sigma_data=deviation):
            return deviation
    return 1.0


def explodes(scheduler: Any, schedule: Schedule) -> bool:
    """Whether a scheduler's samples are D + s eps, as of all of diffusers' that scale the network's input."""
    return not isinstance(schedule, Flow) and float(getattr(scheduler, "init_noise_sigma", 1.0)) != 1


def _discrete(scheduler: str, config: dict[str, Any], theirs: Tensor) -> Discrete:
    """The schedule of the configuration in float64, or the scheduler's own table of alpha_bar where that differs."""
    table, name = config.get("trained_betas"), "trained betas"
    if table is None:
        name = config["beta_schedule"]
        table = betas(name, config["num_train_timesteps"], config.get("beta_start", 1e-4), config.get("beta_end", 0.02))
    schedule = discrete(table, zero_terminal_snr=bool(config.get("rescale_betas_zero_snr", False)), name=name)
    ours, theirs = torch.tensor(schedule.alpha_bar, dtype=torch.float64), theirs.double().cpu()
    if theirs.shape == ours.shape and torch.allclose(theirs, ours, rtol=1e-3, atol=1e-6):
        return schedule
    return Discrete(tuple(theirs.tolist()), f"{name} of {scheduler}")


def clip_of(scheduler: Any) -> Clip | None:
    """Bounds on the data prediction of a scheduler; thresholding goes before clip_sample, as in diffusers."""
    config = options(scheduler)
    if config.get("thresholding"):
        bound, quantile = _number(config, "sample_max_value"), _number(config, "dynamic_thresholding_ratio")
        if quantile > 1:
            raise InputError(f"dynamic_thresholding_ratio is {quantile}; expected a share of at most 1")
        return Clip(bound, quantile)
    if config.get("clip_sample") or config.get("clip_denoised"):
        return Clip(_number(config, "clip_sample_range") if "clip_sample_range" in config else 1.0)
    return None


def _number(config: Mapping[str, Any], name: str) -> float:
    """A positive number of the configuration."""
    value = config[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise InputError(f"{name} of the scheduler is {value!r}; expected a positive number")
    return value
