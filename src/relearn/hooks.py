"""Our one hook: checks all parameters, opens the MLflow run, and ends it with what came of it."""

from __future__ import annotations

import atexit
import json
import logging
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl

from relearn.errors import DataError, RelearnError
from relearn.faults import is_expected, keep_traceback, line_of
from relearn.parameters import Parameters, check_parameters
from relearn.tracking import publish_run

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from relearn.tracking.writer import RunWriter

log = logging.getLogger(__name__)

_DATA = ("images", "stream", "base")
_TERMINATED = 128 + signal.SIGTERM


class RunHooks:
    """State of the one run of this process; everything is reset when the next one begins."""

    def __init__(self) -> None:
        self.parameters: Parameters | None = None
        self._context: KedroContext | None = None
        self._catalog: CatalogProtocol | None = None
        self._writer: RunWriter | None = None
        self._nodes = (0, 0)
        self._began = 0.0
        self._told: set[str] = set()
        self._signal_before: Any = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check the whole tree of parameters and put the typed one in its place.

        Raises:
            click.ClickException: One line for each fault.
        """
        self._context = context
        try:
            _refuse_storage_parameter(context)
            raw = context.config_loader["parameters"]
            self.parameters = check_parameters(raw, context.project_path)
        except RelearnError as error:
            raise click.ClickException(str(error)) from None
        context.config_loader["parameters"] = self.parameters.blocks()

    @hook_impl
    def before_pipeline_run(
        self, run_params: Mapping[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Refuse what cannot work, then open the run.

        Raises:
            click.ClickException: An input is missing, or the tracking address does not answer.
        """
        self._catalog, self._told = catalog, set()
        self._nodes, self._began = (0, len(pipeline.nodes)), time.perf_counter()
        try:
            refuse_missing_inputs(pipeline, catalog)
            self._open(run_params)
        except RelearnError as error:
            raise click.ClickException(str(error)) from error
        self._catch_termination()

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Record which data the run reads."""
        self._tell_data(dataset_name, data)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Record which data the run makes, and upload what the catalog marks as an artifact."""
        self._tell_data(dataset_name, data)
        if self._writer is None or self._catalog is None:
            return
        dataset: Any = self._catalog.get(dataset_name)
        metadata = getattr(dataset, "metadata", None) or {}
        folder = metadata.get("mlflow", {}).get("artifact")
        for path in dataset.files if folder else ():
            self._writer.artifact(path, folder)

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Say how far the run is."""
        done, total = self._nodes[0] + 1, self._nodes[1]
        self._nodes = (done, total)
        seconds = time.perf_counter() - self._began
        log.info("%d/%d  %s  (%.1f s so far)", done, total, node.name, seconds)
        if self._writer is not None:
            self._writer.log(done, {"progress": done / total})
            self._writer.flush()

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the run FINISHED."""
        self._close("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the run FAILED with the reason and the traceback.

        Raises:
            click.ClickException: Always: the one line that the user reads.
        """
        raise self.fault(error) from error

    def fault(self, error: Exception) -> click.ClickException:
        """Return the one line for an error, after ending an open run FAILED.

        Args:
            error: What was raised.
        """
        line = line_of(error)
        text = "".join(traceback.format_exception(error))
        if self._writer is not None:
            self._writer.tags({"relearn.reason": line})
            self._writer.text(text, "traceback.txt")
        self._close("FAILED")
        if not is_expected(error) and self.parameters is not None:
            kept = keep_traceback(error, Path(self.parameters.storage.folder) / "logs")
            line += f" (traceback: {kept})" if kept else ""
        return click.ClickException(line)

    def stop(self) -> None:
        """End an open run KILLED: the process was told to stop."""
        self._close("KILLED")

    def _open(self, run_params: Mapping[str, Any]) -> None:
        parameters, context = self.parameters, self._context
        if parameters is None or context is None or not parameters.tracking.enabled:
            return
        from relearn.tracking.parent import (
            environment_fingerprint,
            identifying_tags,
            open_parent,
            open_store,
        )

        store = open_store(parameters.tracking, Path(parameters.storage.folder).parent)
        pipelines = run_params.get("pipeline_names") or ["__default__"]
        tags = _kedro_tags(run_params, context, pipelines) | identifying_tags(context.project_path)
        name = f"{', '.join(sorted(pipelines))} ({parameters.profile})"
        self._writer = open_parent(store, name=name, tags=tags)
        publish_run(self._writer.handle)
        atexit.register(self.stop)
        self._writer.params(parameters.model_dump())
        self._writer.text(environment_fingerprint(), "environment.json")

    def _close(self, status: str) -> None:
        writer, self._writer = self._writer, None
        publish_run(None)
        if self._signal_before is not None:
            signal.signal(signal.SIGTERM, self._signal_before)
            self._signal_before = None
        if writer is None:
            return
        atexit.unregister(self.stop)
        from relearn.tracking.parent import close_parent

        try:
            close_parent(writer, status)
        except Exception as error:  # the work is done; its record waits in the store or the spool
            log.warning("tracking: the run could not be closed well (%s)", line_of(error))

    def _catch_termination(self) -> None:
        """Let SIGTERM unwind the stack, so that runs end KILLED and locks are given back."""
        if threading.current_thread() is threading.main_thread():
            self._signal_before = signal.signal(signal.SIGTERM, _unwind)

    def _tell_data(self, name: str, data: Any) -> None:
        if self._writer is None or self._catalog is None or name not in _DATA or name in self._told:
            return
        self._told.add(name)
        dataset: Any = self._catalog.get(name)
        self._writer.data(name, data.digest, str(dataset.path))


def _unwind(number: int, frame: Any) -> None:
    raise SystemExit(_TERMINATED)


def _refuse_storage_parameter(context: KedroContext) -> None:
    """Refuse what would split the files of a run over two folders.

    Raises:
        DataError: ``storage`` was given on the command line.
    """
    if "storage" in (context.config_loader.runtime_params or {}):
        raise DataError(
            "storage: cannot be set by --params; set the environment variable RELEARN_DATA for "
            "the root, and --params profile=<name> for the folder in it"
        )


def refuse_missing_inputs(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Check that everything the pipeline reads and does not make is there.

    Args:
        pipeline: What is about to run.
        catalog: Its datasets.

    Raises:
        DataError: Names the file and the pipeline to run first.
    """
    for name in sorted(pipeline.inputs()):
        dataset: Any = catalog.get(name)
        if not hasattr(dataset, "remedy") or getattr(dataset, "optional", False):
            continue
        if not dataset.exists():
            raise DataError(f"{name}: {dataset.path} is not there; {dataset.remedy('first')}")


def _kedro_tags(
    run_params: Mapping[str, Any], context: KedroContext, pipelines: list[str]
) -> dict[str, str]:
    return {
        "kedro.env": str(context.env or "base"),
        "kedro.pipelines": ",".join(sorted(pipelines)),
        "kedro.run_id": str(run_params.get("run_id", "")),
        "kedro.runtime_params": json.dumps(run_params.get("runtime_params") or {}, default=str),
    }
