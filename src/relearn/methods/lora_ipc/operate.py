"""What is done with a model that has learnt tasks: look, roll back, leave one out, merge.

A model is a ``Trained`` and the backbone it was trained on; neither is changed, every action gives
a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from relearn.errors import ParameterError
from relearn.evaluation.classification import accuracy_of, predict
from relearn.methods.lora_ipc import ledger
from relearn.methods.lora_ipc.merging import merge
from relearn.methods.lora_ipc.state import restore_state, state_of
from relearn.methods.lora_ipc.task_inference import only_classes
from relearn.models.checkpoint import Checkpoint, build, capture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from relearn.data.images import Split, Stream
    from relearn.evaluation.records import Intervention
    from relearn.methods.lora_ipc.adapters import Adapters
    from relearn.methods.lora_ipc.trained import Trained


def adapters_of(base: Checkpoint, trained: Trained) -> Adapters:
    """Return the backbone with all modules; it answers as after the last task.

    Args:
        base: The backbone that the modules were made on.
        trained: A training with a module each task.

    Raises:
        ParameterError: The training has no module each task.
        CheckpointError: It was made on another backbone.
    """
    header = header_of(trained)
    where = f"training {trained.name}, seed {trained.seed}"
    return restore_state(build(base).eval(), trained.body["tensors"], header, where=where)


def header_of(trained: Trained) -> dict[str, Any]:
    """Return what is told of the modules: settings, classes, matrices, digest of the backbone.

    Args:
        trained: A training with a module each task.

    Raises:
        ParameterError: The training has no module each task.
    """
    if "header" not in trained.body:
        raise ParameterError(
            f"lora_ipc_operate.arm: {trained.name} has no module for each task, so that there is "
            "nothing to add, drop or export; take lorac_ipc or lorac"
        )
    header: dict[str, Any] = trained.body["header"]
    return header


def tests_of(trained: Trained, stream: Stream) -> list[Split | None]:
    """Return for each task the stream's test images of its classes; None where it has none.

    Args:
        trained: Its classes are found in the stream by name.
        stream: With the split ``transfer_query``.
    """
    from relearn.data.images import Split

    query = stream.split("transfer_query")
    number = {name: place for place, name in enumerate(stream.class_names)}
    there = set(query.classes.tolist())
    found: list[Split | None] = []
    for labels in trained.tasks:
        places = [number.get(trained.class_names[label], -1) for label in labels]
        if not set(places) <= there:
            found.append(None)
            continue
        own = query.of_classes(torch.tensor(places))
        found.append(Split(own.images, torch.tensor(labels)[own.labels]))
    return found


def accuracies(
    adapters: Adapters, base: Checkpoint, tests: Sequence[Split | None]
) -> list[float | None]:
    """Return accuracy on each task among all classes known; None where there are no images.

    Args:
        adapters: Answers as it stands.
        base: Normalises the images.
        tests: For each task its test images.
    """
    seen = [label for classes in adapters.classes for label in classes]
    return [
        None
        if split is None
        else accuracy_of(only_classes(answers(adapters, base, split), seen), split.labels)
        for split in tests
    ]


def answers(adapters: Adapters, base: Checkpoint, split: Split) -> Tensor:
    """Return the logits on some images, float32, shape (images, outputs).

    Args:
        adapters: Answers as it stands.
        base: Normalises the images.
        split: The images.
    """
    shape = base.architecture
    return predict(adapters.model, split.images, mean=shape.mean, std=shape.std)


def roll_back(
    base: Checkpoint, trained: Trained, task: int, tests: Sequence[Split | None]
) -> tuple[Trained, Intervention, bool]:
    """Return the model after a task, and whether it answers as then, bit for bit.

    Args:
        base: The backbone.
        trained: A training with a module each task.
        task: Number of a finished task, from 0; -1 leaves the backbone alone.
        tests: Images on which the answers of then and now are compared.

    Raises:
        ParameterError: The task has not been learnt, or lies past the first.
        CheckpointError: The backbone is not that of the training.
    """
    adapters = adapters_of(base, trained)
    images = [split for split in tests if split is not None]
    adapters.use(task)
    before = [answers(adapters, base, split) for split in images]
    row = {"arm": trained.name, "seed": trained.seed, "step": trained.steps, "epoch": task + 1}
    entry = ledger.roll_back(adapters, task, row=row)
    tensors, header = state_of(adapters)
    kept = replace(
        _shortened(trained, adapters),
        body={"tensors": tensors, "header": header},
        interventions=[*trained.interventions, entry.as_row()],
    )
    again = adapters_of(base, kept)
    after = [answers(again, base, split) for split in images]
    same = all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    return kept, entry, same


def merged(base: Checkpoint, trained: Trained, task: int, told: Mapping[str, Any]) -> Checkpoint:
    """Return one plain net that answers bit for bit as the model after a task.

    Args:
        base: The backbone.
        trained: A training with a module each task.
        task: Number of a finished task, from 0; -1 is the backbone with its first last layer.
        told: What made it; the names of the classes are added.

    Raises:
        ParameterError: The task has not been learnt.
        CheckpointError: The backbone is not that of the training.
    """
    adapters = adapters_of(base, trained)
    net = merge(adapters, task)
    learnt = sum(map(len, adapters.classes[: task + 1]))
    names = {"class_names": list(trained.class_names[:learnt])}
    return capture(net, trained.shape, {**told, **names})


def number_of(trained: Trained, task: int) -> int:
    """Return the number, from 0, of a task that is counted from 1; 0 means the last one.

    Args:
        trained: Its finished tasks.
        task: 1 to their number; 0; -1 is the backbone.

    Raises:
        ParameterError: There is no such task.
    """
    tasks = len(trained.tasks)
    if task > tasks or not tasks:
        raise ParameterError(
            f"lora_ipc_operate.task: got {task}, but {tasks} tasks have been learnt; give 1 to "
            f"{tasks}, or 0 for the last"
        )
    return -1 if task == -1 else (task or tasks) - 1


def _shortened(trained: Trained, adapters: Adapters) -> Trained:
    """Return what was kept of the tasks that are left."""
    tasks = adapters.tasks
    labels = [label for own in adapters.classes for label in own]
    heads = {"plain": _plain_head(trained, adapters, labels)}
    if tasks and "aligned" in trained.heads:
        heads["aligned"] = dict(adapters.heads[-1])
    return replace(
        trained,
        tasks=[list(own) for own in adapters.classes],
        class_names=trained.class_names[: len(labels)],
        class_numbers=trained.class_numbers[: len(labels)],
        learnt=trained.learnt[:tasks],
        heads=heads,
        statistics={k: v for k, v in trained.statistics.items() if k in labels},
        shapes={k: v for k, v in trained.shapes.items() if k in labels},
        accuracy={arm: rows[:tasks] for arm, rows in trained.accuracy.items()},
        task_accuracy={arm: row[:tasks] for arm, row in trained.task_accuracy.items()},
        curves=trained.curves[:tasks],
        matrices={kind: rows[:tasks] for kind, rows in trained.matrices.items()},
        orders=trained.orders[:tasks],
        memory=_memory_of(trained, labels),
        net={},
        predictions={},
        validation={},
    )


def _memory_of(trained: Trained, labels: list[int]) -> dict[str, Tensor]:
    """Return the stored images of the classes that are left; empty without rehearsal."""
    if not trained.memory:
        return {}
    left = torch.isin(trained.memory["labels"], torch.tensor(labels))
    return {name: tensor[left] for name, tensor in trained.memory.items()} if left.any() else {}


def _plain_head(trained: Trained, adapters: Adapters, labels: list[int]) -> dict[str, Tensor]:
    """Return the last layer as the tasks that are left had left it.

    A task trains the rows of its own classes alone, so that those of later ones are as at first.
    """
    found = {name: tensor.clone() for name, tensor in adapters.first_head.items()}
    for name, tensor in found.items():
        tensor[labels] = trained.heads["plain"][name][labels].to(tensor)
    return found
