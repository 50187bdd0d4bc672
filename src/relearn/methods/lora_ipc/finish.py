"""The end of a stream: validation, the delivered net, and the ledger's last word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.methods.lora_ipc import evaluate
from relearn.methods.lora_ipc.bodies import SharedBody, TaskwiseBody
from relearn.methods.lora_ipc.freezing import with_later_digests
from relearn.methods.lora_ipc.merging import merge
from relearn.methods.lora_ipc.state import stored_bytes

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.lora_ipc.stream_run import StreamRun


def close_books(run: StreamRun) -> None:
    """Measure once on the validation images, and keep the net and the ledger's last word.

    Args:
        run: All its tasks are learnt; a shared module is ended here.
    """
    trained, tasks = run.trained, run.tasks
    arms, seen = run.training.deliveries, trained.learnt[-1]
    validation = tasks.validation[:seen]
    if all(len(split) for split in validation):
        answers = evaluate.ask(run.reader, trained, arms, validation)
        trained.validation = evaluate.accuracies(answers, validation)
    if isinstance(run.body, TaskwiseBody):
        adapters = run.body.adapters
        rows = [with_later_digests(row, adapters) for row in trained.ledger]
        trained.interventions = [row.as_row() for row in rows]
        trained.costs |= {f"{name}_bytes": float(n) for name, n in stored_bytes(adapters).items()}
    net = _delivered(run)
    trained.net = {name: t.detach().cpu().clone() for name, t in net.state_dict().items()}


def _delivered(run: StreamRun) -> nn.Module:
    if isinstance(run.body, SharedBody):
        run.body.adapters.finish_task()
    if isinstance(run.body, TaskwiseBody | SharedBody):
        return merge(run.body.adapters)
    return run.body.net
