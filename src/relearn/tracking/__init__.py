"""Runs, curves, artifacts and models in MLflow; mlflow itself is imported where it is first needed.

The hook opens the parent run and publishes its handle; a node hands the handle to every unit, and
the unit opens its child run with ``arm_run`` in the process that trains.
"""

from relearn.tracking.config import TrackingConfig
from relearn.tracking.handle import RunHandle, current_run, publish_run
from relearn.tracking.models import (
    RegisteredModel,
    alias_version,
    load_model,
    register_model,
    set_alias,
)
from relearn.tracking.runs import ArmRun, arm_run

__all__ = [
    "ArmRun",
    "RegisteredModel",
    "RunHandle",
    "TrackingConfig",
    "alias_version",
    "arm_run",
    "current_run",
    "load_model",
    "publish_run",
    "register_model",
    "set_alias",
]
