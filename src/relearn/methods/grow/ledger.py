"""The proof of a growth: made again from its record on a net drawn from a seed, and on the teacher.

The weights of teacher and student are too many for a row. So the row also holds what the same
growth makes of a fresh net of the teacher's architecture: whoever has the row alone can make that
again, maps, shares and all. Whoever has the teacher too gets the student's very weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of
from relearn.evaluation.records import Intervention
from relearn.methods.grow.arms import GROWN, LAYERS, PADDED
from relearn.methods.grow.controls import random_layers, random_pad
from relearn.methods.grow.handed_on import layer_error
from relearn.methods.grow.record import GrowthRecord
from relearn.methods.grow.teacher import shape_of
from relearn.methods.grow.widen import apply, replay
from relearn.models.checkpoint import Architecture, build, build_fresh
from relearn.provenance import digest, digest_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.grow.arms import Arm
    from relearn.methods.grow.growing import Grown
    from relearn.methods.grow.teacher import Teacher
    from relearn.models.checkpoint import Checkpoint

WIDEN, DEEPEN, BOTH = "widen", "deepen", "widen_and_deepen"
PAD, DRAW_LAYERS, RETURN = "random_pad", "random_layers", "return_to_teacher"
_CONTROLS = {PADDED: PAD, LAYERS: DRAW_LAYERS}
_SHARES = 1e-12
_LAYERS = 1e-12


def entry_of(
    arm: Arm, teacher: Teacher, grown: Grown, net: nn.Module, *, row: Mapping[str, Any], seed: int
) -> Intervention:
    """Return the ledger's row of the change from teacher to what the arm begins with.

    Args:
        arm: How it begins.
        teacher: Before.
        grown: The growth, with its record.
        net: After.
        row: arm, seed, step and epoch.
        seed: From which maps, shares or weights were drawn.
    """
    record, architecture = grown.record, teacher.checkpoint.architecture
    kind = _CONTROLS.get(arm.start) or _kind_of(record)
    noise = _noise(record, architecture, seed)
    probe, _ = _regrown(kind, build_fresh(architecture, seed=seed), record, seed, noise=noise)
    before, after = teacher.checkpoint.weights, _tensors(net)
    return Intervention(
        method="grow",
        kind=kind,
        target="*",
        rows=sum(len(entry.mapping) for entry in record.maps) + len(record.depth),
        trigger="grown" if arm.start == GROWN else "control",
        draw_seed=seed,
        before_digest=digest_tensors(before),
        after_digest=digest_tensors(after),
        before_norm=_norm(before),
        after_norm=_norm(after),
        details={
            "record": record.to_plain(),
            "record_digest": record.digest,
            "teacher": asdict(architecture),
            "probe_digest": digest_tensors(_tensors(probe)),
        },
        **row,
    )


def return_entry(net: nn.Module, teacher: Checkpoint, *, row: Mapping[str, Any]) -> Intervention:
    """Return the ledger's row of giving up a net for its teacher.

    Args:
        net: What is given up.
        teacher: What takes its place.
        row: arm, seed, step and epoch.
    """
    before, after = _tensors(net), dict(teacher.weights)
    return Intervention(
        method="grow",
        kind=RETURN,
        target="*",
        rows=len(after),
        trigger="validation loss above the teacher's",
        draw_seed=0,
        before_digest=digest_tensors(before),
        after_digest=digest_tensors(after),
        before_norm=_norm(before),
        after_norm=_norm(after),
        details={"teacher": asdict(teacher.architecture), "checkpoint": teacher.digest},
        **row,
    )


def verify(
    entry: Intervention, architecture: Architecture, *, teacher: Checkpoint | None = None
) -> bool:
    """Return whether a ledger row can be made again from what it says.

    The growth is done again on a fresh net of the teacher's architecture: maps and shares are those
    of the record, every unit's shares add up to 1, inserted layers stand where the plan puts them
    and hand on what they get, the weights have the recorded digest, and the net has the
    architecture of the arm's checkpoint. With the teacher at hand, the weights that the arm began
    with are made again too, calibrated batch norm included.

    Args:
        entry: A row of the ledger.
        architecture: Architecture of the arm's checkpoint.
        teacher: The teacher of the seed, where it is at hand.
    """
    before = _architecture(entry.details["teacher"])
    if entry.kind == RETURN:
        return before == architecture and (teacher is None or _is_after(entry, teacher.weights))
    record = GrowthRecord.of(entry.details["record"])
    if record.digest != entry.details["record_digest"] or not _shares_add_up(record):
        return False
    fresh = build_fresh(before, seed=entry.draw_seed)
    noise = _noise(record, before, entry.draw_seed)
    probe, again = _regrown(entry.kind, fresh, record, entry.draw_seed, noise=noise)
    if digest_tensors(_tensors(probe)) != entry.details["probe_digest"]:
        return False
    drawn = record.plan.spec.mapping != "importance"
    kept = again is None or not drawn or again.maps == record.maps
    if not kept or not _layers_hand_on(entry.kind, fresh, record, again):
        return False
    # a checkpoint that went back to its teacher has the teacher's architecture
    if architecture != before and _shapes(build_fresh(architecture, seed=0)) != _shapes(probe):
        return False
    return teacher is None or _from_teacher(entry, record, teacher)


def _regrown(
    kind: str, net: nn.Module, record: GrowthRecord, seed: int, *, noise: Tensor | None
) -> tuple[nn.Module, GrowthRecord | None]:
    """Return what the change makes of a net; new batch norm is calibrated on noise."""
    if kind == PAD:
        return random_pad(net, record, seed=seed), None
    if kind == DRAW_LAYERS:
        return random_layers(net, record, seed=seed), None
    return apply(net, record.plan, seed=seed, calibration=noise)


def _from_teacher(entry: Intervention, record: GrowthRecord, teacher: Checkpoint) -> bool:
    """Whether the teacher's own weights become those that the arm began with."""
    if digest_tensors(teacher.weights) != entry.before_digest:
        return False
    net, noise = build(teacher), _noise(record, teacher.architecture, entry.draw_seed)
    again, redone = _regrown(entry.kind, net, record, entry.draw_seed, noise=noise)
    if redone is not None:
        if redone.maps != record.maps:
            return False
        again = replay(net, record)  # batch norm of new layers as it was calibrated, not on noise
    return _is_after(entry, _tensors(again))


