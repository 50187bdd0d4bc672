"""Runs of the project inside the process of the tests, small enough for seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.startup import bootstrap_project
from kedro.runner import SequentialRunner

from relearn.session import RelearnSession
from relearn.tracking.client import absolute_address, open_client

if TYPE_CHECKING:
    from mlflow.entities import Run

PROJECT = Path(__file__).resolve().parents[1]

SMALL: dict[str, Any] = {
    "seeds.count": 2,
    "data.glyphs.classes": 24,
    "data.split.base_classes": 12,
    "data.split.selection_classes": 6,
    "data.split.transfer_classes": 6,
    "pretrain.model.convnet.width": 4,
    "pretrain.train.epochs": 2,
    "zap.train.epochs": 2,
    "zap.policy.settle_steps": 1,
    "zap.arms.iid_moments": False,
    "zap.evidence.sham_arm": "",
    "zap.tuning.enabled": False,
    "zap.transfer.few_shot.classes": 3,
    "zap.transfer.few_shot.rate.points": 1,
    "zap.transfer.continual.classes": 3,
    "zap.transfer.continual.rate.points": 1,
    "execution.workers": 1,
    "execution.threads": 1,
}
"""Parameters on top of ``--env test``."""


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return dotted names as nested blocks, as Kedro makes them of ``--params``."""
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *above, name = dotted.split(".")
        place = tree
        for key in above:
            place = place.setdefault(key, {})
        place[name] = value
    return tree


def run(*pipelines: str, env: str = "test", runner: Any = None, **changes: Any) -> None:
    """Run pipelines with ``SMALL``; in ``changes`` two underscores stand for a dot."""
    bootstrap_project(PROJECT)
    told = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    with RelearnSession.create(PROJECT, env=env, runtime_params=nested(told)) as session:
        session.run(pipeline_names=list(pipelines), runner=runner or SequentialRunner())


def runs_in(storage: Path, experiment: str = "relearn") -> list[Run]:
    """Return all runs in the store, the latest first."""
    client = open_client(absolute_address("", storage))
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def parents_in(storage: Path) -> list[Run]:
    """Return the parent runs, the latest first."""
    return [r for r in runs_in(storage) if "mlflow.parentRunId" not in r.data.tags]
