"""Work out how a network can grow: which channels belong together, by how much, and what cannot.

Chen, Goodfellow, Shlens, "Net2Net", arXiv 1511.05641, widens layers named by hand. Here labels run
through the network's own forward (``execution.py``), so that any network is planned by itself; what
cannot be grown exactly is left as it is and listed with its reason.
"""

from __future__ import annotations

import fnmatch
import math
from typing import TYPE_CHECKING, Any

import torch

from relearn.errors import near_miss
from relearn.methods.grow.deepen import added_cost, places_for
from relearn.methods.grow.document import Forecast, GroupPlan, GrowthPlan, Refusal
from relearn.methods.grow.draw import draw_by_kind
from relearn.methods.grow.faults import (
    FrozenGroupError,
    GrowthError,
    SharedParameterError,
    UnknownGroupError,
)
from relearn.methods.grow.groups import Analysis, Group, analyse
from relearn.methods.grow.running import describe_inputs, examples_in, record, shapes_of
from relearn.methods.grow.sizes import new_sizes
from relearn.methods.grow.tape import Misfit
from relearn.methods.grow.widened import Widened, widen_labels
from relearn.provenance import digest

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.grow.spec import GrowthSpec
    from relearn.methods.grow.tape import Tape


def plan(model: nn.Module, example_input: Any, spec: GrowthSpec) -> GrowthPlan:
    """Return how the network can grow as asked; the network is left exactly as it is.

    Args:
        model: Any network whose forward is made of torch operations; float32 or float64.
        example_input: What the forward takes: a tensor such as (batch, channels, height, width), a
            tuple of tensors, or a dictionary of tensors by argument name. Values do not matter.
        spec: How much to grow, and where.

    Raises:
        UntraceableError: The forward fails on the example or leaves torch; names the line.
        DataDependentError: The forward decides by the value of an activation; names the line.
        UnknownGroupError: A pattern in ``spec.groups`` meets no module that writes channels.
        FrozenGroupError: A pattern meets only channels that cannot grow; says why.
        SharedParameterError: The same, where a parameter that is used in two ways (a table that is
            embedding and output at once) stands in the way; also where nothing is left that could
            have the factor ``spec.width``. Beside other groups it is left as it is and listed.
    """
    described = describe_inputs(example_input)
    tape, _ = record(model, described)
    analysis = analyse(tape, shapes_of(model))
    factors = _factors(analysis, spec)
    widened = _fitting(model, analysis, (factors, spec, described))
    examples = examples_in(described)
    before = tape.flops(tape.sites) // examples
    after = tape.flops(widened.sites) // examples
    depth = places_for(model, widened.outputs, spec)
    counts = _parameters(model, widened)
    further = [added_cost(entry) for entry in depth]
    return GrowthPlan(
        spec=spec,
        groups=tuple(_document(g, widened) for g in analysis.groups if g.frozen is None),
        refusals=(*(g.frozen for g in analysis.groups if g.frozen is not None), *_unruled(tape)),
        depth=depth,
        before=Forecast(counts[0], before),
        after=Forecast(counts[1] + sum(f[0] for f in further), after + sum(f[1] for f in further)),
        architecture=digest({n: list(s) for n, s in shapes_of(model).items()}),
        inputs=described,
        analysis=analysis,
    )


def _parameters(model: nn.Module, widened: Widened) -> tuple[int, int]:
    before = after = 0
    for name, parameter in model.named_parameters():
        before += parameter.numel()
        after += math.prod(widened.shape(name, tuple(parameter.shape)))
    return before, after


def _unruled(tape: Tape) -> list[Refusal]:
    """Return modules whose parameters no rule could read, each once."""
    found: dict[str, Refusal] = {}
    for name, (site, reason) in tape.unruled.items():
        module = name.rpartition(".")[0] or name
        found.setdefault(module, Refusal(module, str(site), reason))
    return list(found.values())


def _document(group: Group, widened: Widened) -> GroupPlan:
    copies = widened.copies[group.units]
    pads = widened.layout.padding.sizes.get(int(group.units[0]), 0)
    return GroupPlan(
        name=group.name,
        writers=group.writers,
        readers=group.readers,
        units=len(group.units),
        channels=len(group.rows),
        new_units=int(copies.sum()),
        new_channels=int(copies[group.rows].sum()) + pads,
        rule=group.rule,
        even=group.even is not None,
        padding=pads,
    )


def _factors(analysis: Analysis, spec: GrowthSpec) -> dict[str, float]:
    """Return the factor of each group that can grow.

    Raises:
        UnknownGroupError: A pattern meets nothing.
        FrozenGroupError: A pattern, or the factor of all, meets only what cannot grow.
    """
    factors = {g.name: spec.width for g in analysis.groups if g.frozen is None}
    chosen: dict[str, str] = {}
    for pattern, factor in spec.groups.items():
        met = [g for g in analysis.groups if _meets(g, pattern)]
        if not met:
            names = [w for g in analysis.groups for w in g.writers]
            raise UnknownGroupError(
                f"groups[{pattern}]: meets no layer that writes channels,"
                f"{near_miss(pattern, names)} expected a name or pattern such as {names[0]!r}",
                group=pattern,
                operation="widen",
            )
        free = [g for g in met if g.frozen is None]
        if not free:
            raise _refused(f"groups[{pattern}]", met)
        for group in free:
            _choose(group, pattern, factor, (factors, chosen, spec))
    shared = [g for g in analysis.groups if g.shared]
    if spec.width > 1 and not factors and shared:
        raise _refused("width", shared)
    return factors


