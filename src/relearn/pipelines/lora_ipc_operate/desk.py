"""What an action on a model finds before it, and what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.lora_ipc import operate
from relearn.pipelines.lora_ipc.training_store import load_trained

if TYPE_CHECKING:
    from relearn.data.config import DataConfig
    from relearn.data.images import Split, Stream
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

    def tests(self, trained: Trained) -> list[Split | None]:
        """Return for each task its test images: those beside the model, else the stream's.

        Args:
            trained: The model.
        """
        from relearn.pipelines.lora_ipc_operate.images import kept_tests

        beside = kept_tests(self.source)
        found = operate.tests_of(trained, self.stream)
        return [beside.get(number, own) for number, own in enumerate(found)]


@dataclass(frozen=True)
class Done:
    """What came of an action.

    Attributes:
        checkpoint: The resulting model as one plain net.
        report: What was done, in plain data; ``told`` is one line.
        interventions: Rows for the ledger.
    """

    checkpoint: Checkpoint
    report: dict[str, Any]
    interventions: Sequence[Intervention] = field(default_factory=tuple)
