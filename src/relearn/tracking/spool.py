"""Rows that could not be sent, kept in files until the store answers again.

One file for each run, one JSON object a line, in order. ``open`` is the first line; a file whose
writer lives still is left alone.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import write_text
from relearn.process import Identity, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
_REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST")


class Spool:
    """Appends the events of one run to a file of its own.

    Args:
        folder: Where spool files lie.
        address: Tracking address that the events are meant for.
        opening: What opens the run: its ``run_id``, or what is needed to create it.
    """

    def __init__(self, folder: Path, address: str, opening: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{uuid.uuid4().hex}.jsonl"
        writer = this_process().as_row()
        self.write({"event": "open", "address": address, "writer": writer, **opening})

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event and push it to the disk.

        Args:
            event: JSON-like, with the key ``event``.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, default=str) + "\n")


def send_spool(folder: Path, address: str, client: MlflowClient) -> int:
    """Send what earlier runs could not, and return the number of runs that are complete now.

    A file that cannot be sent stays for the next time; equal rows sent twice are kept once.

    Args:
        folder: Where spool files lie.
        address: Only files meant for this address are sent.
        client: An open client.
    """
    sent = 0
    for path in sorted(folder.glob("*.jsonl")):
        events = list(_events(path))
        if not events or not _is_ours(events, address):
            continue
        try:
            _send(path, events, client)
        except Exception as error:  # the store is away again: nothing is lost, it stays spooled
            log.warning("tracking: %s is kept for later (%s)", path.name, error)
            return sent
        path.unlink()
        sent += 1
    return sent


def _events(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return  # the writer was killed inside this line


def _is_ours(events: list[dict[str, Any]], address: str) -> bool:
    opening = events[0]
    writer = Identity.from_row(opening["writer"])
    ended = events[-1]["event"] == "end"
    mine = writer == this_process()
    return opening["address"] == address and (ended or mine or writer.is_surely_dead())


def _send(path: Path, events: list[dict[str, Any]], client: MlflowClient) -> None:
    opening, rest = events[0], events[1:]
    if not opening.get("run_id"):
        run = client.create_run(
            opening["experiment_id"], start_time=opening["time"], tags=opening["tags"]
        )
        opening["run_id"] = run.info.run_id
        # Written down at once, so that a second attempt goes on with this run.
        write_text(path, "".join(json.dumps(e, default=str) + "\n" for e in events))
    for event in rest:
        _apply(client, opening["run_id"], event)
    if not rest or rest[-1]["event"] != "end":
        client.set_terminated(opening["run_id"], status="KILLED")


def _apply(client: MlflowClient, run_id: str, event: Mapping[str, Any]) -> None:
    from mlflow.exceptions import MlflowException

    try:
        apply_event(client, run_id, event)
    except MlflowException as error:
        if error.error_code not in _REFUSED:
            raise
        log.warning("tracking: a spooled %s was refused (%s)", event["event"], error)


def apply_event(client: MlflowClient, run_id: str, event: Mapping[str, Any]) -> None:
    """Send one event to the store.

    Args:
        client: An open client.
        run_id: The run it belongs to.
        event: ``metrics`` (rows of key, value, time, step), ``params``, ``tags`` (mappings),
            ``artifact`` (path, folder), ``text`` (text, name), ``input`` (name, digest, source) or
            ``end`` (status, time).
    """
    from mlflow.entities import Metric, Param, RunTag

    kind = event["event"]
    if kind == "metrics":
        rows = [Metric(str(k), float(v), int(t), int(s)) for k, v, t, s in event["rows"]]
        for start in range(0, len(rows), 1000):  # MLflow's largest batch
            client.log_batch(run_id, metrics=rows[start : start + 1000])
    elif kind == "params":
        params = [Param(k, str(v)[:6000]) for k, v in event["values"].items()]
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
    elif kind == "tags":
        client.log_batch(
            run_id, tags=[RunTag(k, str(v)[:8000]) for k, v in event["values"].items()]
        )
    elif kind == "artifact":
        _send_file(client, run_id, event)
    elif kind == "text":
        client.log_text(run_id, event["text"], event["name"])
    elif kind == "input":
        _send_input(client, run_id, event)
    elif kind == "end":
        client.set_terminated(run_id, status=event["status"], end_time=event["time"])


def _send_file(client: MlflowClient, run_id: str, event: Mapping[str, Any]) -> None:
    if not Path(event["path"]).exists():
        log.warning("tracking: %s is gone and was not uploaded", event["path"])
        return
    client.log_artifact(run_id, event["path"], event["folder"] or None)


def _send_input(client: MlflowClient, run_id: str, event: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput

    source = json.dumps({"path": event["source"]})
    data = Dataset(event["name"], event["digest"], source_type="local", source=source)
    client.log_inputs(run_id, datasets=[DatasetInput(data, tags=[])])
