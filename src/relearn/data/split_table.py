"""The table behind ``splits.csv``, the audit point, and the stream that is made from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from relearn.data.duplicates import Duplicate, find_copies
from relearn.data.images import SPLITS, LabelledImages, Split, Stream
from relearn.errors import DataError, near_miss

_GROUPS = {name: name.split("_")[0] for name in SPLITS if "_" in name}  # else: base
_REMEDY = "mend the table, or run `kedro run --pipeline prepare_data` again"


@dataclass(frozen=True, slots=True, order=True)
class SplitRow:
    """One image of the table.

    Attributes:
        index: Row among the images.
        class_name: Its class.
        split: One of ``SPLITS``.
        task: Task in which the class arrives in the class-incremental order, or -1.
    """

    index: int
    class_name: str
    split: str
    task: int


@dataclass(frozen=True)
class SplitTable:
    """Which image stands in which split.

    Attributes:
        rows: By index.
        duplicates: Pictures left out because they exist more than once.
        unused: Images left out because the split asks for fewer.
    """

    rows: tuple[SplitRow, ...]
    duplicates: tuple[Duplicate, ...] = ()
    unused: int = 0

    def columns(self) -> dict[str, list[Any]]:
        """Return index, class, split and task as columns, ready for a data frame."""
        return {
            "index": [row.index for row in self.rows],
            "class": [row.class_name for row in self.rows],
            "split": [row.split for row in self.rows],
            "task": [row.task for row in self.rows],
        }

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]]) -> SplitTable:
        """Return the table written by ``columns``, as read back from a file.

        Raises:
            DataError: A column is missing, or a number is none.
        """
        names = ("index", "class", "split", "task")
        missing = [name for name in names if name not in columns]
        if missing:
            raise DataError(f"splits.csv: columns {', '.join(missing)} are missing; {_REMEDY}")
        lines = zip(*(columns[name] for name in names), strict=True)
        try:
            rows = [SplitRow(int(i), str(c), str(s), int(t)) for i, c, s, t in lines]
        except (TypeError, ValueError) as fault:
            raise DataError(
                f"splits.csv: index and task must be whole numbers ({fault}); {_REMEDY}"
            ) from fault
        return cls(tuple(rows))


def check_table(images: LabelledImages, table: SplitTable) -> SplitTable:
    """Check that the table fits the images and lets nothing leak from one split to another.

    Args:
        images: The images that the rows point to.
        table: As split, or as read back and perhaps edited by a person.

    Returns:
        The table with class names as the images have them: programs that read tables make numbers
        of names, so that ``007`` may have come back as ``7``.

    Raises:
        DataError: Naming the row and what is wrong with it.
    """
    labels = images.labels.tolist()
    seen: set[int] = set()
    rows = []
    for row in table.rows:
        fault = _fault(row, images, labels, seen)
        if fault:
            raise DataError(f"splits.csv: row of index {row.index}: {fault}; {_REMEDY}")
        seen.add(row.index)
        rows.append(replace(row, class_name=images.class_names[labels[row.index]]))
    checked = replace(table, rows=tuple(rows))
    _check_classes(checked)
    _check_copies(images, checked)
    return checked


def _fault(row: SplitRow, images: LabelledImages, labels: list[int], seen: set[int]) -> str:
    if not 0 <= row.index < len(labels):
        return f"there are {len(labels)} images"
    if row.index in seen:
        return "it stands there twice"
    if row.split not in SPLITS:
        return f"split {row.split!r} is not known,{near_miss(row.split, SPLITS)}"
    name = images.class_names[labels[row.index]]
    return "" if _same_name(name, row.class_name) else f"its class is {name!r}"


def _same_name(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _check_classes(table: SplitTable) -> None:
    """Check that base, selection and transfer share no class, and that a class has one task."""
    group_of: dict[str, str] = {}
    task_of: dict[str, int] = {}
    for row in table.rows:
        group = _GROUPS.get(row.split, "base")
        if group_of.setdefault(row.class_name, group) != group:
            raise DataError(
                f"splits.csv: class {row.class_name!r} is both in {group_of[row.class_name]} and "
                f"{group} splits; {_REMEDY}"
            )
        if task_of.setdefault(row.class_name, row.task) != row.task:
            raise DataError(f"splits.csv: class {row.class_name!r} has two tasks; {_REMEDY}")


def _check_copies(images: LabelledImages, table: SplitTable) -> None:
    rows = [row.index for row in table.rows]
    for copies in find_copies(images.images[rows]):
        first, second = (table.rows[i] for i in copies[:2])
        raise DataError(
            f"splits.csv: images {first.index} ({first.split}) and {second.index} "
            f"({second.split}) are identical; {_REMEDY}"
        )


def stream_of(images: LabelledImages, table: SplitTable) -> Stream:
    """Return the stream that the table describes.

    Args:
        images: The images that the rows point to.
        table: Checked before it is used.

    Raises:
        DataError: The table does not fit the images, lets something leak, or is empty.
    """
    table = check_table(images, table)
    members: dict[str, list[int]] = {name: [] for name in SPLITS}
    for row in table.rows:
        members[row.split].append(row.index)
    splits = {
        name: Split(images.images[sorted(rows)], images.labels[sorted(rows)])
        for name, rows in members.items()
        if rows
    }
    if "train" not in splits:
        raise DataError(f"splits.csv: no row is in the train split; {_REMEDY}")
    number = {name: i for i, name in enumerate(images.class_names)}
    task_of_class = torch.full((len(number),), -1, dtype=torch.int64)
    for row in table.rows:
        task_of_class[number[row.class_name]] = row.task
    return Stream(splits, images.class_names, task_of_class)