def _refused(asked: str, met: list[Group]) -> FrozenGroupError:
    """Return the error of what was asked for groups of which none can grow."""
    group = next((g for g in met if g.shared), met[0])
    refusal = group.frozen or Refusal("", "", "")
    kind = SharedParameterError if group.shared else FrozenGroupError
    remedy = "; give each use a parameter of its own to grow it" if group.shared else ""
    return kind(
        f"{asked}: {group.name} cannot grow: {refusal.reason} ({refusal.operation}){remedy}",
        group=group.name,
        operation=refusal.operation,
    )


def _choose(group: Group, pattern: str, factor: float, state: tuple[Any, Any, Any]) -> None:
    factors, chosen, spec = state
    earlier = chosen.get(group.name)
    if earlier is not None and spec.groups[earlier] != factor:
        raise FrozenGroupError(
            f"groups[{pattern}]: {group.name} belongs to {earlier} too, which asks for another "
            f"factor ({spec.groups[earlier]}, not {factor}); its layers can only grow together",
            group=group.name,
            operation="widen",
        )
    factors[group.name] = factor
    chosen[group.name] = pattern


def _meets(group: Group, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (group.name, *group.writers))


def _fitting(model: nn.Module, analysis: Analysis, task: tuple[Any, Any, Any]) -> Widened:
    """Return the widest growth whose labels fit; groups that do not are frozen, with the reason."""
    factors, spec, described = task
    for _ in range(3 * len(analysis.groups) + 1):
        copies, padding = _copies(analysis, factors, spec)
        try:
            return widen_labels(model, analysis, (copies, padding), described)
        except Misfit as misfit:
            _give_way(analysis, (copies, padding), misfit)
    raise GrowthError("no group can grow, and the network still does not fit", operation="widen")


def _copies(
    analysis: Analysis, factors: dict[str, float], spec: GrowthSpec
) -> tuple[torch.Tensor, dict[int, int]]:
    """Return how often each unit is to stand in the student, and what pads a group.

    The draw is the most lopsided one: what fits it does not fit by luck, whatever seed comes later.
    """
    copies = torch.ones(analysis.tape.ties.count, dtype=torch.long)
    sizes = new_sizes(analysis, factors, spec.multiple_of)
    padding: dict[int, int] = {}
    for group in analysis.groups:
        if group.name not in sizes or group.frozen is not None:
            continue
        new, pads = sizes[group.name]
        alike = group.even is not None or group.rule == "uniform"
        mapping = "balanced" if alike else spec.mapping
        copies[group.units] = draw_by_kind(group.kinds, new, mapping=mapping, generator=None)
        padding |= {int(group.units[0]): pads} if pads else {}
    return copies, padding


def _give_way(
    analysis: Analysis, growth: tuple[torch.Tensor, dict[int, int]], misfit: Misfit
) -> None:
    """Freeze the groups that a misfit names, or copy them evenly if that may help."""
    copies, padding = growth
    ids = misfit.ids.long()
    roots = torch.unique(analysis.roots["unit"][ids[ids > 0]]) if ids.numel() else ids
    growing = [g for g in analysis.groups if g.frozen is None and _grows(g, copies, padding)]
    if not growing:
        raise GrowthError(f"{misfit}: the net does not fit itself", operation=str(misfit.site))
    met = [g for g in growing if torch.isin(g.units, roots).any()]
    met = met or _around(growing, misfit.site.module) or growing
    padded = [g for g in met if int(g.units[0]) in padding]
    if padded:
        for group in padded:
            group.paddable = False
            group.even = Refusal(group.name, str(misfit.site), misfit.reason)
        return
    loose = [g for g in _beside(analysis, growing, met) if g.even is None and g.rule != "uniform"]
    for group in loose:
        group.even = Refusal(group.name, str(misfit.site), misfit.reason)
    for group in [] if loose else met:
        group.frozen = Refusal(group.name, str(misfit.site), misfit.reason)


def _around(growing: list[Group], module: str) -> list[Group]:
    """Return the groups that layers of one module read or write."""
    inside = f"{module}."
    return [g for g in growing if any(n.startswith(inside) for n in (*g.readers, *g.writers))]


def _grows(group: Group, copies: torch.Tensor, padding: dict[int, int]) -> bool:
    return bool((copies[group.units] > 1).any()) or int(group.units[0]) in padding


def _beside(analysis: Analysis, growing: list[Group], met: list[Group]) -> list[Group]:
    """Return groups and those that are read together with one of them."""
    unit = analysis.roots["unit"]
    mine = torch.cat([g.units for g in met])
    near = [mine]
    for readings in analysis.tape.readings.values():
        roots = torch.unique(unit[readings[0].ids])
        if torch.isin(roots, mine).any():
            near.append(roots)
    roots = torch.cat(near)
    found = [g for g in met if g.even is None and g.rule != "uniform"]
    return found or [g for g in growing if torch.isin(g.units, roots).any()]
