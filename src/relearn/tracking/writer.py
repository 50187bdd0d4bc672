"""Writes to one run, in batches; what the store does not take is spooled and training goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.provenance import digest_file
from relearn.tracking.client import open_client
from relearn.tracking.spool import Spool, apply_event

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from relearn.tracking.handle import RunHandle

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""Artifact folder that ``tracking.upload_checkpoints: false`` keeps out."""

_SECONDS_BETWEEN_BATCHES = 1.0


def milliseconds() -> int:
    """Return the present time as MLflow counts it."""
    return int(time.time() * 1000)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as one level with dotted names, each as text.

    Args:
        values: Mapping of plain values, mappings, or pydantic models.
        prefix: Put before each name.
    """
    flat: dict[str, str] = {}
    for name, value in values.items():
        plain = value.model_dump() if hasattr(value, "model_dump") else value
        if isinstance(plain, Mapping):
            flat |= flatten(plain, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(plain)
    return flat


class RunWriter:
    """Everything that is written to one open run.

    Args:
        handle: Where to write, and how patient to be.
        run_id: The run; empty where the store was gone before it could be opened.
        opening: What ``send_spool`` needs to open such a run later.
    """

    def __init__(
        self, handle: RunHandle, run_id: str, opening: Mapping[str, Any] | None = None
    ) -> None:
        self.handle, self.run_id = handle, run_id
        self._opening = dict(opening or {"run_id": run_id})
        self._rows: list[tuple[str, float, int, int]] = []
        self._last = time.monotonic()
        self._spool: Spool | None = None
        self._client: MlflowClient | None = None
        if not run_id:
            self._give_up("the run could not be opened")

    @property
    def is_spooling(self) -> bool:
        """Whether the store was lost and rows go to a file."""
        return self._spool is not None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add points to the curves; sent about once a second.

        Args:
            step: Where on the curve.
            values: Metric to value.
        """
        now = milliseconds()
        self._rows += [(name, float(value), now, int(step)) for name, value in values.items()]
        if time.monotonic() - self._last > _SECONDS_BETWEEN_BATCHES:
            self.flush()

    def flush(self) -> None:
        """Send the points that wait."""
        rows, self._rows = self._rows, []
        if rows:
            self._write({"event": "metrics", "rows": rows})
        self._last = time.monotonic()

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters; nested ones get dotted names.

        Args:
            values: Name to value.
        """
        self._write({"event": "params", "values": flatten(values)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags.

        Args:
            values: Name to text.
        """
        self._write({"event": "tags", "values": dict(values)})

    def text(self, text: str, name: str) -> None:
        """Keep a text as an artifact.

        Args:
            text: Its content.
            name: Path inside the run's artifacts.
        """
        self._write({"event": "text", "text": text, "name": name})

    def artifact(self, path: Path, folder: str) -> None:
        """Upload a file; a checkpoint that is not to be uploaded is named with its digest.

        Args:
            path: The file.
            folder: Folder inside the run's artifacts.
        """
        if folder == CHECKPOINTS and not self.handle.upload_checkpoints:
            self.tags({f"checkpoint.{path.name}": f"{path} sha256:{digest_file(path)}"})
            return
        self._write({"event": "artifact", "path": str(path), "folder": folder})

    def data(self, name: str, digest: str, source: str) -> None:
        """Record which data the run used, as MLflow's dataset input and as a tag.

        Args:
            name: Name of the catalog entry.
            digest: Digest of its content.
            source: Path of the file.
        """
        self.tags({f"data.{name}": digest})
        event = {"event": "input", "name": name, "digest": digest[:32], "source": source}
        self._write(event)

    def end(self, status: str) -> None:
        """Close the run.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        """
        self.flush()
        self._write({"event": "end", "status": status, "time": milliseconds()})

    def _write(self, event: dict[str, Any]) -> None:
        if self._spool is None:
            try:
                apply_event(self._open(), self.run_id, event)
            except Exception as error:  # tracking that fails never loses a training
                self._give_up(str(error) or type(error).__name__)
            else:
                return
        if self._spool is not None:
            self._spool.write(event)

    def _open(self) -> MlflowClient:
        if self._client is None:
            self._client = open_client(self.handle.address, self.handle.timeout_seconds)
        return self._client

    def _give_up(self, reason: str) -> None:
        """Go over to the spool without trying again: a dead store must not slow training."""
        self._spool = Spool(Path(self.handle.spool), self.handle.address, self._opening)
        line = reason.splitlines()[0][:160]
        log.warning(
            "tracking lost (%s); rows are kept in %s and sent later", line, self._spool.path
        )
