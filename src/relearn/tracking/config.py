"""What may be set under ``tracking`` in the parameters. Imports no mlflow."""

from __future__ import annotations

from pydantic import Field

from relearn.strict import Strict


class TrackingConfig(Strict):
    """Where runs are recorded.

    Attributes:
        enabled: Off: nothing is recorded and MLflow is not imported.
        address: Tracking address; empty = an SQLite file under the storage root.
        experiment: Name of the experiment.
        upload_checkpoints: Off: checkpoints are logged by path and digest and not copied.
        timeout_seconds: Seconds after which an address that does not answer is given up.
    """

    enabled: bool
    address: str
    experiment: str = Field(min_length=1)
    upload_checkpoints: bool
    timeout_seconds: int = Field(ge=1, le=60)
