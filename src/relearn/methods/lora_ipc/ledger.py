"""The rows that prove what was done to the weights: freezing a matrix, and rolling back.

A frozen matrix has two digests: of what it is made of (its frozen weight, factors and omega), which
is the same on every machine, and of the weight that this composes to, which is the same wherever
the same kernels multiply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.evaluation.records import Intervention
from relearn.methods.lora_ipc.modules import Snapshot
from relearn.methods.lora_ipc.state import state_digest
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.lora_ipc.adapters import Adapters

FREEZE, ROLL_BACK = "freeze_matrix", "roll_back"


def freeze_entries(
    adapters: Adapters, scores: Mapping[str, float], *, rule: str, row: Mapping[str, Any]
) -> list[Intervention]:
    """Return one row for each matrix that was frozen after the last finished task.

    Args:
        adapters: Right after ``finish_task``.
        scores: Importance of all matrices that were not frozen before.
        rule: By which it was found.
        row: arm, seed, step and epoch.
    """
    task = adapters.tasks - 1
    ranking = sorted(scores, key=lambda name: -scores[name])
    found = []
    for name in [name for name, after in adapters.frozen.items() if after == task]:
        weight = effective_weight(adapters, name, task)
        parts, whole = digest_tensors(_parts(adapters, name, task)), float(weight.norm())
        found.append(
            Intervention(
                method="lora_ipc",
                kind=FREEZE,
                target=name,
                rows=int(weight.shape[0]),
                trigger=f"after task {task + 1}",
                draw_seed=0,
                before_digest=parts,
                after_digest=parts,
                before_norm=whole,
                after_norm=whole,
                details={
                    "task": task,
                    "rule": rule,
                    "score": scores[name],
                    "place": ranking.index(name) + 1,
                    "of": len(ranking),
                    "omega": adapters.matrices[name].bank[task].tolist(),
                    "weight_digest": digest_tensors({"weight": weight}),
                },
                **row,
            )
        )
    return found


def verify_frozen(entry: Intervention, adapters: Adapters) -> bool:
    """Return whether a frozen matrix still has every bit that it had when it was frozen.

    Asked of the model after the task that froze it and after each later one.

    Args:
        entry: A row of kind ``freeze_matrix``.
        adapters: The modules it was written of, any number of tasks later, between tasks.
    """
    frozen_after = int(entry.details["task"])
    for task in range(frozen_after, adapters.tasks):
        if digest_tensors(_parts(adapters, entry.target, task)) != entry.after_digest:
            return False
        weight = effective_weight(adapters, entry.target, task)
        if digest_tensors({"weight": weight}) != entry.details["weight_digest"]:
            return False
    return adapters.frozen.get(entry.target) == frozen_after


def roll_back(adapters: Adapters, task: int, *, row: Mapping[str, Any]) -> Intervention:
    """Roll the model back to a task and return the row that proves it.

    The digests are over all that has been learnt, before and after; the latter is that of the state
    that was saved after the task.

    Args:
        adapters: Between tasks.
        task: Number of a finished task; -1 leaves the backbone alone.
        row: arm, seed, step and epoch.

    Raises:
        TrainingError: A task has begun and not ended.
        ParameterError: The task has not been learnt, or lies past the first.
    """
    tasks, before, norm = adapters.tasks, state_digest(adapters), _norm(adapters)
    adapters.roll_back(task)
    return Intervention(
        method="lora_ipc",
        kind=ROLL_BACK,
        target="*",
        rows=tasks - adapters.tasks,
        trigger="asked for",
        draw_seed=0,
        before_digest=before,
        after_digest=state_digest(adapters),
        before_norm=norm,
        after_norm=_norm(adapters),
        details={"from_task": tasks - 1, "to_task": task},
        **row,
    )


def effective_weight(adapters: Adapters, name: str, task: int) -> Tensor:
    """Return the weight of a matrix after a finished task, shape (d_out, d_in).

    Args:
        adapters: Its modules.
        name: Such as ``3.fc1``.
        task: Number of a finished task; -1 is the backbone.

    Raises:
        ParameterError: There is no such matrix.
    """
    for layer in adapters.layers:
        for matrix in layer.parts:
            if matrix.place.name == name:
                return matrix.at_rest(layer.base_of(matrix), Snapshot(task)).detach()
    raise ParameterError(f"lora_ipc.matrix: {name!r} is no matrix of this net")


def drift(adapters: Adapters, task: int) -> dict[str, float]:
    """Return || W^(t) - W^(t-1) ||_F^2 of each matrix, 0 for those frozen before.

    Args:
        adapters: Their modules.
        task: t, the number of a finished task.
    """
    found = {}
    for name in adapters.matrices:
        after = effective_weight(adapters, name, task)
        change = after - effective_weight(adapters, name, task - 1)
        found[name] = float(change.double().square().sum())
    return found


def _parts(adapters: Adapters, name: str, task: int) -> dict[str, Tensor]:
    """Return what the weight of a matrix after a task is made of."""
    a, b, _ = adapters.matrices[name].factors(Snapshot(task))
    omega = adapters.matrices[name].row(Snapshot(task))
    base = effective_weight(adapters, name, -1)
    return {"base": base, "a": a, "b": b, "omega": omega}


def _norm(adapters: Adapters) -> float:
    """Return the norm of everything that all modules add to the backbone."""
    last = adapters.tasks - 1
    total = 0.0
    for name in adapters.matrices:
        added = effective_weight(adapters, name, last) - effective_weight(adapters, name, -1)
        total += float(added.double().square().sum())
    return float(total**0.5)
