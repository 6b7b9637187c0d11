"""fewer makes the samples of a pretrained diffusion or flow model cheap, at a quality that is measured."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.engine import sample
    from fewer.integrations.apply import apply, unapply
    from fewer.integrations.probe import from_diffusers
    from fewer.integrations.scheduler import FewerScheduler
    from fewer.measures import measure
    from fewer.models.load import load
    from fewer.models.mixture import GaussianMixture
    from fewer.models.model import Model
    from fewer.plan import Plan, Row, Shortcut, Start
    from fewer.processes.adaptive import adaptive
    from fewer.processes.inversion import invert
    from fewer.solvers import standard
    from fewer.tuning import tune

__version__ = metadata.version("fewer")

# read on first use, so that `import fewer` costs nothing
_HOMES = {
    "FewerScheduler": "fewer.integrations.scheduler",
    "GaussianMixture": "fewer.models.mixture",
    "Model": "fewer.models.model",
    "Plan": "fewer.plan",
    "Row": "fewer.plan",
    "Shortcut": "fewer.plan",
    "Start": "fewer.plan",
    "adaptive": "fewer.processes.adaptive",
    "apply": "fewer.integrations.apply",
    "from_diffusers": "fewer.integrations.probe",
    "invert": "fewer.processes.inversion",
    "load": "fewer.models.load",
    "measure": "fewer.measures",
    "sample": "fewer.engine",
    "standard": "fewer.solvers",
    "tune": "fewer.tuning",
    "unapply": "fewer.integrations.apply",
}

__all__ = [
    "FewerScheduler",
    "GaussianMixture",
    "InputError",
    "Model",
    "Plan",
    "Row",
    "Shortcut",
    "Start",
    "__version__",
    "adaptive",
    "apply",
    "from_diffusers",
    "invert",
    "load",
    "measure",
    "sample",
    "standard",
    "tune",
    "unapply",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fewer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
