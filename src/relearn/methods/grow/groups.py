"""Channel groups: what can only grow together, and what cannot grow and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.methods.grow.document import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relearn.methods.grow.tape import Tape


@dataclass
class Group:
    """Units that stand in the same parameters.

    Attributes:
        name: Module of the first parameter that writes it; numbered where there are several.
        writers: Names of the parameters' modules, in the order of the forward pass.
        readers: Names of the modules that read it.
        units: Root of each unit, ascending.
        rows: Unit number of each row of the first parameter; shape (channels,).
        kinds: For each unit a number; units of one kind stand in the same places equally often, so
            that how many of each kind are copied decides every size; shape (units,).
        rule: ``free``, ``blocks`` or ``uniform``.
        frozen: Why it cannot grow; None if it can.
        shared: Whether that is a parameter which is used in two ways.
        even: Why every unit must be copied equally often; None if that need not be.
        paddable: Whether normalisations can make up for padding.
    """

    name: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    units: Tensor
    rows: Tensor
    kinds: Tensor
    rule: str = "free"
    frozen: Refusal | None = None
    shared: bool = False
    even: Refusal | None = None
    paddable: bool = False


@dataclass
class Analysis:
    """What the labels found, worked out.

    Attributes:
        tape: Of the recording run.
        shapes: Shape of every parameter and buffer.
        roots: Classes of the ties.
        groups: In the order of the forward pass, frozen ones too.
        notes: Further things that were left alone.
    """

    tape: Tape
    shapes: dict[str, tuple[int, ...]]
    roots: dict[str, Tensor]
    groups: list[Group] = field(default_factory=list)


def analyse(tape: Tape, shapes: dict[str, tuple[int, ...]]) -> Analysis:
    """Return the groups of a tape.

    Args:
        tape: Of a recording run.
        shapes: Shape of every parameter and buffer.
    """
    _freeze_conflicts(tape)
    roots = tape.ties.roots()
    unit = roots["unit"]
    frozen = _frozen(tape, unit)
    rows = _rows(tape)
    parents = _joined(rows, unit, (frozen, shapes), tape.ties.count)
    found = Analysis(tape, shapes, roots)
    readers = _readers(tape, unit, parents)
    kinds = _kinds(tape, rows, unit)
    first: dict[int, Group] = {}
    for (name, _), ids in rows.items():
        for key in torch.unique(parents[unit[ids[ids != 0]]]).tolist():
            module = (name.rpartition(".")[0] if (name, -1) not in rows else "") or name
            if key in first:
                known = first[key]
                known.writers = tuple(dict.fromkeys((*known.writers, module)))
                continue
            group = _group(tape, roots, (key, parents, module, kinds), ids)
            group.frozen, group.shared = frozen.get(int(group.units[0]), (None, False))
            group.readers = tuple(readers.get(key, ()))
            if group.frozen is None and not group.readers and group.rule == "free":
                group.frozen = Refusal(module, "forward", "nothing that can be followed reads it")
            first[key] = group
    found.groups = list(first.values())
    _name_apart(found.groups)
    for group in found.groups:
        if group.frozen is not None:
            group.frozen = Refusal(group.name, group.frozen.operation, group.frozen.reason)
    return found


def _name_apart(groups: list[Group]) -> None:
    """Number groups that one module writes first, those that can grow before those that cannot."""
    known: dict[str, int] = {}
    for group in sorted(groups, key=lambda g: g.frozen is not None):
        known[group.name] = known.get(group.name, 0) + 1
        if known[group.name] > 1:
            group.name = f"{group.name} ({known[group.name]})"


def _rows(tape: Tape) -> dict[tuple[str, int], Tensor]:
    """Return the identities of every parameter's rows; bare parameters have axis -1."""
    bare = {(name, -1): torch.unique(ids) for name, ids in tape.elements.items()}
    return {**tape.written, **bare}


