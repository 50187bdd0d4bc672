"""One training of a whole stream: task after task, measured after each, kept after each.

A training that is killed goes on after the last task that ended, with every bit; so does one that
learns further tasks months later (``StartFrom``).

References:
    LoRAC-IPC, arXiv 2504.13407; the order of events within a task follows its official code: learn,
    rank and freeze, describe the classes, align the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from relearn.evaluation.records import Log, no_log
from relearn.methods.lora_ipc.arms import STILL, Training, training_named
from relearn.methods.lora_ipc.samples import TaskStream, draw_tasks
from relearn.methods.lora_ipc.still import learn_still
from relearn.methods.lora_ipc.stream_run import StreamRun
from relearn.methods.lora_ipc.trained import Trained
from relearn.provenance import digest
from relearn.training.device import Device, open_device

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.loop import Keeper


@dataclass(frozen=True)
class StartFrom:
    """In place of a resume point: further tasks are learnt on top of a finished training.

    Attributes:
        trained: What the training had come to; it is not changed.
    """

    trained: Trained

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def load(self) -> dict[str, Any]:
        """Return a copy of what the training had come to."""
        return Trained.from_plain(*self.trained.plain()).state()


def train_one(
    base: Checkpoint,
    stream: Stream,
    config: LoraIpcConfig,
    *,
    training: str,
    seed: int,
    log: Log = no_log,
    resume: Keeper | None = None,
    device: Device | None = None,
) -> Trained:
    """Learn the tasks of a seed and return all that was learnt and measured.

    Args:
        base: The backbone; it keeps every bit.
        stream: Frozen data of all arms.
        config: Knobs.
        training: Name of a training that is switched on.
        seed: Seed of the pair.
        log: Live curves.
        resume: Where the training is kept after each task and taken up from; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Raises:
        ParameterError: The training is not switched on, or the backbone, rank or tasks do not fit.
        DataError: The stream lacks classes or images.
        TrainingError: The loss is not finite.
    """
    chosen = training_named(config, training)
    tasks = draw_tasks(stream, config.tasks, config.samples, seed=seed)
    return train_tasks(
        base,
        tasks,
        config,
        training=chosen,
        trained=Trained(
            name=chosen.name,
            seed=seed,
            stream=stream.digest,
            settings=digest(config),
            architecture=asdict(base.architecture),
        ),
        log=log,
        resume=resume,
        device=device,
    )


def train_tasks(
    base: Checkpoint,
    tasks: TaskStream,
    config: LoraIpcConfig,
    *,
    training: Training,
    trained: Trained,
    log: Log = no_log,
    resume: Keeper | None = None,
    device: Device | None = None,
) -> Trained:
    """Return what given tasks come to; as ``train_one``, for a stream put together by the caller.

    Args:
        base: As for ``train_one``.
        tasks: The tasks.
        config: As for ``train_one``.
        training: What is trained, and how.
        trained: Name, seed and digests; where tasks were learnt already, what they
            came to, from which the further ones go on. It is not changed then.
        log: As for ``train_one``.
        resume: As for ``train_one``.
        device: As for ``train_one``.
    """
    place = device or open_device("cpu", "fp32")
    if trained.tasks and resume is None:
        resume = StartFrom(trained)
    trained = _opened(trained, base, tasks)
    if training.body == STILL:
        return learn_still(base, tasks, config, training=training, trained=trained, device=place)
    run = StreamRun(base, tasks, config, training, trained=trained, device=place, log=log)
    return run.train(resume)


def _opened(trained: Trained, base: Checkpoint, tasks: TaskStream) -> Trained:
    """Return books with nothing in them, for a net with the outputs of the stream."""
    return Trained(
        name=trained.name,
        seed=trained.seed,
        stream=trained.stream,
        settings=trained.settings,
        architecture=asdict(base.architecture.with_classes(tasks.outputs)),
    )
