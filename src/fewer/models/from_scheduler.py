"""What a diffusers scheduler says of the process that its network was trained under."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from diffusers.utils import logging
from torch import Tensor

from fewer.errors import InputError, first_line
from fewer.models.model import Clip
from fewer.models.schedules import Discrete, Flow, Schedule, VarianceExploding, betas, discrete

PREDICTS = {"epsilon": "noise", "sample": "data", "v_prediction": "velocity", "flow_prediction": "flow"}


@contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' warnings and progress bars: what they say of a folder is checked here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def make_scheduler(name: Any, config: dict[str, Any]) -> Any:
    """A diffusers scheduler from its class name and configuration; InputError where that is not possible."""
    kind = getattr(diffusers, name, None) if isinstance(name, str) and "Scheduler" in name else None
    if kind is None or not hasattr(kind, "from_config"):
        raise InputError(f"unknown scheduler {name!r}; expected the class name of a diffusers scheduler")
    try:
        with quiet():
            return kind.from_config(config)
    except Exception as error:  # schedulers raise many types for what they do not take
        raise InputError(f"{name} cannot be built from its configuration: {first_line(error)}") from error


def options(scheduler: Any) -> dict[str, Any]:
    """The scheduler's configuration without entries that its class does not know, and so does not heed."""
    known = inspect.signature(type(scheduler).__init__).parameters
    return {key: value for key, value in scheduler.config.items() if key in known}


def settings(scheduler: Any) -> dict[str, Any]:
    """All of the scheduler's configuration as JSON values, from which `make_scheduler` makes it again."""
    own = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    return json.loads(json.dumps(own, default=str))


def schedule_of(scheduler: Any) -> tuple[Schedule, str, float]:
    """Noise schedule, prediction and the data's deviation (for EDM networks) that a diffusers scheduler stands for."""
    name, config = type(scheduler).__name__, options(scheduler)
    if name.startswith("FlowMatch"):
        return Flow(config["num_train_timesteps"]), "flow", 0.5
    asked = config.get("prediction_type", "epsilon")
    if not isinstance(asked, str) or asked not in PREDICTS:
        raise InputError(f"prediction_type is {asked!r}; expected one of {', '.join(PREDICTS)}")
    if name.startswith("EDM"):
        if asked != "epsilon":
            raise InputError(f"{name} with prediction_type {asked!r} is not supported; expected 'epsilon'")
        low, high = _number(config, "sigma_min"), _number(config, "sigma_max")
        return VarianceExploding(low, high, "quarter-log"), "edm", _number(config, "sigma_data")
    if asked == "flow_prediction" or config.get("use_flow_sigmas"):
        return Flow(config["num_train_timesteps"]), PREDICTS[asked], 0.5
    if config.get("timestep_type", "discrete") != "discrete":
        raise InputError(f"timestep_type {config['timestep_type']!r} is not supported; expected 'discrete'")
    if "beta_schedule" not in config or not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(f"{name} has no beta_schedule; fewer cannot tell its noise levels")
    return _discrete(name, config, scheduler.alphas_cumprod), PREDICTS[asked], 0.5


def _discrete(name: str, config: dict[str, Any], theirs: Tensor) -> Discrete:
    """The schedule of the configuration in float64, or the scheduler's own table where that is another one."""
    zero = bool(config.get("rescale_betas_zero_snr", False))
    if config.get("trained_betas") is not None:
        asked = "trained betas"
        made = discrete(config["trained_betas"], zero_terminal_snr=zero, name=asked)
    else:
        asked = config["beta_schedule"]
        table = betas(asked, config["num_train_timesteps"], config["beta_start"], config["beta_end"])
        made = discrete(table, zero_terminal_snr=zero, name=asked)
    ours = torch.tensor(made.alpha_bar, dtype=torch.float64)
    theirs = theirs.double().cpu()
    if theirs.shape == ours.shape and torch.allclose(theirs, ours, rtol=1e-3, atol=1e-6):
        return made
    return Discrete(tuple(theirs.tolist()), f"{asked} of {name}")


def clip_of(scheduler: Any) -> Clip | None:
    """The bounds on the data prediction that the scheduler keeps to; thresholding goes first, as in diffusers."""
    config = options(scheduler)
    clip = None
    if config.get("thresholding"):
        clip = Clip(_number(config, "sample_max_value"), _number(config, "dynamic_thresholding_ratio"))
    elif config.get("clip_sample"):
        clip = Clip(_number(config, "clip_sample_range") if "clip_sample_range" in config else 1.0)
    if clip is not None and clip.quantile is not None and clip.quantile > 1:
        raise InputError(f"dynamic_thresholding_ratio is {clip.quantile}; expected a share of at most 1")
    return clip


def _number(config: dict[str, Any], name: str) -> float:
    """A positive number of the configuration."""
    value = config[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise InputError(f"{name} of the scheduler is {value!r}; expected a positive number")
    return value
