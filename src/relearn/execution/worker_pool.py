"""Worker processes by joblib: its own on one machine, Ray's on a cluster.

joblib gives up all tasks when one worker dies, and its workers outlive a parent that is killed;
both are mended here and in ``execution``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from relearn.errors import TrainingError

_PR_SET_PDEATHSIG = 1
_SECONDS_BETWEEN_LOOKS = 1.0
_watched: list[int] = []


class WorkersDiedError(Exception):
    """A worker process was killed; what it had not given back yet is lost."""


def run_in_workers(
    perform: Callable[[Any], Any], tasks: Sequence[Any], workers: int, backend: str
) -> Iterator[Any]:
    """Yield the results in any order: with loky as they come, with Ray when all are there.

    Args:
        perform: Module-level function of one task.
        tasks: Picklable.
        workers: Processes.
        backend: ``loky`` or ``ray``.

    Raises:
        WorkersDiedError: A worker was killed.
        TrainingError: Ray is not installed.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    if backend == "ray":
        _register_ray()
    order = "list" if backend == "ray" else "generator_unordered"
    try:
        with Parallel(n_jobs=workers, backend=backend, batch_size=1, return_as=order) as parallel:
            yield from parallel(delayed(perform)(task) for task in tasks)
    except TerminatedWorkerError as error:
        raise WorkersDiedError("a worker process died") from error
    except BaseException as error:
        if _is_of_ray(error):
            raise WorkersDiedError(f"a worker of Ray died ({type(error).__name__})") from error
        if backend == "loky":
            _stop_loky()
        raise


def _register_ray() -> None:
    try:
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise TrainingError(
            "execution.backend: ray is not installed; pip install 'relearn-pipelines[cluster]', "
            "or use execution.backend=loky"
        ) from error
    register_ray()


def _is_of_ray(error: BaseException) -> bool:
    """Tell whether Ray itself raised the error: a crashed worker, a lost actor."""
    return type(error).__module__.startswith("ray.")


def _stop_loky() -> None:
    """End the workers at once: an interrupted run leaves nothing behind that still trains."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def die_with_parent() -> None:
    """Make sure that this worker ends when the process that started it is gone.

    Linux sends the signal itself; elsewhere a thread looks once a second.
    """
    parent = os.getppid()
    if _watched:
        return
    _watched.append(parent)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between the two lines
            os._exit(1)
        return
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
