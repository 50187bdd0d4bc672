"""Grow a network as planned, and build a grown network's structure again from its record.

Net2WiderNet (Net2Net, arXiv 1511.05641, section 3.1) for every layer at once. Where we differ: the
copies share the outgoing weights unevenly, so that they part in training without the noise by which
the paper leaves the teacher's function; residual, normalised, grouped and attention layers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.data.randomness import generator_of
from relearn.methods.grow.deepen import calibrate_layers, put_in
from relearn.methods.grow.draw import draw_by_kind, draw_shares
from relearn.methods.grow.faults import GrowthError, ReplayError
from relearn.methods.grow.groups import Analysis, Group, analyse
from relearn.methods.grow.handed_on import layer_error
from relearn.methods.grow.importance import importance_of
from relearn.methods.grow.record import GroupMap, GrowthRecord
from relearn.methods.grow.resting import resting_copy
from relearn.methods.grow.running import record as record_run
from relearn.methods.grow.running import shapes_of
from relearn.methods.grow.student import Shares, build_student
from relearn.methods.grow.tape import Misfit
from relearn.methods.grow.widened import Widened, widen_labels
from relearn.provenance import digest, digest_tensors

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.grow.document import GrowthPlan

_ROUNDING = 4e-7
"""Relative difference of weights that float32 explains."""
_PIECE = 1 << 16
"""Numbers compared at once."""


def apply(
    model: nn.Module, plan: GrowthPlan, *, seed: int, calibration: Tensor | None = None
) -> tuple[nn.Module, GrowthRecord]:
    """Return a grown copy of the network and the record of what was done.

    Args:
        model: The teacher, as it was planned; it stays bit for bit as it is, and so does its mode.
        plan: From ``plan``.
        seed: Of the maps, the shares and what is drawn.
        calibration: Inputs as the network takes them, for identity layers with batch norm.

    Raises:
        ReplayError: The plan belongs to a network of another architecture.
        GrowthError: The channels drawn with this seed do not fit; names the group.
    """
    analysis = _analysis(model, plan)
    maps = _draw(model, analysis, plan, seed)
    student, widened, shares = _built(model, analysis, (plan, maps, seed))
    depth = put_in(student, plan.depth, seed=seed)
    depth = calibrate_layers(student, depth, calibration)
    record = GrowthRecord(
        plan=plan,
        seed=seed,
        maps=tuple(maps),
        depth=depth,
        teacher_digest=digest_tensors(model.state_dict()),
        student_digest=digest_tensors(student.state_dict()),
        certificate=certificate(widened, shares)
        | ({"worst_layer_error": layer_error(student, depth)} if depth else {}),
        exact=plan.spec.symmetry != "noise" or all(sum(m.copies) == len(m.copies) for m in maps),
    )
    return student, record


def replay(model: nn.Module, record: GrowthRecord) -> nn.Module:
    """Return the grown network's structure, built again on its architecture.

    With the teacher itself the student's weights come out too, those of inserted layers included;
    with a fresh network of the same architecture load the student's state dict into the result.

    Args:
        model: A network of the teacher's architecture; it is left as it is.
        record: From ``apply``.

    Raises:
        ReplayError: The record belongs to another architecture.
    """
    analysis = _analysis(model, record.plan)
    known = {group.name for group in analysis.groups}
    missing = [m.name for m in record.maps if m.name not in known]
    if missing:
        raise ReplayError(
            f"{missing[0]}: the record grows this group, the network has none of that name",
            group=missing[0],
            operation="replay",
        )
    student, _, _ = _built(model, analysis, (record.plan, list(record.maps), record.seed))
    put_in(student, record.depth, seed=record.seed)
    return student


def widened_of(model: nn.Module, record: GrowthRecord) -> Widened:
    """Return where every channel of a grown network comes from.

    Args:
        model: The teacher, or a network of its architecture.
        record: From ``apply``.

    Raises:
        ReplayError: The record belongs to another architecture.
    """
    return prepared(model, record)[0]


def prepared(model: nn.Module, record: GrowthRecord) -> tuple[Widened, Shares]:
    """Return where every channel of a grown network comes from, and every copy's share.

    Args:
        model: The teacher, or a network of its architecture.
        record: From ``apply``.

    Raises:
        ReplayError: The record belongs to another architecture.
    """
    analysis = _analysis(model, record.plan)
    growth, shares = _tables(analysis, record.plan, list(record.maps))
    return widen_labels(model, analysis, growth, record.plan.inputs), shares


def in_float64(teacher: nn.Module, student: nn.Module, record: GrowthRecord | None) -> nn.Module:
    """Return the student in float64, in evaluation mode.

    Args:
        teacher: In float64.
        student: The grown network; it is only read.
        record: Of the growth. Where it pads, the growth is done again in float64, if the student is
            its rounding.
    """
    if record is None or not any(entry.padding for entry in record.maps):
        return resting_copy(student, torch.float64)
    exact = replay(teacher, record).double().eval()
    numbers = student.state_dict()
    added = tuple(f"{name}." for entry in record.depth for name in entry["added"])
    for name, tensor in exact.state_dict().items():
        number = numbers[name].detach().cpu()
        if added and name.startswith(added):
            tensor.copy_(number)
        elif tensor.is_floating_point() and not _is_rounding(number, tensor):
            return resting_copy(student, torch.float64)
    return exact


def _is_rounding(number: Tensor, exact: Tensor) -> bool:
    """Whether numbers are others but for the rounding of float32; NaN is not."""
    off = largest = 0.0
    # piece by piece: what a piece needs meanwhile stays in the processor's cache
    for one, other in zip(_pieces(number), _pieces(exact), strict=True):
        ends = torch.stack([*torch.aminmax(other - one), *torch.aminmax(other)]).abs().tolist()
        if any(math.isnan(end) for end in ends):
            return False
        off, largest = max(off, *ends[:2]), max(largest, *ends[2:])
    return off <= _ROUNDING * largest


def _pieces(tensor: Tensor) -> tuple[Tensor, ...]:
    flat = tensor.detach().reshape(-1)
    return flat.split(_PIECE) if len(flat) else ()


def _analysis(model: nn.Module, plan: GrowthPlan) -> Analysis:
    """Return the analysis that belongs to a plan, worked out again if it was read from a file."""
    found = digest({name: list(shape) for name, shape in shapes_of(model).items()})
    if found != plan.architecture:
        raise ReplayError(
            "the plan was made for a network of another architecture (names or shapes of its "
            "parameters differ): plan again",
            operation="apply",
        )
    if isinstance(plan.analysis, Analysis):
        return plan.analysis
    tape, _ = record_run(model, plan.inputs)
    return analyse(tape, shapes_of(model))


def _draw(model: nn.Module, analysis: Analysis, plan: GrowthPlan, seed: int) -> list[GroupMap]:
    """Return how often each unit is copied and what its copies share, drawn with a seed."""
    groups = {group.name: group for group in analysis.groups}
    maps = []
    for entry in plan.groups:
        if not entry.grows:
            continue
        generator = generator_of(seed, f"grow.map.{entry.name}")
        group = groups[entry.name]
        even = entry.rule == "uniform" or entry.even
        mapping = "balanced" if even else plan.spec.mapping
        weights = importance_of(model, analysis, group) if mapping == "importance" else None
        counts = draw_by_kind(
            group.kinds,
            entry.new_units,
            mapping=mapping,
            generator=generator,
            importance=weights,
        )
        shares = draw_shares(counts, symmetry=plan.spec.symmetry, generator=generator)
        found = tuple(map(tuple, shares))
        maps.append(GroupMap(entry.name, tuple(counts.tolist()), found, entry.padding))
    return maps


def _built(
    model: nn.Module, analysis: Analysis, task: tuple[GrowthPlan, list[GroupMap], int]
) -> tuple[nn.Module, Widened, Shares]:
    plan, maps, seed = task
    growth, shares = _tables(analysis, plan, maps)
    try:
        widened = widen_labels(model, analysis, growth, plan.inputs)
    except Misfit as misfit:
        name = _named(analysis, growth[0], misfit)
        raise GrowthError(
            f"{name}: the channels drawn with seed {seed} do not fit at {misfit.site}: "
            f"{misfit.reason}; give the group factor 1 or a whole factor",
            group=name,
            operation=str(misfit.site),
        ) from misfit
    student = build_student(model, widened, shares, generator_of(seed, "grow.noise"))
    return student, widened, shares


def _named(analysis: Analysis, copies: Tensor, misfit: Misfit) -> str:
    ids = misfit.ids.long()
    roots = analysis.roots["unit"][ids[ids > 0]]
    grown = (g for g in analysis.groups if (copies[g.units] > 1).any())
    return next((g.name for g in grown if torch.isin(g.units, roots).any()), "the network")


def _tables(
    analysis: Analysis, plan: GrowthPlan, maps: list[GroupMap]
) -> tuple[tuple[Tensor, dict[int, int]], Shares]:
    """Return by the units' roots how often each is copied, its padding, and its shares."""
    groups: dict[str, Group] = {group.name: group for group in analysis.groups}
    count = analysis.tape.ties.count
    most = max((max(entry.copies) for entry in maps), default=1)
    copies = torch.ones(count, dtype=torch.long)
    table = torch.zeros(count, dtype=torch.long)
    rows = [[1.0] + [0.0] * (most - 1)]
    padding = {int(groups[m.name].units[0]): m.padding for m in maps if m.padding}
    for entry in maps:
        units = groups[entry.name].units
        copies[units] = torch.tensor(entry.copies)
        table[units] = torch.arange(len(rows), len(rows) + len(units))
        rows += [[*shares, *[0.0] * (most - len(shares))] for shares in entry.shares]
    values = torch.tensor(rows, dtype=torch.float64)
    return (copies, padding), Shares(table, values, plan.spec.symmetry, plan.spec.noise)


def certificate(widened: Widened, shares: Shares) -> dict[str, float]:
    """Return the static proof: what every weight's columns read sums to the teacher's columns.

    The labels have already shown that every operation sees intact copies; what is left is that the
    shares of each column sum to 1.

    Args:
        widened: The growth that was built.
        shares: Of every copy.

    Returns:
        ``consumers``: weights checked; ``worst_share_error``: largest distance from 1.
    """
    worst = 0.0
    for columns in widened.columns.values():
        real = columns.index >= 0
        index, copies = columns.index[real], columns.copies[real]
        roots = widened.analysis.roots["unit"][columns.ids[real]]
        total = torch.zeros(int(index.max()) + 1, dtype=torch.float64)
        total.index_add_(0, index, shares.of(roots, copies))
        worst = max(worst, float((total - 1).abs().max()))
    return {"consumers": float(len(widened.columns)), "worst_share_error": worst}
