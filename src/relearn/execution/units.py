"""Units of work over processes: each runs once, a dead worker's is run again, finished ones never.

A unit has a folder of its own, named by its key and by the digest of what decides its result. Its
marker is written last and lists the digest of every file, so that what is half-written or damaged
is never taken for whole.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import LockedError, RelearnError, TrainingError
from relearn.execution.code_digest import code_digest
from relearn.execution.unit_folder import UnitFolder

if TYPE_CHECKING:
    from relearn.training.config import ExecutionConfig

log = logging.getLogger(__name__)

RunUnit = Callable[[Any, Path], None]
_ATTEMPTS = 2
_NAMED = 4
"""Units that failed and are named in a message; of the others it says how many."""


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes:
        key: Readable and unique among the units of a call, such as ``iid_zap.seed0``; names the
            folder, so letters, digits, dot, dash and underscore only.
        address: What decides the result, part to digest, as from ``address_of``.
        payload: Handed to ``run_unit``; picklable.
    """

    key: str
    address: Mapping[str, str]
    payload: Any


@dataclass(frozen=True)
class Outcome:
    """What came of a unit.

    Attributes:
        key: The unit's key.
        ok: Whether its files are whole.
        reason: One line where they are not.
        path: The unit's folder.
        reused: Whether it had been finished before.
    """

    key: str
    ok: bool
    reason: str
    path: Path
    reused: bool


def address_of(*, config: str, data: str, floors: Sequence[str]) -> dict[str, str]:
    """Return what decides the result of a unit, part by part.

    Args:
        config: Digest of its configuration.
        data: Digest of its data.
        floors: Packages below ``relearn`` whose source it uses, such as ``methods.zap``.
    """
    from importlib.metadata import version

    return {
        "configuration": config,
        "data": data,
        "code": code_digest(floors),
        "torch": version("torch"),
    }


def map_units(
    run_unit: RunUnit,
    units: Sequence[Unit],
    *,
    folder: Path,
    workers: int,
    threads: int,
    backend: str = "loky",
    describe: str = "",
) -> list[Outcome]:
    """Run the units that are not finished yet, and return the outcomes in the order of ``units``.

    A unit that raises is marked failed and the others go on; units of a worker that died are run
    once more.

    Args:
        run_unit: Module-level function of payload and folder; writes its files into the folder.
        units: With different keys.
        folder: Parent of all unit folders.
        workers: Processes; 1 runs everything in this one.
        threads: Torch threads of each worker.
        backend: ``loky`` for processes of this machine, ``ray`` for a cluster.
        describe: Text of the progress bar.

    Raises:
        LockedError: Another living process holds one of the units.
        TrainingError: The backend is not installed.
    """
    from relearn.training.progress import progress_bar

    places = {unit.key: UnitFolder.of(folder, unit.key, unit.address) for unit in units}
    if len(places) != len(units):
        raise ValueError("map_units: keys of units must differ")
    found = {key: Outcome(key, True, "", place.path, True) for key, place in places.items()}
    todo = [unit for unit in units if not places[unit.key].is_finished()]
    for place in places.values():
        place.drop_dead_lock()
    for unit in todo:
        places[unit.key].refuse_living_holder()
        places[unit.key].say_why()
    tasks = [_Task(run_unit, unit, places[unit.key], threads, backend) for unit in todo]
    with progress_bar(
        description=describe, total=len(units), initial=len(units) - len(todo)
    ) as bar:
        for outcome in _run(tasks, workers=min(workers, len(tasks)), backend=backend):
            found[outcome.key] = outcome
            bar.update(1)
            _report(outcome, describe)
    return [found[unit.key] for unit in units]


