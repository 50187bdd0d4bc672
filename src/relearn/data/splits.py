"""Seeded splits: by class for transfer and continual work, stratified by sample otherwise.

Draws enter at three doors: ``split.classes`` (which class is base, selection or transfer),
``split.samples.<class>`` (which sample of a class goes where, independent of all other classes) and
``split.tasks`` (order of arrival).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from relearn.data.duplicates import Duplicate, find_duplicates
from relearn.data.randomness import generator_of
from relearn.data.split_table import SplitRow, SplitTable, check_table, stream_of
from relearn.data.tasks import task_order
from relearn.errors import DataError, ParameterError, one_of

if TYPE_CHECKING:
    from relearn.data.images import LabelledImages

__all__ = ["SplitPlan", "SplitRow", "SplitTable", "check_table", "split_images", "stream_of"]

_AUTOMATIC_TASKS = 10
_AUTOMATIC_SHARE = 5  # a fifth of the classes is held out where no number is given
Rows = dict[int, list[int]]


@dataclass(frozen=True)
class SplitPlan:
    """How to divide the images; fields and defaults as in ``data.split``.

    Attributes:
        by: ``class`` or ``sample``.
        seed: Seed of all draws.
        base_part: Part that base classes (by sample: training and validation) come from.
        transfer_part: Part that unseen classes (by sample: the test split) come from.
        base_classes: Classes to pre-train on; 0 = the rest.
        selection_classes: Unseen classes for choosing; 0 = a fifth, None = none.
        transfer_classes: Unseen classes for reporting; 0 = a fifth.
        train_share: Share of a base class that trains.
        validation_share: Share that validates; the rest tests.
        support_per_class: Labelled samples of an unseen class; 0 = ``train_share``.
        query_per_class: Its scoring samples; 0 = the rest.
        tasks: Tasks of the class-incremental order; 0 = ten at most.
    """

    by: Literal["class", "sample"] = "class"
    seed: int = 0
    base_part: str = ""
    transfer_part: str = ""
    base_classes: int = 0
    selection_classes: int | None = 0
    transfer_classes: int = 0
    train_share: float = 0.75
    validation_share: float = 0.25
    support_per_class: int = 0
    query_per_class: int = 0
    tasks: int = 0


def split_images(images: LabelledImages, plan: SplitPlan) -> SplitTable:
    """Return which image stands in which split.

    Args:
        images: All images of the source.
        plan: How to divide them.

    Raises:
        ParameterError: A part of the source is not known.
        DataError: There are too few classes or images; the message names the parameter.
    """
    for field, part in (("base_part", plan.base_part), ("transfer_part", plan.transfer_part)):
        if part and part not in images.part_names:
            raise one_of(f"data.split.{field}", part, images.part_names)
    held_out = _in_part(images, plan.transfer_part) if plan.transfer_part else None
    nothing = torch.zeros_like(images.labels, dtype=torch.bool)
    duplicates = find_duplicates(
        images.images, images.labels, nothing if held_out is None else held_out
    )
    divide = _by_class if plan.by == "class" else _by_sample
    members, ordered = divide(images, plan, duplicates)
    rows = _rows(images, members, _tasks(ordered, plan))
    left = len(images.labels) - len(rows) - len(duplicates)
    table = SplitTable(tuple(rows), tuple(duplicates), unused=left)
    return check_table(images, table)


def _in_part(images: LabelledImages, part: str) -> torch.Tensor:
    if not part:
        return torch.ones_like(images.part, dtype=torch.bool)
    return images.part == images.part_names.index(part)


def _rows_of_classes(
    images: LabelledImages, inside: torch.Tensor, duplicates: Sequence[Duplicate]
) -> Rows:
    """Return the usable rows of every class, in stored order; a class without any has none."""
    usable = inside.clone()
    usable[[one.index for one in duplicates]] = False
    rows: Rows = {number: [] for number in range(len(images.class_names))}
    labels = images.labels.tolist()
    for row in torch.nonzero(usable).flatten().tolist():
        rows[labels[row]].append(row)
    return rows


def _shuffled(images: LabelledImages, plan: SplitPlan, number: int, rows: list[int]) -> list[int]:
    """Return the rows of one class in an order that depends on the seed and its name only."""
    generator = generator_of(plan.seed, f"split.samples.{images.class_names[number]}")
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]


def share_out(count: int, shares: Sequence[float]) -> list[int]:
    """Return how many of ``count`` samples each share gets, by largest remainder.

    Args:
        count: At least the number of shares above zero.
        shares: Adding up to 1; each above zero gets one sample or more, the others none.
    """
    exact = [round(count * share, 9) for share in shares]
    given = [int(amount) for amount in exact]
    by_rest = sorted(range(len(shares)), key=lambda i: (given[i] - exact[i], i))
    for i in by_rest[: count - sum(given)]:
        given[i] += 1
    for i, share in enumerate(shares):
        if share > 0 and given[i] == 0:
            given[given.index(max(given))] -= 1
            given[i] = 1
    return given


def _shares(plan: SplitPlan) -> tuple[float, float, float]:
    rest = max(0.0, round(1 - plan.train_share - plan.validation_share, 9))
    return plan.train_share, plan.validation_share, rest


Members = dict[str, list[int]]


def _divide_base(
    images: LabelledImages, plan: SplitPlan, rows: Rows, classes: Sequence[int]
) -> Members:
    """Divide the samples of base classes into train, validation and test."""
    shares = _shares(plan)
    needed = sum(share > 0 for share in shares)
    members: Members = {"train": [], "validation": [], "test": []}
    for number in classes:
        if len(rows[number]) < needed:
            raise DataError(
                f"data.split.validation_share: class {images.class_names[number]!r} has "
                f"{len(rows[number])} distinct images{_where(plan.base_part)}, the shares of "
                f"data.split need {needed}; add images, or take the class out"
            )
        shuffled = _shuffled(images, plan, number, rows[number])
        first = 0
        for name, size in zip(members, share_out(len(shuffled), shares), strict=True):
            members[name] += shuffled[first : first + size]
            first += size
    return members


def _where(part: str) -> str:
    return f" in part {part!r}" if part else ""


def _by_sample(
    images: LabelledImages, plan: SplitPlan, duplicates: Sequence[Duplicate]
) -> tuple[Members, list[int]]:
    """Divide the samples of every class; all classes are in the class-incremental order."""
    inside = _in_part(images, plan.base_part)
    held_out = _in_part(images, plan.transfer_part) & bool(plan.transfer_part)
    if plan.transfer_part and plan.base_part == plan.transfer_part:
        raise ParameterError(
            f"data.split.transfer_part: {plan.transfer_part!r} is base_part too; by sample it "
            "becomes the test split and must be another part"
        )
    classes = list(range(len(images.class_names)))
    rows = _rows_of_classes(images, inside & ~held_out, duplicates)
    members = _divide_base(images, plan, rows, classes)
    if plan.transfer_part:  # the part is the test split, whole; what the shares leave over rests
        tested = _rows_of_classes(images, held_out, duplicates)
        members["test"] = [row for number in classes for row in tested[number]]
    return members, classes


def _by_class(
    images: LabelledImages, plan: SplitPlan, duplicates: Sequence[Duplicate]
) -> tuple[Members, list[int]]:
    """Keep whole classes apart; the transfer classes are in the class-incremental order."""
    base_rows = _rows_of_classes(images, _in_part(images, plan.base_part), duplicates)
    unseen_rows = _rows_of_classes(images, _in_part(images, plan.transfer_part), duplicates)
    order = torch.randperm(
        len(images.class_names), generator=generator_of(plan.seed, "split.classes")
    ).tolist()
    selection, transfer = _unseen_classes(plan, unseen_rows, order)
    taken = {*selection, *transfer}
    base = _base_classes(plan, [n for n in order if base_rows[n] and n not in taken])
    members = _divide_base(images, plan, base_rows, sorted(base))
    for name, classes in (("selection", selection), ("transfer", transfer)):
        support, query = _divide_unseen(images, plan, unseen_rows, sorted(classes))
        members |= {f"{name}_support": support, f"{name}_query": query}
    return members, sorted(transfer)


def _unseen_classes(plan: SplitPlan, rows: Rows, order: list[int]) -> tuple[list[int], list[int]]:
    """Choose transfer classes first, then selection classes, among those with enough images."""
    needed = max(1, plan.support_per_class) + max(1, plan.query_per_class)
    able = [number for number in order if len(rows[number]) >= needed]
    automatic = max(2, len(able) // _AUTOMATIC_SHARE)
    transfer = plan.transfer_classes or automatic
    selection = 0 if plan.selection_classes is None else plan.selection_classes or automatic
    if len(able) < transfer + selection:
        fewest = min((len(r) for r in rows.values() if r), default=0)
        raise DataError(
            f"data.split.transfer_classes: {transfer} transfer and {selection} selection classes "
            f"need {transfer + selection} classes with {needed} or more distinct images (support "
            f"{plan.support_per_class} + query {plan.query_per_class})"
            f"{_where(plan.transfer_part)}; got {len(able)}, the smallest class has {fewest}. Add "
            "images, lower the numbers under data.split, or set data.split.by=sample"
        )
    return able[transfer : transfer + selection], able[:transfer]


def _base_classes(plan: SplitPlan, free: list[int]) -> list[int]:
    needed = plan.base_classes or 2
    if len(free) < needed:
        raise DataError(
            f"data.split.base_classes: {len(free)} classes{_where(plan.base_part)} are left beside "
            f"the selection and transfer classes, needed are {needed}; lower the numbers under "
            "data.split, or set data.split.by=sample"
        )
    return free[: plan.base_classes or len(free)]


def _divide_unseen(
    images: LabelledImages, plan: SplitPlan, rows: Rows, classes: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Divide the samples of unseen classes into support and query."""
    support: list[int] = []
    query: list[int] = []
    for number in classes:
        shuffled = _shuffled(images, plan, number, rows[number])
        most = len(shuffled) - max(1, plan.query_per_class)
        taught = plan.support_per_class or max(1, min(most, int(len(shuffled) * plan.train_share)))
        asked = plan.query_per_class or len(shuffled)
        support += shuffled[:taught]
        query += shuffled[taught : taught + asked]
    return support, query


def _tasks(classes: list[int], plan: SplitPlan) -> dict[int, int]:
    """Return the task of each class in the class-incremental order."""
    tasks = plan.tasks or min(_AUTOMATIC_TASKS, len(classes))
    ordered = task_order(torch.tensor(classes), tasks, seed=plan.seed)
    return {number: task for task, numbers in enumerate(ordered) for number in numbers.tolist()}


def _rows(images: LabelledImages, members: Members, task_of: dict[int, int]) -> list[SplitRow]:
    labels = images.labels.tolist()
    rows = [
        SplitRow(row, images.class_names[labels[row]], split, task_of.get(labels[row], -1))
        for split, indices in members.items()
        for row in indices
    ]
    return sorted(rows)
