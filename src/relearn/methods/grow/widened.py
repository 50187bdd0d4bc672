"""A growth on labels alone: the counts are chosen, the forward is run again and must fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.methods.grow.attributes import Edit, apply_edits, sizes_in_modules
from relearn.methods.grow.labels import copies_of, ids_of
from relearn.methods.grow.layout import Layout, Rows
from relearn.methods.grow.replayer import Columns, Norm, Replayer
from relearn.methods.grow.running import execute, skeleton_of
from relearn.methods.grow.tape import Misfit, Site

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.grow.groups import Analysis
    from relearn.methods.grow.labels import Output


@dataclass(frozen=True)
class Widened:
    """A growth that fits.

    Attributes:
        analysis: Of the teacher.
        copies: For each identity (by its unit's root) how often it stands in the student.
        layout: New rows of every parameter.
        columns: (parameter, axis) to where its new columns come from.
        sites: The operations, with the student's costs.
        edits: Attributes of modules that change.
        outputs: What each module hands out, by name.
        norms: Gains and shifts of normalisations of padded streams.
    """

    analysis: Analysis
    copies: Tensor
    layout: Layout
    columns: Mapping[tuple[str, int], Columns]
    sites: list[Site]
    edits: list[Edit]
    outputs: Mapping[str, Output]
    norms: Mapping[str, Norm]

    def rows(self, name: str, shape: tuple[int, ...]) -> dict[int, Rows]:
        """Return the new rows of a parameter along each axis that it writes with."""
        tape = self.analysis.tape
        found = {a: self.layout.rows(n, a) for n, a in tape.written if n == name}
        if name in tape.elements:
            found |= self.layout.grown_axes(name, shape)
        return found

    def refreshable(self, rows: Rows) -> Tensor:
        """Return which rows are copies that may hold anything, as nothing mixes them; (rows,)."""
        roots = self.analysis.roots["unit"]
        mixed = [roots[ids] for _, ids in self.analysis.tape.uniform]
        owners = roots[ids_of(rows.codes).masked_fill(rows.index < 0, 0)]
        copied = (copies_of(rows.codes) > 0) & (rows.index >= 0)
        return copied & ~torch.isin(owners, torch.cat(mixed)) if mixed else copied

    @property
    def gains(self) -> set[str]:
        """Names of the gains among the parameters of normalisations of padded streams."""
        return {name for name in self.norms if name.endswith("weight")}

    @property
    def level_zero(self) -> set[str]:
        """Names of parameters that write streams whose padding holds 0."""
        tape, unit = self.analysis.tape, self.analysis.roots["unit"]
        sites = [ids for site, ids in tape.uniform if site.name == "rms_norm"]
        if not sites:
            return set()
        roots = unit[torch.cat(sites)]
        found = {n for (n, _), ids in tape.written.items() if torch.isin(unit[ids], roots).any()}
        return found | {n for n, ids in tape.elements.items() if torch.isin(unit[ids], roots).any()}

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the new shape of a parameter."""
        sizes = list(shape)
        for axis, rows in self.rows(name, shape).items():
            sizes[axis] = len(rows.index)
        for (known, axis), columns in self.columns.items():
            if known == name:
                sizes[axis] = len(columns.index)
        return tuple(sizes)


def widen_labels(
    model: nn.Module,
    analysis: Analysis,
    growth: tuple[Tensor, dict[int, int]],
    described: Mapping[str, Any],
) -> Widened:
    """Return the growth with these counts if the student's forward fits it.

    Args:
        model: The teacher.
        analysis: Of the teacher.
        growth: For each identity (by its unit's root) how often it stands in the student; and the
            padding of normalised units.
        described: Shapes and types of the example.

    Raises:
        Misfit: Channels would not be where they belong; names the operation and the channels.
    """
    copies, padding = growth
    layout = Layout(analysis.tape, analysis.roots, copies, padding)
    layout.shape_of_elements = analysis.shapes
    journal = Replayer(analysis.tape, layout, analysis.shapes)
    edits = sizes_in_modules(model, analysis, layout)
    skeleton = skeleton_of(model, _shapes(analysis, layout))
    apply_edits(skeleton, edits)
    try:
        run = execute(skeleton, journal, described)
    except Misfit as misfit:
        misfit.ids = layout.padding.owners(misfit.ids.long())
        raise
    except Exception as error:
        site = journal.sites[-1] if journal.sites else analysis.tape.sites[0]
        raise Misfit(site, torch.zeros(0), f"the forward fails with more channels: {error}") from (
            error
        )
    return Widened(
        analysis,
        copies,
        layout,
        journal.columns,
        journal.sites,
        [*edits, *_followed(model, journal.norms)],
        run.outputs,
        journal.norms,
    )


def _followed(model: nn.Module, norms: Mapping[str, Norm]) -> list[Edit]:
    """Return the edits by which normalisations of padded streams keep their eps in proportion."""
    modules = dict(model.named_modules())
    found = {n.module: n.ratio for n in norms.values()}
    eps = {name: float(getattr(modules[name], "eps", 0.0)) for name in found}
    return [Edit(n, "eps", eps[n], eps[n] * r) for n, r in found.items()]


def _shapes(analysis: Analysis, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Return the shapes that parameters will have where every reader gets what it reads."""
    tape, found = analysis.tape, {}
    for name, shape in analysis.shapes.items():
        sizes = list(shape)
        axes = {a: len(layout.rows(n, a).index) for n, a in tape.written if n == name}
        if name in tape.elements:
            axes |= {a: len(r.index) for a, r in layout.grown_axes(name, shape).items()}
        for (known, axis), readings in tape.readings.items():
            if known == name:
                axes[axis] = layout.size(readings[0].ids[0])
        for axis, size in axes.items():
            sizes[axis] = size
        found[name] = tuple(sizes)
    return found