def run_all(
    run_unit: RunUnit,
    units: Sequence[Unit],
    execution: ExecutionConfig,
    *,
    folder: Path,
    describe: str,
) -> list[Outcome]:
    """Run the units that are not finished yet as the run is set up, and return all outcomes.

    Args:
        run_unit: As for ``map_units``.
        units: As for ``map_units``; none gives none.
        execution: Processes, threads and backend.
        folder: Parent of all unit folders.
        describe: Text of the progress bar, such as ``zap: arms``; up to the colon it begins the
            message where units fail.

    Raises:
        TrainingError: A unit failed; the others are kept.
    """
    outcomes = map_units(
        run_unit,
        units,
        folder=folder,
        workers=execution.workers,
        threads=execution.threads,
        backend=execution.backend,
        describe=describe,
    )
    require_all(outcomes, what=describe.partition(":")[0])
    return outcomes


def require_all(outcomes: Iterable[Outcome], *, what: str) -> None:
    """Check that every unit is whole.

    Args:
        outcomes: As from ``map_units``.
        what: Begins the message, such as ``zap``.

    Raises:
        TrainingError: Names the units that failed, with the reason of the first.
    """
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if not failed:
        return
    names = ", ".join(outcome.key for outcome in failed[:_NAMED])
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    raise TrainingError(
        f"{what}: {len(failed)} unit(s) failed ({names}{more}): {failed[0].reason}; "
        "finished units are kept, the same command goes on from there"
    )


@dataclass(frozen=True)
class _Task:
    """What travels to a worker."""

    run_unit: RunUnit
    unit: Unit
    place: UnitFolder
    threads: int
    backend: str

    def outcome(self, reason: str) -> Outcome:
        return Outcome(self.unit.key, not reason, reason, self.place.path, False)


def _run(tasks: Sequence[_Task], *, workers: int, backend: str) -> Iterable[Outcome]:
    if workers <= 1 and backend == "loky":
        yield from (_perform(task) for task in tasks)
        return
    from relearn.execution.worker_pool import WorkersDiedError, run_in_workers

    left = {task.unit.key: task for task in tasks}
    deaths: Counter[str] = Counter()
    while left:
        # A unit whose worker died gets a worker to itself when the others are through, so that
        # it cannot take them along a second time.
        untried = [task for key, task in left.items() if not deaths[key]]
        group = untried or [next(iter(left.values()))]
        try:
            for outcome in run_in_workers(_perform_guarded, group, workers, backend):
                del left[outcome.key]
                yield outcome
        except WorkersDiedError as error:
            lost = [task for task in group if task.unit.key in left]
            begun = [task for task in lost if task.place.is_begun()] or lost
            deaths.update(task.unit.key for task in begun)
            log.warning("%s; run once more: %s", error, ", ".join(t.unit.key for t in begun))
        for key in [key for key, count in deaths.items() if count == _ATTEMPTS and key in left]:
            yield left.pop(key).outcome("its worker died twice (killed, or out of memory)")


def _perform_guarded(task: _Task) -> Outcome:
    """Run a task in a worker: with its own threads, and not longer than the parent lives."""
    from relearn.execution.worker_pool import die_with_parent

    if task.backend == "loky":  # Ray ends its workers itself, and their parent is its own daemon
        die_with_parent()
    import torch

    torch.set_num_threads(task.threads)
    return _perform(task)


def _perform(task: _Task) -> Outcome:
    if task.place.is_finished():  # by a worker that died before it could say so
        return task.outcome("")
    try:
        with task.place.held():
            task.run_unit(task.unit.payload, task.place.path)
            task.place.finish()
    except LockedError:
        raise
    except Exception as error:
        task.place.note_failure(error)
        return task.outcome(_reason(error))
    return task.outcome("")


def _reason(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return line if isinstance(error, RelearnError) else f"{type(error).__name__}: {line}"


def _report(outcome: Outcome, describe: str) -> None:
    if outcome.ok:
        log.info("%s: %s done", describe, outcome.key)
    else:
        log.error("%s: %s failed: %s", describe, outcome.key, outcome.reason)
