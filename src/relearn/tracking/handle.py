"""The handle under which a run travels to nodes and worker processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunHandle:
    """What another process needs to record under the present run; picklable.

    Attributes:
        address: Absolute tracking address.
        experiment_id: MLflow's experiment.
        run_id: The parent run.
        spool: Folder for what cannot be sent, absolute.
        upload_checkpoints: Whether checkpoints are copied or only named.
        timeout_seconds: Seconds after which the address is given up.
    """

    address: str
    experiment_id: str
    run_id: str
    spool: str
    upload_checkpoints: bool = True
    timeout_seconds: int = 5


_published: list[RunHandle] = []


def publish_run(handle: RunHandle | None) -> None:
    """Make ``handle`` the current run of this process; None takes it away.

    Args:
        handle: The parent run that the hook has opened.
    """
    _published[:] = [] if handle is None else [handle]


def current_run() -> RunHandle | None:
    """Return the handle of the run that the hook has opened, None outside of one."""
    return _published[0] if _published else None
