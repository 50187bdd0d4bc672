"""What can be done with a model that has learnt tasks, one function an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError
from relearn.methods.lora_ipc import operate
from relearn.pipelines.lora_ipc.training_store import save_trained
from relearn.pipelines.lora_ipc_operate.desk import Desk, Done

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.trained import Trained
    from relearn.models.checkpoint import Checkpoint


def roll_back(desk: Desk) -> Done:
    """Write the model after an earlier task, and refuse one that does not answer as then.

    Args:
        desk: Names model and task.

    Returns:
        The resulting net, the report, and rows for the ledger.

    Raises:
        ParameterError: The task has not been learnt.
        EvidenceError: Some answer differs from that of then; nothing is written.
    """
    trained = desk.model()
    task = operate.number_of(trained, desk.asked.task)
    tests = desk.tests(trained)
    kept, entry, same = operate.roll_back(desk.base, trained, task, tests)
    if not same:
        raise EvidenceError(
            f"lora_ipc_operate: the model after task {task + 1} does not answer as it did; nothing "
            "was written; look for a damaged file, or for another version of torch"
        )
    place = _keep(desk, kept, f"after_task_{task + 1}")
    told = f"rolled back to task {task + 1} of {len(trained.tasks)}, every answer bit for bit"
    report = {"told": told, "model": str(place), "tasks": len(kept.tasks), "bit_identical": True}
    checkpoint = operate.merged(desk.base, trained, task, _made(desk, trained))
    return Done(checkpoint, _with_origin(desk, trained, report), [entry])


def disable(desk: Desk) -> Done:
    """Measure the model without the modules of one task, beside the whole; nothing is changed.

    Args:
        desk: Names model and task.

    Returns:
        The resulting net, the report, and rows for the ledger.

    Raises:
        ParameterError: The task has not been learnt.
    """
    trained = desk.model()
    task = operate.number_of(trained, desk.asked.task)
    tests = desk.tests(trained)
    adapters = operate.adapters_of(desk.base, trained)
    whole = operate.accuracies(adapters, desk.base, tests)
    with adapters.disabled(task):
        without = operate.accuracies(adapters, desk.base, tests)
    told = f"without the modules of task {task + 1}: {_mean(without)} instead of {_mean(whole)}"
    report = {
        "told": told,
        "accuracy": whole,
        "accuracy_without": without,
        "exact": task == len(trained.tasks) - 1,
        "note": "later modules were trained on top of those left out: an estimate",
    }
    return Done(_merged_whole(desk, trained), _with_origin(desk, trained, report))


def merge(desk: Desk) -> Done:
    """Write the model after a task as one plain net without modules.

    Args:
        desk: Names model and task.

    Returns:
        The resulting net, the report, and rows for the ledger.

    Raises:
        ParameterError: The task has not been learnt.
    """
    trained = desk.model()
    task = operate.number_of(trained, desk.asked.task)
    checkpoint = operate.merged(desk.base, trained, task, _made(desk, trained))
    told = f"merged the model after task {task + 1} into one net without modules"
    return Done(checkpoint, _with_origin(desk, trained, {"told": told, "tasks": task + 1}))


def export_peft(desk: Desk) -> Done:
    """Write the model after a task as an adapter for huggingface PEFT.

    Args:
        desk: Names model and task.

    Returns:
        The resulting net, the report, and rows for the ledger.

    Raises:
        ParameterError: The task has not been learnt.
    """
    from relearn.methods.lora_ipc.peft_format import export_peft as write

    trained = desk.model()
    task = operate.number_of(trained, desk.asked.task)
    adapters = operate.adapters_of(desk.base, trained)
    place = desk.folder / "peft" / f"{trained.name}.seed{trained.seed}.task{task + 1}"
    write(adapters, place, task)
    told = f"wrote the model after task {task + 1} as a PEFT adapter to {place}"
    report = {"told": told, "adapter": str(place), "tasks": task + 1}
    return Done(_merged_whole(desk, trained), _with_origin(desk, trained, report))


def _merged_whole(desk: Desk, trained: Trained) -> Checkpoint:
    last = len(trained.tasks) - 1
    return operate.merged(desk.base, trained, last, _made(desk, trained))


def _keep(desk: Desk, trained: Trained, name: str) -> Path:
    place = desk.folder / "models" / f"{trained.name}.seed{trained.seed}.{name}"
    save_trained(trained, place)
    return place


def _made(desk: Desk, trained: Trained) -> dict[str, Any]:
    return {
        "method": "lora_ipc",
        "arm": desk.asked.arm,
        "seed": trained.seed,
        "stream": trained.stream,
        "action": desk.asked.action,
        "steps_since_intervention": trained.steps,
    }


def _with_origin(desk: Desk, trained: Trained, report: Mapping[str, Any]) -> dict[str, Any]:
    origin = {"action": desk.asked.action, "from": str(desk.source), "training": trained.name}
    return {**origin, "seed": trained.seed, **report}


def _mean(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{100 * sum(there) / len(there):.1f} %" if there else "not measured"


def add_task(desk: Desk) -> Done:
    """Learn the classes of a folder as one further task, and say what that did to the others.

    Args:
        desk: Names model and folder.

    Returns:
        The resulting net, the report, and rows for the ledger.

    Raises:
        ParameterError: There is no room beside the other modules.
        DataError: The folder cannot be used, a class is known, or has too few images.
        TrainingError: The loss is not finite.
    """
    from relearn.methods.lora_ipc.further import further_task, learn_further
    from relearn.pipelines.lora_ipc_operate.images import keep_tests, read_images
    from relearn.tracking import arm_run, current_run
    from relearn.training.device import device_of

    trained, asked = desk.model(), desk.asked
    images = read_images(trained.shape, asked.source_path, desk.data)
    task = further_task(trained, images, test_share=asked.test_share, seed=asked.seed)
    tests = desk.tests(trained)
    before = operate.accuracies(operate.adapters_of(desk.base, trained), desk.base, tests)
    told = desk.config.model_dump(mode="json")
    with arm_run(
        current_run(), method="lora_ipc_operate", arm=trained.name, seed=trained.seed, config=told
    ) as run:
        found = learn_further(
            desk.base,
            trained,
            task,
            desk.config,
            tests=tests,
            log=run.log,
            device=device_of(desk.execution, desk.base.architecture),
        )
    place = _keep(desk, found, f"with_task_{len(found.tasks)}")
    keep_tests(place, [*tests, task.test])
    after = operate.accuracies(
        operate.adapters_of(desk.base, found), desk.base, [*tests, task.test]
    )
    report = {
        "told": f"learnt task {len(found.tasks)} ({len(task.names)} classes); all tasks "
        f"{_mean(after)}, the earlier ones {_mean(after[:-1])} instead of {_mean(before)}",
        "model": str(place),
        "tasks": len(found.tasks),
        "classes": list(task.names),
        "accuracy_before": before,
        "accuracy": after,
    }
    rows = found.ledger[len(trained.interventions) :]
    return Done(_merged_whole(desk, found), _with_origin(desk, found, report), rows)


def import_peft(desk: Desk) -> Done:
    """Take an adapter that PEFT has trained in as one further task.

    Args:
        desk: Names model, folder and classes.

    Returns:
        The resulting net, the report, and rows for the ledger.

    Raises:
        ParameterError: It does not fit beside the other modules, or its classes are not named.
        DataError: A class is known already.
        CheckpointError: The files are missing or damaged, or of another backbone.
    """
    from relearn.methods.lora_ipc.further import take_in

    trained = desk.model()
    folder = Path(desk.asked.source_path).expanduser()
    found = take_in(desk.base, trained, folder, desk.asked.names)
    place = _keep(desk, found, f"with_task_{len(found.tasks)}")
    report = {
        "told": f"took the adapter in as task {len(found.tasks)}",
        "model": str(place),
        "tasks": len(found.tasks),
        "classes": list(desk.asked.names),
        "note": "its classes have no statistics: no alignment and no task inference with them",
    }
    return Done(_merged_whole(desk, found), _with_origin(desk, found, report))


ACTIONS: Mapping[str, Callable[[Desk], Done]] = {
    "roll_back": roll_back,
    "disable": disable,
    "merge": merge,
    "export_peft": export_peft,
    "add_task": add_task,
    "import_peft": import_peft,
}
"""Action to what does it."""
