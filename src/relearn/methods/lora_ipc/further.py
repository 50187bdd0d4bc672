"""One task more for a model that has learnt some, months later: from images, or from PEFT files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError
from relearn.evaluation.records import Log, no_log
from relearn.methods.lora_ipc import operate
from relearn.methods.lora_ipc.arms import training_named
from relearn.methods.lora_ipc.peft_format import import_peft
from relearn.methods.lora_ipc.run import StartFrom, train_tasks
from relearn.methods.lora_ipc.samples import TaskStream
from relearn.methods.lora_ipc.state import state_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from relearn.data.images import LabelledImages
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.methods.lora_ipc.trained import Trained
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device


@dataclass(frozen=True)
class FurtherTask:
    """Classes that a model does not know yet.

    Attributes:
        names: Their names, in the order of their labels.
        train: Images that train; labels go on from those that have been learnt.
        test: Images that are judged on.
    """

    names: tuple[str, ...]
    train: Split
    test: Split


def further_task(
    trained: Trained, images: LabelledImages, *, test_share: float, seed: int
) -> FurtherTask:
    """Return images of new classes as a task, divided into training and test images.

    Args:
        trained: What has been learnt; the labels go on from there.
        images: Of the new classes, in the shape of the net.
        test_share: Share of the images of each class that test, at least one.
        seed: Of the division.

    Raises:
        DataError: A class is known already, or has fewer than two images.
    """
    refuse_known(trained, images.class_names)
    first = len(trained.class_names)
    taught, asked = [], []
    for number, name in enumerate(images.class_names):
        rows = torch.nonzero(images.labels == number).flatten()
        if len(rows) < 2:
            raise DataError(
                f"lora_ipc_operate.source_path: class {name!r} has {len(rows)} image(s), expected "
                "2 or more, to train and to test"
            )
        order = generator_of(seed, f"lora_ipc.further.{name}")
        rows = rows[torch.randperm(len(rows), generator=order)]
        tests = min(len(rows) - 1, max(1, round(test_share * len(rows))))
        asked.append(rows[:tests])
        taught.append(rows[tests:])
    parts = [torch.cat(rows) for rows in (taught, asked)]
    train, test = (Split(images.images[rows], first + images.labels[rows]) for rows in parts)
    return FurtherTask(tuple(images.class_names), train, test)


def learn_further(
    base: Checkpoint,
    trained: Trained,
    task: FurtherTask,
    config: LoraIpcConfig,
    *,
    tests: Sequence[Split | None],
    log: Log = no_log,
    device: Device | None = None,
) -> Trained:
    """Return the model after one further task; the one it began with keeps every bit.

    Args:
        base: The backbone.
        trained: A training with a module each task.
        task: What is learnt.
        config: Knobs; its training is the one that bears the model's name.
        tests: For each earlier task its test images.
        log: Live curves.
        device: Where to train; None is the plain CPU.

    Raises:
        ParameterError: There is no room beside the other modules, or the training is not on.
        DataError: An earlier task has no test images.
        TrainingError: The loss is not finite.
    """
    earlier = [split for split in tests if split is not None]
    if len(earlier) < len(trained.tasks):
        raise DataError(
            "lora_ipc_operate: an earlier task has no test images, so that nobody could say what "
            "it forgets; give the stream, or the model folder, that has them"
        )
    grown = with_room(trained, len(task.names))
    labels = tuple(range(len(trained.class_names), len(trained.class_names) + len(task.names)))
    numbers = [*trained.class_numbers, *[-1] * len(task.names)]
    none = _emptied(task.train)
    stream = TaskStream(
        classes=(*(tuple(own) for own in trained.tasks), labels),
        learnt=len(trained.tasks) + 1,
        outputs=grown.shape.classes,
        planned=len(trained.tasks) + 1,
        class_numbers=torch.tensor(numbers),
        class_names=(*trained.class_names, *task.names),
        train=(*earlier, task.train),
        validation=(*[none for _ in earlier], none),
        test=(*earlier, task.test),
    )
    training = training_named(config, trained.name)
    return train_tasks(
        base,
        stream,
        config,
        training=training,
        trained=grown,
        log=log,
        resume=StartFrom(grown),
        device=device,
    )


def take_in(base: Checkpoint, trained: Trained, folder: Path, names: Sequence[str]) -> Trained:
    """Return the model with a PEFT adapter as one further task; nothing else of it changes.

    Args:
        base: The backbone.
        trained: A training with a module each task.
        folder: With the two files of the adapter.
        names: Names of the classes that it learnt.

    Raises:
        ParameterError: No name is given, or the adapter does not fit beside the other modules.
        DataError: A class is known already.
        CheckpointError: The files are missing or damaged, or of another backbone.
    """
    if not names:
        raise ParameterError(
            "lora_ipc_operate.class_names: is empty, expected the names of the adapter's classes"
        )
    refuse_known(trained, names)
    grown = with_room(trained, len(names))
    adapters = operate.adapters_of(base, grown)
    first = len(trained.class_names)
    labels = list(range(first, first + len(names)))
    import_peft(adapters, folder, labels, seed=trained.seed)
    tensors, header = state_of(adapters)
    head = {name: tensor.clone() for name, tensor in adapters.heads[-1].items()}
    return replace(
        grown,
        tasks=[*grown.tasks, labels],
        class_names=[*grown.class_names, *names],
        class_numbers=[*grown.class_numbers, *[-1] * len(names)],
        body={"tensors": tensors, "header": header},
        heads=dict.fromkeys(grown.heads, head),
        net={},
        predictions={},
        validation={},
    )


def with_room(trained: Trained, classes: int) -> Trained:
    """Return the model with outputs for further classes, and room for one further task.

    Rows that are there keep every bit; new ones are drawn.

    Args:
        trained: A training with a module each task.
        classes: Further classes.

    Raises:
        ParameterError: The training has no module each task.
    """
    header = operate.header_of(trained)
    outputs = max(trained.shape.classes, len(trained.class_names) + classes)
    extra = outputs - trained.shape.classes
    settings = dict(header["settings"])
    settings["planned_tasks"] = max(settings["planned_tasks"], len(trained.tasks) + 1)
    draw = generator_of(trained.seed, f"lora_ipc.further.{outputs}")
    width = int(trained.heads["plain"]["weight"].shape[1])
    rows = {
        "weight": (torch.rand(extra, width, generator=draw) * 2 - 1) / width**0.5,
        "bias": (torch.rand(extra, generator=draw) * 2 - 1) / width**0.5,
    }
    tensors = {
        name: _longer(tensor, rows[name.rpartition(".")[2]]) if name.startswith("head.") else tensor
        for name, tensor in trained.body["tensors"].items()
    }
    return replace(
        trained,
        architecture={**trained.architecture, "classes": outputs},
        heads={kind: _with_rows(head, rows) for kind, head in trained.heads.items()},
        body={"tensors": tensors, "header": {**header, "settings": settings}},
    )


def refuse_known(trained: Trained, names: Sequence[str]) -> None:
    """Refuse classes that the model knows already.

    Args:
        trained: What has been learnt.
        names: Of new classes.

    Raises:
        DataError: One is known.
    """
    known = sorted(set(names) & set(trained.class_names))
    if known:
        raise DataError(
            f"lora_ipc_operate: class {known[0]!r} has been learnt already; a class belongs to one "
            "task: rename it, or leave it out"
        )


def _emptied(split: Split) -> Split:
    return Split(split.images[:0], split.labels[:0])


def _with_rows(head: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: _longer(tensor, rows[name]) for name, tensor in head.items()}


def _longer(tensor: Tensor, rows: Tensor) -> Tensor:
    return torch.cat([tensor, rows.to(tensor)])


__all__ = [
    "FurtherTask",
    "further_task",
    "learn_further",
    "refuse_known",
    "take_in",
    "with_room",
]
