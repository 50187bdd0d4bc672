"""The course of one training over a stream; ``run.py`` opens it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.batches import to_float
from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.evaluation.efficiency import Stopwatch
from relearn.methods.lora_ipc import evaluate
from relearn.methods.lora_ipc.align import align_head, start_of_alignment
from relearn.methods.lora_ipc.bodies import TaskwiseBody
from relearn.methods.lora_ipc.describe import centroids_of, gaussians_of, stored_with
from relearn.methods.lora_ipc.finish import close_books
from relearn.methods.lora_ipc.freezing import choose, rows_of
from relearn.methods.lora_ipc.last_layer import grown, read_layer
from relearn.methods.lora_ipc.learn import Lesson, Teacher
from relearn.methods.lora_ipc.losses import Consolidation
from relearn.methods.lora_ipc.opening import open_body
from relearn.methods.lora_ipc.readings import Reader
from relearn.methods.lora_ipc.samples import together
from relearn.methods.lora_ipc.trained import Trained
from relearn.training.resume import NoResume

if TYPE_CHECKING:
    from torch import nn

    from relearn.evaluation.records import Log
    from relearn.methods.lora_ipc.arms import Training
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.methods.lora_ipc.freezing import Choice
    from relearn.methods.lora_ipc.learn import Learnt
    from relearn.methods.lora_ipc.samples import TaskStream
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device
    from relearn.training.loop import Keeper


class StreamRun:
    """One training, from the backbone to the last task.

    Args:
        base: The backbone; it keeps every bit.
        tasks: What is learnt.
        config: Knobs.
        training: What is trained, and how.
        trained: Name, seed and digests; what is learnt is written into it.
        device: Where to train.
        log: Live curves.

    Raises:
        ParameterError: The backbone has no attention, or rank and tasks do not fit.
    """

    def __init__(
        self,
        base: Checkpoint,
        tasks: TaskStream,
        config: LoraIpcConfig,
        training: Training,
        *,
        trained: Trained,
        device: Device,
        log: Log,
    ) -> None:
        self.tasks, self.config, self.training = tasks, config, training
        self.trained, self.device, self.log = trained, device, log
        self.architecture, self.seed = trained.shape, trained.seed
        self.body = open_body(base, tasks, config, training, seed=self.seed, device=device)
        holds = training.held_by == "ewc"
        self.holder = Consolidation(self.body.net, config.rivals.ewc_weight) if holds else None
        self.teacher = Teacher(
            training, config, self.architecture, self.seed, device, log, self.holder
        )
        self.watch = Stopwatch()
        self.first: dict[int, torch.Tensor] = {}  # test images after the first task

    @property
    def reader(self) -> Reader:
        """Answers as what has been trained so far."""
        voters = self.config.task_inference.batch_wise_images
        return Reader(self.body, self.architecture, voters=voters)

    def train(self, resume: Keeper | None) -> Trained:
        """Learn all tasks that are not learnt yet and return what came of it.

        Args:
            resume: Where the training is kept after each task; None keeps nothing.
        """
        kept = resume or NoResume()
        found = kept.load()
        if found is None or len(found["similarity"]) < self.tasks.learnt:
            self._compare_tasks()  # by the features of the backbone, before anything is learnt
        if found is not None:
            self._take_up(found)
        for number, lesson in enumerate(self._lessons()):
            if number >= len(self.trained.tasks):
                self._learn(lesson)
                kept.save(self.trained.state())
        with self.watch("judge"):
            close_books(self)
        self._add_seconds()
        return self.trained

    def _learn(self, lesson: Lesson) -> None:
        """Learn one task, freeze, describe its classes, align, measure, write down."""
        lesson = self._with_memory(lesson)
        self.body.begin(lesson.classes, seed=self.seed)
        before = self.body.weights()
        learnt = self.teacher.learn(self.body, lesson, before=self.trained.steps)
        self.trained.steps += learnt.steps
        self.trained.orders.append(learnt.order_digest)
        frozen = self._end(learnt)
        drift = evaluate.drift_between(before, self.body.weights())
        with self.watch("describe"):
            self._describe(lesson)
        with self.watch("align"):
            self._align(lesson)
        if self.holder is not None:
            self._consolidate(lesson)
        with self.watch("judge"):
            self._measure(lesson, learnt, drift, frozen)
        self._remember(lesson)
        self.trained.body = self.body.state()
        self._back_to_plain_head()
        self._add_seconds()

    def _end(self, learnt: Learnt) -> Choice | None:
        """End the task, freeze what became important, and write the ledger's rows."""
        if not isinstance(self.body, TaskwiseBody):
            self.body.end()
            return None
        adapters = self.body.adapters
        choice = choose(adapters, learnt.scores, self.training, self.config, seed=self.seed)
        self.body.end(choice.names)
        rows = rows_of(
            adapters, choice, arm=self.training.name, seed=self.seed, step=self.trained.steps
        )
        self.trained.interventions += [row.as_row() for row in rows]
        return choice

    def _describe(self, lesson: Lesson) -> None:
        """Keep what each class of the task looks like, in place of its images."""
        trained, readings = self.trained, self.training.deliveries.values()
        trained.heads["plain"] = read_layer(self.head)
        given = (self.reader, self.tasks.train[lesson.number], lesson.classes)
        if any(reading.aligned for reading in readings):
            trained.statistics |= gaussians_of(*given, self.config.alignment, seed=self.seed)
        if any(reading.inferred for reading in readings):
            trained.shapes |= centroids_of(*given, self.config.task_inference, seed=self.seed)

    def _align(self, lesson: Lesson) -> None:
        """Keep an aligned last layer with the task, and leave it in the net."""
        trained = self.trained
        if not trained.statistics:
            return
        plain, task = trained.heads["plain"], lesson.number
        # rehearsal trains the rows of earlier classes too
        trained_rows = (*lesson.earlier, *lesson.classes) if lesson.replays else lesson.classes
        aligned = start_of_alignment(plain, trained.heads.get("aligned"), trained_rows)
        if task > 0 or self.config.alignment.first_task:
            aligned = align_head(
                aligned, trained.gaussians(), self.config.alignment, seed=self.seed, task=task
            )
        trained.heads["aligned"] = aligned
        self.head.load_state_dict(aligned)
        if isinstance(self.body, TaskwiseBody):
            self.body.adapters.keep_head()

    def _measure(
        self, lesson: Lesson, learnt: Learnt, drift: dict[str, float], frozen: Choice | None
    ) -> None:
        trained, tasks = self.trained, self.tasks
        trained.tasks.append(list(lesson.classes))
        seen = len(tasks.classes) if self.training.joint else lesson.number + 1
        seen = min(seen, tasks.learnt)
        labels = [label for own in tasks.classes[:seen] for label in own]
        trained.class_names = [tasks.class_names[label] for label in labels]
        trained.class_numbers = [int(tasks.class_numbers[label]) for label in labels]
        trained.learnt.append(seen)
        splits = tasks.test[:seen]
        arms = self.training.deliveries
        answers = evaluate.ask(self.reader, trained, arms, splits, first=self.first)
        found = evaluate.accuracies(answers, splits)
        for arm, row in found.items():
            trained.accuracy.setdefault(arm, []).append(row)
        trained.predictions = evaluate.as_predictions(answers, splits)
        for arm, share in evaluate.task_accuracies(answers).items():
            trained.task_accuracy.setdefault(arm, []).append(share)
        self._write_tables(drift, frozen)
        self._add_costs({"learn_seconds": learnt.seconds})
        means = {f"seen_accuracy.{arm}": sum(row) / len(row) for arm, row in found.items()}
        trained.curves.append(
            {
                "last_loss": learnt.loss,
                "trained_parameters": float(learnt.trained_parameters),
                "mean_drift": sum(drift.values()) / len(drift),
                "frozen_matrices": float(len(self.frozen)),
            }
        )
        self.log(trained.steps, {**means, **trained.curves[-1]})

    def _write_tables(self, drift: dict[str, float], frozen: Choice | None) -> None:
        tables = {"drift": drift, "importance": frozen.scores if frozen else {}}
        if isinstance(self.body, TaskwiseBody):
            tables |= evaluate.tables_of(self.body.adapters)
        for kind, row in tables.items():
            self.trained.matrices.setdefault(kind, []).append(dict(row))

    @property
    def frozen(self) -> dict[str, int]:
        """Frozen matrices and after which task each was frozen."""
        return self.body.adapters.frozen if isinstance(self.body, TaskwiseBody) else {}

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        return self.body.net.get_submodule(self.body.head_name)

    def _lessons(self) -> list[Lesson]:
        tasks = self.tasks
        if self.training.joint:
            return [
                Lesson(0, tasks.seen(tasks.learnt - 1), (), together(tasks.train[: tasks.learnt]))
            ]
        return [
            Lesson(n, tasks.classes[n], tasks.seen(n - 1) if n else (), tasks.train[n])
            for n in range(tasks.learnt)
        ]

    def _take_up(self, state: Mapping[str, Any]) -> None:
        fresh = self.trained
        own: dict[str, Any] = {
            "settings": fresh.settings,
            "stream": fresh.stream,
            "architecture": fresh.architecture,
            "heads": {k: grown(head, self.head) for k, head in state["heads"].items()},
        }
        if fresh.similarity:
            own["similarity"] = fresh.similarity
        self.trained = Trained(**{**state, **own})
        self.body.restore(self.trained.body)
        if self.holder is not None:
            self.holder.restore(self.trained.held)
        self._back_to_plain_head()

    def _back_to_plain_head(self) -> None:
        """Go on from the last layer as the tasks left it, which no alignment has touched."""
        plain = self.trained.heads["plain"]
        if isinstance(self.body, TaskwiseBody):
            self.body.adapters.set_head(plain)
        else:
            self.head.load_state_dict(plain)

    def _with_memory(self, lesson: Lesson) -> Lesson:
        memory = self.trained.memory
        if not memory:
            return lesson
        stored = Split(memory["images"], memory["labels"])
        train = together((lesson.train, stored))
        return Lesson(lesson.number, lesson.classes, lesson.earlier, train, replays=True)

    def _remember(self, lesson: Lesson) -> None:
        if self.training.rehearsal:
            count, own = self.config.rehearsal.per_class, self.tasks.train[lesson.number]
            self.trained.memory = stored_with(self.trained.memory, own, count)

    def _consolidate(self, lesson: Lesson) -> None:
        if self.holder is None:
            return
        order = torch.randperm(
            len(lesson.train),
            generator=generator_of(self.seed, f"lora_ipc.fisher.{lesson.number}"),
        )[: self.config.rivals.ewc_images]
        shape, place = self.architecture, self.device.name
        images = to_float(lesson.train.images[order].to(place), shape.mean, shape.std)
        self.body.net.eval()
        self.holder.add_task(
            images, lesson.train.labels[order].to(place), self.teacher.task_loss(lesson)
        )
        self.trained.held = self.holder.state()

    def _compare_tasks(self) -> None:
        splits: Sequence[Split] = self.tasks.train[: self.tasks.learnt]
        features = [self.reader.features(split.images) for split in splits]
        self.trained.similarity = evaluate.similarity_of_tasks(features)

    def _add_costs(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.trained.costs[name] = self.trained.costs.get(name, 0.0) + value

    def _add_seconds(self) -> None:
        """Take the seconds since last time into the books, so that a kill does not lose them."""
        self._add_costs({f"{name}_seconds": spent for name, spent in self.watch.seconds.items()})
        self.watch = Stopwatch()
