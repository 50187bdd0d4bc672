"""What can be done with a model that has learnt tasks, one function an action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError
from relearn.methods.lora_ipc import operate
from relearn.pipelines.lora_ipc.training_store import load_trained, save_trained

if TYPE_CHECKING:
    from relearn.data.config import DataConfig
    from relearn.data.images import Stream
    from relearn.evaluation.records import Intervention
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.methods.lora_ipc.operate_config import LoraIpcOperateConfig
    from relearn.methods.lora_ipc.trained import Trained
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.config import ExecutionConfig


@dataclass(frozen=True)
class Desk:
    """What an action finds before it.

    Attributes:
        base: The backbone.
        stream: Test images of the tasks.
        source: Folder of the model it begins with.
        config: Knobs that the model was trained with.
        asked: What to do.
        data: How images of a new task are read.
        execution: Device and precision.
        folder: Where models and adapters are written.
    """

    base: Checkpoint
    stream: Stream
    source: Path
    config: LoraIpcConfig
    asked: LoraIpcOperateConfig
    data: DataConfig
    execution: ExecutionConfig
    folder: Path

    def model(self) -> Trained:
        """Return the model it begins with.

        Raises:
            CheckpointError: It is missing or damaged.
        """
        return load_trained(self.source)


@dataclass(frozen=True)
class Done:
    """What came of an action.

    Attributes:
        checkpoint: The resulting model as one plain net.
        report: What was done, in plain data; ``told`` is one line.
        interventions: Rows for the ledger.
    """

    checkpoint: Checkpoint
    report: Mapping[str, Any]
    interventions: Sequence[Intervention] = field(default_factory=tuple)


def roll_back(desk: Desk) -> Done:
    """Write the model after an earlier task, and refuse one that does not answer as then.

    Args:
        desk: Names model and task.

    Raises:
        ParameterError: The task has not been learnt.
        EvidenceError: Some answer differs from that of then; nothing is written.
    """
    trained = desk.model()
    task = operate.number_of(trained, desk.asked.task)
    tests = operate.tests_of(trained, desk.stream)
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

    Raises:
        ParameterError: The task has not been learnt.
    """
    trained = desk.model()
    task = operate.number_of(trained, desk.asked.task)
    tests = operate.tests_of(trained, desk.stream)
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


ACTIONS: Mapping[str, Callable[[Desk], Done]] = {
    "roll_back": roll_back,
    "disable": disable,
    "merge": merge,
    "export_peft": export_peft,
}
"""Action to what does it."""