def _layers_hand_on(
    kind: str, fresh: nn.Module, record: GrowthRecord, again: GrowthRecord | None
) -> bool:
    """Whether inserted layers are those of the plan, and give back what they get.

    How batch norm was calibrated is known from the record alone: a row holds no training images.
    """
    placed = record.plan.depth if again is None else again.depth
    names = [[name for name in place if name != "calibrated"] for place in placed]
    told = [[layer.get(n) for n in own] for layer, own in zip(record.depth, names, strict=False)]
    made = [[place[n] for n in own] for place, own in zip(placed, names, strict=True)]
    if len(record.depth) != len(placed) or digest(told) != digest(made):
        return False
    if kind in (PAD, DRAW_LAYERS):
        return True  # new layers of a control are drawn: they hand on nothing
    return layer_error(replay(fresh, record), record.depth) <= _LAYERS


def _noise(record: GrowthRecord, architecture: Architecture, seed: int) -> Tensor | None:
    if not record.depth:
        return None
    shape = (8, *shape_of(architecture))
    return torch.randn(shape, generator=generator_of(seed, "grow.probe"))


def _is_after(entry: Intervention, weights: Mapping[str, Tensor]) -> bool:
    return digest_tensors(weights) == entry.after_digest


def _kind_of(record: GrowthRecord) -> str:
    if record.maps and record.depth:
        return BOTH
    return WIDEN if record.maps else DEEPEN


def _shares_add_up(record: GrowthRecord) -> bool:
    return all(abs(sum(shares) - 1) <= _SHARES for entry in record.maps for shares in entry.shares)


def _architecture(plain: Mapping[str, Any]) -> Architecture:
    rows = {name: tuple(plain[name]) for name in ("mean", "std", "growth")}
    return Architecture(**{**plain, **rows})


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def _norm(tensors: Mapping[str, Tensor]) -> float:
    floats = [tensor.float() for tensor in tensors.values() if tensor.is_floating_point()]
    return float(torch.nn.utils.get_total_norm(floats))
