"""The child run of one (method, arm, seed), opened in the process that trains."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.process import this_process
from relearn.provenance import digest
from relearn.tracking.client import open_client
from relearn.tracking.writer import RunWriter, milliseconds

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from relearn.tracking.handle import RunHandle

PARENT = "mlflow.parentRunId"
_NAME, _UNIT = "mlflow.runName", "relearn.unit"


class ArmRun:
    """What a unit may do with its run; without a handle the rows stay in ``rows``.

    Attributes:
        rows: Points logged without a handle: (step, {metric: value}).
        run_id: The child run; empty without a handle.
    """

    def __init__(self, writer: RunWriter | None) -> None:
        self._writer = writer
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.run_id = writer.run_id if writer else ""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add points to the curves.

        Args:
            step: Where on the curve.
            values: Metric to value.
        """
        if self._writer is None:
            self.rows.append((step, dict(values)))
        else:
            self._writer.log(step, values)

    def artifact(self, path: Path, folder: str) -> None:
        """Upload a file of the unit; nothing without a handle.

        Args:
            path: The file.
            folder: Folder inside the run's artifacts, such as ``checkpoints``.
        """
        if self._writer is not None:
            self._writer.artifact(path, folder)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags on the run; nothing without a handle.

        Args:
            values: Name to text.
        """
        if self._writer is not None:
            self._writer.tags(values)


@contextmanager
def arm_run(
    handle: RunHandle | None, method: str, arm: str, *, seed: int, config: Any
) -> Iterator[ArmRun]:
    """Open, or take up again, the child run of one arm and seed, and close it with its outcome.

    An error ends it FAILED with the reason, an interrupt KILLED; both go on upwards. A run of the
    same unit that was killed before is continued, so that its curves go on.

    Args:
        handle: The parent run; None keeps rows in memory.
        method: Such as ``zap``.
        arm: Name of the arm.
        seed: Seed of the pair.
        config: Pydantic model or mapping; becomes the run's parameters.
    """
    if handle is None:
        yield ArmRun(None)
        return
    told = config.model_dump() if hasattr(config, "model_dump") else dict(config)
    tags = _tags(handle, method, arm, seed=seed, config=told)
    writer = _open(handle, tags)
    writer.params({"method": method, "arm": arm, "seed": seed, method: told})
    try:
        yield ArmRun(writer)
    except Exception as error:
        writer.tags({"relearn.reason": one_line(error)})
        writer.text(traceback.format_exc(), "traceback.txt")
        writer.end("FAILED")
        raise
    except BaseException:
        writer.end("KILLED")
        raise
    writer.end("FINISHED")


def one_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type.

    Args:
        error: Any exception.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


def owner_tags() -> dict[str, str]:
    """Return tags that tell which process works on a run, so that dead ones can be closed."""
    return {f"relearn.{name}": str(value) for name, value in this_process().as_row().items()}


def _tags(
    handle: RunHandle, method: str, arm: str, *, seed: int, config: Mapping[str, Any]
) -> dict[str, str]:
    unit = digest({"method": method, "arm": arm, "seed": seed, "config": config})
    return {
        PARENT: handle.run_id,
        _NAME: f"{method} {arm} seed {seed}",
        _UNIT: unit,
        "relearn.method": method,
        "relearn.arm": arm,
        "relearn.seed": str(seed),
        **owner_tags(),
    }


def _open(handle: RunHandle, tags: dict[str, str]) -> RunWriter:
    opening = {
        "run_id": "",
        "experiment_id": handle.experiment_id,
        "tags": tags,
        "time": milliseconds(),
    }
    try:
        client = open_client(handle.address, handle.timeout_seconds)
        run_id = _take_up(client, handle, tags) or _create(client, opening)
    except Exception:  # the store is away: the writer spools, the training goes on
        return RunWriter(handle, "", opening)
    return RunWriter(handle, run_id)


def _create(client: MlflowClient, opening: Mapping[str, Any]) -> str:
    run = client.create_run(
        opening["experiment_id"], start_time=opening["time"], tags=opening["tags"]
    )
    return str(run.info.run_id)


def _take_up(client: MlflowClient, handle: RunHandle, tags: Mapping[str, str]) -> str:
    """Return the id of a killed run of the same unit, opened again under the present parent."""
    asked = f"tags.`{_UNIT}` = '{tags[_UNIT]}' and attributes.status = 'KILLED'"
    found = client.search_runs([handle.experiment_id], asked, max_results=1)
    if not found:
        return ""
    run_id = str(found[0].info.run_id)
    client.update_run(run_id, status="RUNNING")
    for name, text in tags.items():
        client.set_tag(run_id, name, text)
    return run_id
