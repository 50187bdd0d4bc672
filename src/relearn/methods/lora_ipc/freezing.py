"""Which matrices a task freezes, and rows that say so in a way that can be checked again.

A row holds the scores of all matrices that could have been chosen, so that the choice is made again
from the row alone; and the digest of the frozen weight after every later task. Whoever has the
modules too proves every bit with ``ledger.verify_frozen``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relearn.methods.lora_ipc.arms import PAPER_RULE
from relearn.methods.lora_ipc.importance import (
    choose_matrices,
    control_scores,
    freezes_after,
    number_to_freeze,
)
from relearn.methods.lora_ipc.ledger import ROLL_BACK, effective_weight, freeze_entries
from relearn.methods.lora_ipc.matrices import find_matrices
from relearn.models.checkpoint import build_fresh
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from relearn.evaluation.records import Intervention
    from relearn.methods.lora_ipc.adapters import Adapters
    from relearn.methods.lora_ipc.arms import Training
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.models.checkpoint import Architecture, Checkpoint


@dataclass(frozen=True)
class Choice:
    """What a task freezes.

    Attributes:
        names: Of the matrices, the most important first.
        scores: Of all matrices that were not frozen before.
        rule: By which the scores were found.
    """

    names: tuple[str, ...]
    scores: dict[str, float]
    rule: str


def choose(
    adapters: Adapters,
    watched: Mapping[str, float],
    training: Training,
    config: LoraIpcConfig,
    *,
    seed: int,
) -> Choice:
    """Return what is frozen after the task that is open.

    Args:
        adapters: With the task still open.
        watched: Scores from the watch; not read by the controls.
        training: Says by which rule.
        config: Knobs.
        seed: Seed of the pair, for the random control.
    """
    frozen, task, knobs = adapters.frozen, adapters.tasks, config.freeze
    free = [name for name in adapters.matrices if name not in frozen]
    if not training.rule or not free:
        return Choice((), {}, "")
    rule = config.importance.rule if training.rule == PAPER_RULE else training.rule
    if training.rule == PAPER_RULE:
        scores = {name: float(watched[name]) for name in free}
    else:
        scores = control_scores(free, rule, task=task, seed=seed)
    if not freezes_after(task, when=knobs.when, every=knobs.every):
        return Choice((), scores, rule)
    number = number_to_freeze(
        knobs.share,
        total=len(adapters.matrices),
        remaining=len(free),
        counted=knobs.counted,
        rounding=knobs.rounding,
    )
    return Choice(tuple(choose_matrices(scores, number)), scores, rule)


def rows_of(
    adapters: Adapters, choice: Choice, *, arm: str, seed: int, step: int
) -> list[Intervention]:
    """Return one row for each matrix that has just been frozen.

    Args:
        adapters: Right after the task has ended.
        choice: What was frozen.
        arm: Name of the training.
        seed: Seed of the pair.
        step: Optimizer steps done.
    """
    row = {"arm": arm, "seed": seed, "step": step, "epoch": adapters.tasks}
    found = freeze_entries(adapters, choice.scores, rule=choice.rule, row=row)
    told = {"scores": choice.scores, "number": len(choice.names)}
    return [replace(one, draw_seed=seed, details={**one.details, **told}) for one in found]


def with_later_digests(entry: Intervention, adapters: Adapters) -> Intervention:
    """Return the row with the digest of the weight after each task since it was frozen.

    A row of a roll back is returned as it is.

    Args:
        entry: A row of the ledger.
        adapters: Any number of tasks later, between tasks.
    """
    if entry.kind == ROLL_BACK:
        return entry
    since = range(int(entry.details["task"]), adapters.tasks)
    weights = [effective_weight(adapters, entry.target, task) for task in since]
    digests = [digest_tensors({"weight": weight}) for weight in weights]
    return replace(entry, details={**entry.details, "digests_since": digests})


def verify(
    entry: Intervention, architecture: Architecture, *, checkpoint: Checkpoint | None = None
) -> bool:
    """Return whether a ledger row can be made again from what it says.

    Of a freezing: the net has such a matrix; by the scores in the row, drawn again for the random
    control, it is among those chosen and has the place it says; its weight has one digest from then
    on. With the delivered net at hand, its weight there has that digest too.

    Args:
        entry: A row of the ledger.
        architecture: Architecture of the arm's checkpoint.
        checkpoint: The delivered net, where it is at hand.
    """
    told = entry.details
    if entry.kind == ROLL_BACK:
        return bool(-1 <= told["to_task"] <= told["from_task"]) and (
            entry.rows == told["from_task"] - told["to_task"]
        )
    places = {place.name: place for place in find_matrices(build_fresh(architecture, seed=0))}
    if entry.target not in places or entry.before_digest != entry.after_digest:
        return False
    if not _is_chosen(entry):
        return False
    since = {*told.get("digests_since", ()), told["weight_digest"]}
    if checkpoint is None or len(since) != 1:
        return len(since) == 1
    place = places[entry.target]
    first, last = place.rows
    weight = checkpoint.weights[f"{place.layer}.weight"][first:last]
    return digest_tensors({"weight": weight}) in since


def _is_chosen(entry: Intervention) -> bool:
    told: Mapping[str, Any] = entry.details
    scores = {name: float(score) for name, score in told["scores"].items()}
    if told["rule"] in ("random", "sequential"):
        task = int(told["task"])
        if scores != control_scores(list(scores), told["rule"], task=task, seed=entry.draw_seed):
            return False
    ranking = choose_matrices(scores, len(scores))
    chosen = ranking[: int(told["number"])]
    return entry.target in chosen and ranking.index(entry.target) + 1 == told["place"]
