"""What is refused before a task begins or a snapshot is looked up, each in one line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from relearn.errors import ParameterError, TrainingError, near_miss


def refuse_open(is_open: bool) -> None:
    """Refuse what is not possible while a task is being trained.

    Args:
        is_open: Whether a task has begun and not ended.

    Raises:
        TrainingError: It has.
    """
    if is_open:
        raise TrainingError("lora_ipc: a task has begun and not ended; finish or abandon it first")


def check_classes(
    classes: Sequence[int], earlier: Iterable[Sequence[int]], *, task: int, rows: int
) -> tuple[int, ...]:
    """Return the classes of a task that may be begun.

    Args:
        classes: Its classes.
        earlier: The classes of the tasks before.
        task: Its number, from 0.
        rows: Outputs of the last layer.

    Raises:
        ParameterError: There are no classes, one stands in two places, or the last layer has no
            output for one.
    """
    if not classes:
        raise ParameterError(f"lora_ipc.tasks: task {task + 1} has no classes; give it some")
    known = {each for one in earlier for each in one}
    twice = [each for each in classes if each in known or list(classes).count(each) > 1]
    if twice:
        raise ParameterError(
            f"lora_ipc.tasks: class {twice[0]} of task {task + 1} stands in two places; "
            "each class belongs to one task"
        )
    outside = [each for each in classes if not 0 <= each < rows]
    if outside:
        raise ParameterError(
            f"lora_ipc.tasks: task {task + 1} has class {outside[0]}, but the last layer has "
            f"outputs 0 to {rows - 1}; extend it first (relearn.models.heads.extend_head)"
        )
    return tuple(int(each) for each in classes)


def check_planned(finished: int, planned: int) -> None:
    """Check that there is room for one more task.

    Args:
        finished: Tasks that are done.
        planned: Tasks that were planned.

    Raises:
        ParameterError: All planned tasks are done.
    """
    if finished >= planned:
        raise ParameterError(
            f"lora_ipc.tasks.planned: got {planned}, and {finished} tasks are done; plan more "
            "(planned * rank may not exceed d_in) or roll back"
        )


def check_snapshot(tasks: Iterable[int], finished: int) -> None:
    """Check that tasks have been learnt.

    Args:
        tasks: Numbers from 0; -1 is the backbone before the first task.
        finished: Number of finished tasks.

    Raises:
        ParameterError: A task has not been learnt, or lies before the first.
    """
    for task in tasks:
        if task < -1:
            raise ParameterError(
                f"lora_ipc.task: got {task}, which lies past the first task; -1 is the backbone "
                "before it, and the furthest one can roll back"
            )
        if task >= finished:
            raise ParameterError(
                f"lora_ipc.task: got {task}, expected -1 (the backbone) to {finished - 1}, the "
                "last finished task"
            )


def check_freezing(names: Collection[str], frozen: Mapping[str, int | None]) -> None:
    """Check that matrices may be frozen.

    Args:
        names: Names of matrices.
        frozen: For each matrix of the net after which task it was frozen, or None.

    Raises:
        ParameterError: A name is not known, or the matrix is frozen already.
    """
    for name in names:
        if name not in frozen:
            raise ParameterError(
                f"lora_ipc.freeze: {name!r} is no matrix,{near_miss(name, frozen)} expected one "
                f"such as {next(iter(frozen))}"
            )
        if frozen[name] is not None:
            raise ParameterError(f"lora_ipc.freeze: {name} is frozen already; choose another")