def _freeze_conflicts(tape: Tape) -> None:
    """Freeze parameters that are used in two ways at once."""
    for (name, axis), ids in tape.written.items():
        site = tape.sites[0]
        if (name, axis) in tape.readings:
            reading = tape.readings[name, axis][0]
            reason = f"{name} is tied: it writes these channels and reads them as well"
            tape.freeze(torch.cat([ids, reading.ids.flatten()]), reading.site, reason, shared=True)
        if name in tape.elements:
            reason = f"{name} is used as a layer and as a bare parameter"
            tape.freeze(torch.cat([ids, tape.elements[name]]), site, reason, shared=True)
    for (name, axis), readings in tape.readings.items():
        for reading in readings[1:]:
            if reading.ids.shape[1] != readings[0].ids.shape[1] or len(reading.ids) != len(
                readings[0].ids
            ):
                reason = f"{name} (axis {axis}) is shared by layers that read differently"
                ids = torch.cat([reading.ids.flatten(), readings[0].ids.flatten()])
                tape.freeze(ids, reading.site, reason, shared=True)


def _frozen(tape: Tape, unit: Tensor) -> dict[int, tuple[Refusal, bool]]:
    """Return for each frozen unit the first thing in its way, and if that is a shared parameter."""
    found: dict[int, tuple[Refusal, bool]] = {}
    for freeze in tape.freezes:
        for root in torch.unique(unit[freeze.ids]).tolist():
            found.setdefault(root, (Refusal("", str(freeze.site), freeze.reason), freeze.shared))
    return found


def _joined(
    rows: dict[tuple[str, int], Tensor],
    unit: Tensor,
    state: tuple[Mapping[int, object], dict[str, tuple[int, ...]]],
    count: int,
) -> Tensor:
    """Return for each unit root the smallest root of its group; frozen units keep apart.

    Units that can grow belong together if one layer writes them; a norm behind a concatenation does
    not bring its parts together.
    """
    frozen, shapes = state
    stiff = torch.zeros(count, dtype=torch.bool)
    if frozen:
        stiff[torch.tensor(list(frozen))] = True
    parents = torch.arange(count)
    chains = []
    for (name, _), ids in rows.items():
        roots = torch.unique(unit[ids[ids != 0]])
        free = roots[~stiff[roots]] if len(shapes[name]) > 1 else roots[:0]
        for some in (free, roots[stiff[roots]]):
            if len(some) > 1:
                chains.append(torch.stack([some[:-1], some[1:]]))
    if not chains:
        return parents
    from relearn.methods.grow.ties import classes

    return classes(parents, chains)


def _kinds(tape: Tape, rows: dict[tuple[str, int], Tensor], unit: Tensor) -> Tensor:
    """Return for each unit's root a number that tells where it stands how often."""
    arrays = [*rows.values(), *(r[0].ids[0] for r in tape.readings.values())]
    roots = torch.unique(unit[torch.cat(arrays)]) if arrays else unit[:0]
    total = torch.zeros(len(roots), dtype=torch.long)
    for number, ids in enumerate(arrays):
        met = torch.searchsorted(roots, unit[ids])
        often = torch.bincount(met, minlength=len(roots))
        total = (total * 1_000_003 + often * (number + 7919)) % (1 << 40)
    result = torch.zeros(len(unit), dtype=torch.long)
    result[roots] = total
    return result


def _readers(tape: Tape, unit: Tensor, parents: Tensor) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for (name, _), readings in tape.readings.items():
        ids = readings[0].ids
        for key in torch.unique(parents[unit[ids[ids != 0]]]).tolist():
            names = found.setdefault(key, [])
            names.append(name.rpartition(".")[0] or name)
    return found


def _group(
    tape: Tape, roots: dict[str, Tensor], key: tuple[int, Tensor, str, Tensor], ids: Tensor
) -> Group:
    """Return the group that a parameter's rows are the first to write."""
    number, parents, module, kinds = key
    unit = roots["unit"]
    mine = ids[(ids != 0)]
    mine = mine[parents[unit[mine]] == number]
    everywhere = torch.cat([i for i in _rows(tape).values()])
    everywhere = torch.unique(unit[everywhere[everywhere != 0]])
    units = everywhere[parents[everywhere] == number]
    rows = torch.searchsorted(units, unit[mine])
    group = Group(module, (module,), (), units, rows, kinds[units])
    norms = {s.name for s, i in tape.uniform if len(i) > 1 and torch.isin(unit[i], units).any()}
    if norms:
        group.rule = "uniform"
        group.paddable = len(units) == 1 and norms in ({"layer_norm"}, {"rms_norm"})
    elif len(units) < len(mine):
        group.rule = "blocks"
    return group
