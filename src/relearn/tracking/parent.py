"""The parent run of one ``kedro run``: opened before training, closed with what came of it."""

from __future__ import annotations

import getpass
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.process import Identity
from relearn.tracking.client import (
    absolute_address,
    experiment_id,
    open_client,
    probe,
    refusing,
)
from relearn.tracking.handle import RunHandle
from relearn.tracking.runs import PARENT, owner_tags
from relearn.tracking.spool import send_spool
from relearn.tracking.writer import RunWriter, milliseconds

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from relearn.tracking.config import TrackingConfig

_OWNER = ("pid", "host", "start")


@dataclass(frozen=True)
class Store:
    """Where runs go, checked and ready.

    Attributes:
        address: Absolute tracking address.
        experiment_id: MLflow's experiment.
        spool: Folder for what cannot be sent.
        config: The block ``tracking``.
    """

    address: str
    experiment_id: str
    spool: Path
    config: TrackingConfig

    def client(self) -> MlflowClient:
        """Return an open client."""
        return open_client(self.address, self.config.timeout_seconds)


def open_store(config: TrackingConfig, storage: Path) -> Store:
    """Return the store after checking that it answers; sends what earlier runs had to keep.

    Args:
        config: The block ``tracking``.
        storage: Storage root, absolute.

    Raises:
        TrackingError: The address does not answer or refuses.
    """
    address = absolute_address(config.address, storage)
    storage.mkdir(parents=True, exist_ok=True)
    probe(address, config.timeout_seconds)
    with refusing(address):
        client = open_client(address, config.timeout_seconds)
        number = experiment_id(client, config.experiment, storage / "mlartifacts")
        store = Store(address, number, storage / "tracking_spool", config)
        close_dead_runs(client, number)
    send_spool(store.spool, address, client)
    return store


def open_parent(store: Store, *, name: str, tags: Mapping[str, str]) -> RunWriter:
    """Open the parent run and return its writer.

    Args:
        store: As from ``open_store``.
        name: Name of the run.
        tags: What identifies it.

    Raises:
        TrackingError: The store refuses.
    """
    with refusing(store.address):
        told = {"mlflow.runName": name, **owner_tags(), **tags}
        run = store.client().create_run(store.experiment_id, start_time=milliseconds(), tags=told)
    handle = RunHandle(
        address=store.address,
        experiment_id=store.experiment_id,
        run_id=str(run.info.run_id),
        spool=str(store.spool),
        upload_checkpoints=store.config.upload_checkpoints,
        timeout_seconds=store.config.timeout_seconds,
    )
    return RunWriter(handle, handle.run_id)


def close_parent(writer: RunWriter, status: str) -> None:
    """Close the run, and the children that a killed or failed unit has left open.

    Args:
        writer: Of the parent run.
        status: ``FINISHED``, ``FAILED`` or ``KILLED``.
    """
    writer.end(status)
    if writer.is_spooling:
        return
    handle = writer.handle
    client = open_client(handle.address, handle.timeout_seconds)
    asked = f"tags.`{PARENT}` = '{handle.run_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([handle.experiment_id], asked):
        client.set_terminated(run.info.run_id, status="KILLED")
    send_spool(Path(handle.spool), handle.address, client)


def close_dead_runs(client: MlflowClient, experiment: str) -> int:
    """End the runs KILLED whose process on this machine is gone; return how many.

    Args:
        client: An open client.
        experiment: Id of the experiment.
    """
    host = platform.node()
    asked = f"tags.`relearn.host` = '{host}' and attributes.status = 'RUNNING'"
    count = 0
    for run in client.search_runs([experiment], asked):
        row = {name: run.data.tags.get(f"relearn.{name}", "0") for name in _OWNER}
        if Identity.from_row(row).is_surely_dead():
            client.set_terminated(run.info.run_id, status="KILLED")
            count += 1
    return count


def identifying_tags(project: Path) -> dict[str, str]:
    """Return user, command and commit.

    Args:
        project: Root of the project.
    """
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    commit = _git(project, "rev-parse", "HEAD")
    changed = _git(project, "status", "--porcelain", "--untracked-files=no")
    tags = {
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        "relearn.command": command,
    }
    tags["mlflow.user"] = _user()
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "git.dirty": str(bool(changed)).lower()}
    return tags


def environment_fingerprint() -> str:
    """Return Python, machine and every installed package, as JSON text."""
    packages = {d.name: d.version for d in metadata.distributions() if d.name}
    machine = platform.uname()
    told = {
        "python": platform.python_version(),
        "torch": packages.get("torch", ""),
        "machine": {"system": machine.system, "release": machine.release, "type": machine.machine},
        "processor": _processor(),
        "packages": dict(sorted(packages.items())),
    }
    return json.dumps(told, indent=2)


def _processor() -> dict[str, Any]:
    import os

    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), model)
    return {"model": model, "cores": os.cpu_count()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number without a name
        return "unknown"


def _git(project: Path, *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    done = subprocess.run(  # noqa: S603 - fixed words, no shell
        [program, *arguments], cwd=project, capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip() if done.returncode == 0 else ""
