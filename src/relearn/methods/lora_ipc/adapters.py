"""A net with low-rank modules, task after task: begin, train, finish; look back, roll back.

The backbone is frozen and never written. A task that was begun and not finished leaves nothing
behind: the model after the previous task is what it was.

References:
    LoRAC-IPC, arXiv 2504.13407. A matrix that is frozen after task t gets no later module and
    keeps the omega it then had, so that its effective weight keeps every bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from relearn.errors import TrainingError
from relearn.methods.lora_ipc.attachment import Settings, check_room, exchange
from relearn.methods.lora_ipc.matrices import find_matrices
from relearn.methods.lora_ipc.modules import AdaptedMatrix, Snapshot, runs_of
from relearn.methods.lora_ipc.orthogonality import basis_of, complement, first_factor
from relearn.methods.lora_ipc.task_rules import (
    check_classes,
    check_freezing,
    check_planned,
    check_snapshot,
    refuse_open,
)
from relearn.models.heads import find_head


class Adapters:
    """The modules of a net and the tasks that made them.

    Attributes:
        model: The net; its chosen linear layers are exchanged, and only its last layer and the
            factors of a task that has begun are trained.
        settings: What holds for all tasks.
        layers: The exchanged layers.
        matrices: Name such as ``3.fc1`` to matrix.
        classes: For each finished task its classes.
        heads: For each finished task the last layer as it then was, on the CPU.
        open_classes: Classes of the task that has begun; None between tasks.

    Args:
        model: A vision transformer, changed in place.
        settings: What holds for all tasks.
        head: Name of the last layer; empty finds it.

    Raises:
        ParameterError: The net has no attention or lacks a kind of matrix, a setting is unusable,
            or the modules of all planned tasks do not fit beside each other.
        HeadNotFoundError: The last layer is not found.
    """

    def __init__(self, model: nn.Module, settings: Settings, head: str = "") -> None:
        places = find_matrices(model, settings.kinds)
        check_room(places, settings)
        self.model, self.settings = model, settings
        self.head_name = find_head(model, head).name
        self.layers = exchange(model, places, settings)
        self.matrices = {m.place.name: m for layer in self.layers for m in layer.parts}
        self.classes: list[tuple[int, ...]] = []
        self.heads: list[Mapping[str, Tensor]] = []
        self.open_classes: tuple[int, ...] | None = None
        self.first_head = self._head_copy()
        self._free_head()

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        found = self.model.get_submodule(self.head_name)
        if not isinstance(found, nn.Linear):
            raise TrainingError(f"lora_ipc: the last layer {self.head_name!r} is no Linear")
        return found

    @property
    def tasks(self) -> int:
        """Number of finished tasks."""
        return len(self.classes)

    @property
    def frozen(self) -> dict[str, int]:
        """Names of the frozen matrices and after which task each was frozen."""
        found = {name: m.frozen_after for name, m in self.matrices.items()}
        return {name: task for name, task in found.items() if task is not None}

    def begin_task(self, classes: Sequence[int], *, seed: int) -> None:
        """Give every matrix that is not frozen a fresh module, with B = 0: no output changes.

        Args:
            classes: Classes of the task, each for the first time.
            seed: Of the run; each factor has a door of its own.

        Raises:
            ParameterError: The task has no classes, one that an earlier task had, or one that the
                last layer has no output for; or all planned tasks are done.
            TrainingError: The task before has not ended.
        """
        refuse_open(self.open_classes is not None)
        check_planned(self.tasks, self.settings.planned_tasks)
        rows = self.head.out_features
        chosen = check_classes(classes, self.classes, task=self.tasks, rows=rows)
        if self.layers[0].snapshot != Snapshot(self.tasks - 1):
            self.use(self.tasks - 1)
        for name, matrix in self.matrices.items():
            factors = None if self._is_masked(name) else self._draw(matrix, name, seed)
            omega = self.settings.omega and matrix.frozen_after is None
            matrix.open(factors, trains_omega=omega)
        self.open_classes = chosen
        self._refresh(Snapshot(self.tasks - 1))
        self._free_head()

    def factors(self) -> list[nn.Parameter]:
        """Return the factors A and B of the present task, and nothing of the earlier ones."""
        found = [p for m in self.matrices.values() for p in (m.a, m.b)]
        return [p for p in found if p is not None]

    def omegas(self) -> list[nn.Parameter]:
        """Return the weights of earlier modules that the present task trains."""
        return [m.omega for m in self.matrices.values() if m.omega is not None]

    def finish_task(self, freeze: Collection[str] = ()) -> int:
        """End the task: its modules join the earlier ones, and return its number.

        Args:
            freeze: Names of matrices that from now on keep every bit.

        Raises:
            TrainingError: No task has begun.
            ParameterError: A name is not known, or the matrix is frozen already.
        """
        if self.open_classes is None:
            raise TrainingError("lora_ipc: no task has begun; call begin_task first")
        check_freezing(freeze, {name: m.frozen_after for name, m in self.matrices.items()})
        task = self.tasks
        for name, matrix in self.matrices.items():
            matrix.close(task)
            if name in freeze:
                matrix.frozen_after = task
        self.classes.append(self.open_classes)
        self.heads.append(self._head_copy())
        self.open_classes = None
        self._refresh(Snapshot(task))
        return task

    def keep_head(self) -> None:
        """Store the last layer as it is now with the last finished task, after an alignment.

        Raises:
            TrainingError: A task has begun and not ended, or none has been learnt.
        """
        refuse_open(self.open_classes is not None)
        if not self.heads:
            raise TrainingError("lora_ipc: no task has been learnt whose last layer could be kept")
        self.heads[-1] = self._head_copy()

    def abandon_task(self) -> None:
        """Forget the task that was begun; the model is again that after the previous one."""
        for matrix in self.matrices.values():
            matrix.discard()
        self.open_classes = None
        self.use(self.tasks - 1)

    def use(self, task: int, *, without: Collection[int] = ()) -> None:
        """Make the net compute what it did after a finished task, last layer included.

        Args:
            task: Number of a finished task; -1 is the backbone before the first.
            without: Tasks whose modules are left out.

        Raises:
            TrainingError: A task has begun and not ended.
            ParameterError: A task has not been learnt.
        """
        refuse_open(self.open_classes is not None)
        check_snapshot([task, *without], self.tasks)
        self._refresh(Snapshot(task, frozenset(without)))
        self.set_head(self.heads[task] if task >= 0 else self.first_head)

    @contextmanager
    def disabled(self, task: int) -> Iterator[None]:
        """Answer, inside the block, what the net would say without the modules of one task.

        For any task but the last this is an estimate: later modules were trained on top of it.

        Args:
            task: Number of a finished task.

        Raises:
            TrainingError: A task has begun and not ended.
            ParameterError: The task has not been learnt.
        """
        self.use(self.tasks - 1, without=(task,))
        try:
            yield
        finally:
            self.use(self.tasks - 1)

    @contextmanager
    def per_image(self, tasks: Tensor) -> Iterator[None]:
        """Compute, inside the block, each image of a batch as after a task of its own.

        One pass over the whole batch. Images of one task that stand side by side share a product
        with the weight composed for that task, so sort a batch by its tasks (``by_task``); where
        they have too few tokens for that, the factors are applied to each.

        Args:
            tasks: For each image the number of a finished task, int64, shape (batch,).

        Raises:
            TrainingError: A task has begun and not ended.
            ParameterError: A task has not been learnt.
        """
        refuse_open(self.open_classes is not None)
        check_snapshot(tasks.unique().tolist(), self.tasks)
        runs = runs_of(tasks)
        for layer in self.layers:
            layer.mixed = runs
        try:
            yield
        finally:
            for layer in self.layers:
                layer.mixed = None

    def roll_back(self, task: int) -> None:
        """Make the model after a task the last one; the modules of later tasks are dropped.

        Args:
            task: Number of a finished task; -1 leaves the backbone alone.

        Raises:
            TrainingError: A task has begun and not ended.
            ParameterError: The task has not been learnt, or lies past the first.
        """
        self.use(task)
        for matrix in self.matrices.values():
            matrix.truncate(task + 1)
        del self.classes[task + 1 :], self.heads[task + 1 :]
        self._refresh(Snapshot(task))

    def _is_masked(self, name: str) -> bool:
        """Return whether a matrix is kept from getting a module."""
        block, _, kind = name.partition(".")
        asked = f"{block}.q" if self.settings.k_uses_q_mask and kind == "k" else name
        return self.matrices.get(asked, self.matrices[name]).frozen_after is not None

    def _draw(self, matrix: AdaptedMatrix, name: str, seed: int) -> tuple[Tensor, Tensor]:
        rank, kind = self.settings.rank, self.settings.initialisation
        door = f"lora_ipc.factors.{self.tasks}.{name}"
        a = first_factor(matrix.place.in_features, rank, kind, seed=seed, door=door)
        a = a.to(matrix.history_a)
        if kind.startswith("orthonormal"):
            apart = kind == "orthonormal_apart"
            a, _ = complement(a, basis_of(matrix) if apart else a[:, :0])
        return a, a.new_zeros(rank, matrix.place.out_features)

    def _refresh(self, snapshot: Snapshot) -> None:
        for layer in self.layers:
            layer.refresh(snapshot)

    def _free_head(self) -> None:
        trained = {id(p) for p in [*self.factors(), *self.omegas(), *self.head.parameters()]}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in trained)

    def _head_copy(self) -> dict[str, Tensor]:
        return {name: t.detach().cpu().clone() for name, t in self.head.state_dict().items()}

    def set_head(self, state: Mapping[str, Tensor]) -> None:
        """Write the last layer; one that has grown since then has its former size again.

        Args:
            state: Its weight and bias.
        """
        head = self.head
        for name, parameter in list(head.named_parameters()):
            if parameter.shape != state[name].shape:
                setattr(head, name, nn.Parameter(state[name].to(parameter)))
        head.out_features = int(head.weight.shape[0])
        head.load_state_dict(dict(state))
