"""fewer makes the samples of a pretrained diffusion or flow model cheap, at a quality that is measured."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.compression.compress import compress
    from fewer.engine import sample
    from fewer.epistemic.gate.calibrate import gate
    from fewer.epistemic.gate.gate import Gate
    from fewer.epistemic.uncertainty import uncertainty
    from fewer.evaluate.leaderboard import Leaderboard, compare
    from fewer.evaluate.measure import measure
    from fewer.evaluate.probability_flow.adaptive import adaptive
    from fewer.integrations.apply import apply, unapply
    from fewer.integrations.export import to_diffusers
    from fewer.integrations.k_diffusion import plan_sigmas, sample_k_diffusion
    from fewer.integrations.probe import from_diffusers
    from fewer.integrations.scheduler import FewerScheduler
    from fewer.judging import judge
    from fewer.models.load import load
    from fewer.models.mixture import GaussianMixture
    from fewer.models.model import Model
    from fewer.plan import Plan, Row, Shortcut, Start
    from fewer.samplers import standard
    from fewer.search import tune
    from fewer.sigmas import from_sigmas
    from fewer.solvers.noise_share import with_noise
    from fewer.tasks.editing.edit import edit
    from fewer.tasks.inverse.solve import solve
    from fewer.tasks.inversion import invert
    from fewer.tasks.large.larger import large
    from fewer.tasks.measurements.choose import choose_measurements
    from fewer.tasks.series.forecast import forecast

    __version__: str

# read on first use, so that `import fewer` costs nothing
_HOMES = {
    "FewerScheduler": "fewer.integrations.scheduler",
    "Gate": "fewer.epistemic.gate.gate",
    "GaussianMixture": "fewer.models.mixture",
    "Leaderboard": "fewer.evaluate.leaderboard",
    "Model": "fewer.models.model",
    "Plan": "fewer.plan",
    "Row": "fewer.plan",
    "Shortcut": "fewer.plan",
    "SchedulerMixin": "fewer.integrations.scheduler",  # diffusers asks for it where it loads a pipeline saved with its plan
    "Start": "fewer.plan",
    "adaptive": "fewer.evaluate.probability_flow.adaptive",
    "apply": "fewer.integrations.apply",
    "choose_measurements": "fewer.tasks.measurements.choose",
    "compare": "fewer.evaluate.leaderboard",
    "compress": "fewer.compression.compress",
    "edit": "fewer.tasks.editing.edit",
    "forecast": "fewer.tasks.series.forecast",
    "from_diffusers": "fewer.integrations.probe",
    "from_sigmas": "fewer.sigmas",
    "gate": "fewer.epistemic.gate.calibrate",
    "invert": "fewer.tasks.inversion",
    "judge": "fewer.judging",
    "large": "fewer.tasks.large.larger",
    "load": "fewer.models.load",
    "measure": "fewer.evaluate.measure",
    "plan_sigmas": "fewer.integrations.k_diffusion",
    "sample": "fewer.engine",
    "sample_k_diffusion": "fewer.integrations.k_diffusion",
    "solve": "fewer.tasks.inverse.solve",
    "standard": "fewer.samplers",
    "to_diffusers": "fewer.integrations.export",
    "tune": "fewer.search",
    "unapply": "fewer.integrations.apply",
    "uncertainty": "fewer.epistemic.uncertainty",
    "with_noise": "fewer.solvers.noise_share",
}

__all__ = [
    "FewerScheduler",
    "Gate",
    "GaussianMixture",
    "InputError",
    "Leaderboard",
    "Model",
    "Plan",
    "Row",
    "Shortcut",
    "Start",
    "__version__",
    "adaptive",
    "apply",
    "choose_measurements",
    "compare",
    "compress",
    "edit",
    "forecast",
    "from_diffusers",
    "from_sigmas",
    "gate",
    "invert",
    "judge",
    "large",
    "load",
    "measure",
    "plan_sigmas",
    "sample",
    "sample_k_diffusion",
    "solve",
    "standard",
    "to_diffusers",
    "tune",
    "unapply",
    "uncertainty",
    "with_noise",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fewer")
    if name not in _HOMES:
        raise AttributeError(f"module 'fewer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
