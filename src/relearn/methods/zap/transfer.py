"""Judging a pre-trained net on classes it has never seen: E1 continual, E2 few-shot, E3 ridge.

Paper: arXiv 2310.07996, transfer experiments; official code, ``eval_anml.py``, ``eval_map.py``. We
differ in one thing that decides the sign of the result: learning rates and the first weights of the
transfer head are chosen on the selection classes, with the same budget for every arm, and reported
on the transfer classes. (The official evaluation chooses on the classes it reports.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from relearn.evaluation import continual
from relearn.evaluation.classification import accuracy_of
from relearn.methods.zap.few_shot import AdaptationCurve, few_shot_transfer
from relearn.methods.zap.sequential import SequentialResult, Setting, sequential_transfer
from relearn.methods.zap.transfer_task import (
    TransferHead,
    TransferTask,
    draw_transfer_task,
    logits_of,
    with_transfer_head,
)
from relearn.training.choice import Choice, choose_rate, grid_rates

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Stream
    from relearn.evaluation.records import Recorder
    from relearn.methods.zap.transfer_config import TransferConfig
    from relearn.models.checkpoint import Architecture
    from relearn.training.config import GridConfig


@dataclass
class Judge:
    """Judges one net; every arm of one seed meets the same classes, samples and orders.

    Attributes:
        model: The pre-trained net; it keeps every bit.
        architecture: Its architecture (normalisation).
        stream: Holds the selection and transfer splits.
        config: The protocols' knobs.
        seed: Seed of the pair.
        outputs: Outputs of the transfer head; 0 means one a class.
        head_name: Name of the last layer; empty finds it.
        device: Torch device string.
    """

    model: nn.Module
    architecture: Architecture
    stream: Stream
    config: TransferConfig
    seed: int
    outputs: int = 0
    head_name: str = ""
    device: str = "cpu"

    def task(self, name: str, classes: int, *, choosing: bool) -> TransferTask:
        """Return the classes to choose on, or those to report on."""
        on_selection = choosing and self.config.select_on == "validation"
        return draw_transfer_task(
            self.stream,
            pool="selection" if on_selection else "transfer",
            classes=classes or self._all_classes(),
            seed=self.seed,
            name=name,
            mean=self.architecture.mean,
            std=self.architecture.std,
            device=self.device,
        )

    def _all_classes(self) -> int:
        """Return the classes of the smaller pool, so that choosing and reporting are alike."""
        pools = (
            ("selection", "transfer") if self.config.select_on == "validation" else ("transfer",)
        )
        return min(len(self.stream.split(f"{pool}_support").classes) for pool in pools)

    @cached_property
    def few_shot_tasks(self) -> tuple[TransferTask, TransferTask]:
        """The task to choose on and the task to report on."""
        classes = self.config.few_shot.classes
        return (
            self.task("few_shot", classes, choosing=True),
            self.task("few_shot", classes, choosing=False),
        )

    @cached_property
    def penalty(self) -> tuple[float, float]:
        """Relative penalty of the ridge head with the best score on the classes to choose on."""
        ridge, task = self.config.ridge, self.few_shot_tasks[0]
        low, high = torch.tensor([ridge.lowest, ridge.highest]).log10()
        tried = {p: self.ridge_score(task, p) for p in _spaced(low, high, ridge.points)}
        best = max(tried, key=lambda p: (tried[p], p))
        return best, tried[best]

    def ridge_score(self, task: TransferTask, penalty: float) -> float:
        """Return the query accuracy of the closed-form head, 0 to 1."""
        head = TransferHead("ridge", outputs=self.outputs, penalty=penalty, name=self.head_name)
        net = with_transfer_head(self.model, task, head, seed=self.seed)
        return accuracy_of(logits_of(net, task.query), task.query_labels)

    def few_shot(self, start: str, rate: float, *, choosing: bool) -> AdaptationCurve:
        """Return the adaptation curve of one head and rate."""
        few = self.config.few_shot
        return few_shot_transfer(
            self.model,
            self.few_shot_tasks[0 if choosing else 1],
            self._head(start, alone=few.freeze_backbone),
            rate=rate,
            seed=self.seed,
            epochs=few.epochs,
            batch_size=few.batch_size,
            evaluate_every=0 if choosing else few.evaluate_every,
        )

    def choose_few_shot(self) -> dict[str, Choice]:
        """Return, for each competing head, the rate that scores best on the selection classes."""
        few = self.config.few_shot

        def scorer(start: str) -> Choice:
            def score(rates: Sequence[float]) -> list[float]:
                return [self.few_shot(start, r, choosing=True).final for r in rates]

            return _choose(score, few.rate)

        return {start: scorer(start) for start in few.heads.names}

    def choose_continual(self) -> dict[str, Choice]:
        """Return, for each competing head, the best rate; first grids are learnt in one call."""
        setup = self.config.continual
        task = self.task("continual", setup.classes, choosing=True)
        known: dict[tuple[str, float], float] = {}

        def run(pairs: Sequence[tuple[str, float]]) -> None:
            found = self._sequential(task, pairs, every=0)
            known.update(
                {p: continual.average_accuracy(r.matrix) for p, r in zip(pairs, found, strict=True)}
            )

        def scorer(start: str) -> Choice:
            def score(rates: Sequence[float]) -> list[float]:
                missing = [(start, r) for r in rates if (start, r) not in known]
                if missing:
                    run(missing)
                return [known[start, r] for r in rates]

            return _choose(score, setup.rate)

        grid = grid_rates(
            centre=setup.rate.centre, factor=setup.rate.factor, points=setup.rate.points
        )
        run([(start, rate) for start in setup.heads.names for rate in grid])
        return {start: scorer(start) for start in setup.heads.names}

    def _sequential(
        self, task: TransferTask, pairs: Sequence[tuple[str, float]], *, every: int
    ) -> list[SequentialResult]:
        alone = self.config.continual.freeze_backbone
        settings = [Setting(self._head(start, alone=alone), rate) for start, rate in pairs]
        return sequential_transfer(self.model, task, settings, seed=self.seed, evaluate_every=every)

    def _head(self, start: str, *, alone: bool) -> TransferHead:
        penalty = self.penalty[0] if start == "ridge" else 1.0
        return TransferHead(
            start, outputs=self.outputs, penalty=penalty, alone=alone, name=self.head_name
        )

    def selection_score(self) -> float:
        """Return the best few-shot score on the selection classes: what tuning maximises."""
        return max(choice.score for choice in self.choose_few_shot().values())

    def judge(self, recorder: Recorder) -> dict[str, Tensor]:
        """Write the records of E1, E2 and E3 and return predictions and accuracy matrices.

        Args:
            recorder: Takes the rows.

        Returns:
            ``few_shot.label``, ``few_shot.predicted`` (int64, one length) and, where E1 ran,
            ``continual.matrix`` (float64, evaluations x classes).
        """
        tensors = self._judge_few_shot(recorder)
        penalty, _ = self.penalty
        recorder.add(
            "ridge",
            0,
            {"accuracy": self.ridge_score(self.few_shot_tasks[1], penalty), "penalty": penalty},
        )
        if self.config.continual.enabled:
            tensors |= self._judge_continual(recorder)
        return tensors

    def _judge_few_shot(self, recorder: Recorder) -> dict[str, Tensor]:
        choices = self.choose_few_shot()
        _write_choices(recorder, "few_shot", choices)
        best = best_head(choices)
        curves = {
            start: self.few_shot(start, choice.rate, choosing=False)
            for start, choice in choices.items()
        }
        for step, value in zip(curves[best].steps, curves[best].accuracy, strict=True):
            recorder.add("few_shot", step, {"accuracy": value})
        chosen, last = curves[best], curves[best].steps[-1]
        recorder.add(
            "few_shot",
            last,
            {
                **{f"accuracy_{start}_head": curve.final for start, curve in curves.items()},
                "support_accuracy": chosen.support_accuracy,
                "steps_to_target": float(chosen.steps_to(self.config.few_shot.target_share)),
                "area_under_curve": chosen.area(),
            },
        )
        labels = self.few_shot_tasks[1].query_labels.cpu()
        return {"few_shot.label": labels, "few_shot.predicted": chosen.predicted}

    def _judge_continual(self, recorder: Recorder) -> dict[str, Tensor]:
        setup = self.config.continual
        choices = self.choose_continual()
        _write_choices(recorder, "continual", choices)
        pairs = [(start, choice.rate) for start, choice in choices.items()]
        task = self.task("continual", setup.classes, choosing=False)
        found = dict(
            zip(choices, self._sequential(task, pairs, every=setup.evaluate_every), strict=True)
        )
        best = found[best_head(choices)]
        seen = continual.seen_accuracy(best.matrix, best.learnt)
        for count, value, row in zip(best.learnt, seen, best.matrix, strict=True):
            recorder.add(
                "continual", count, {"seen_accuracy": float(value), "accuracy": float(row.mean())}
            )
        recorder.add(
            "continual",
            best.learnt[-1],
            {
                **{
                    f"accuracy_{start}_head": continual.average_accuracy(result.matrix)
                    for start, result in found.items()
                },
                "forgetting": continual.forgetting(best.matrix, best.learnt),
                "backward_transfer": continual.backward_transfer(best.matrix, best.learnt),
                "support_accuracy": best.support_accuracy,
            },
        )
        return {
            "continual.matrix": best.matrix,
            "continual.learnt": torch.tensor(best.learnt),
        }


def best_head(choices: Mapping[str, Choice]) -> str:
    """Return the head whose best score on the selection classes is highest (first wins a tie)."""
    return max(choices, key=lambda start: choices[start].score)


def _choose(score: Callable[[Sequence[float]], Sequence[float]], grid: GridConfig) -> Choice:
    return choose_rate(
        score,
        centre=grid.centre,
        factor=grid.factor,
        points=grid.points,
        widenings=grid.widenings,
    )


def _spaced(low: Tensor, high: Tensor, points: int) -> list[float]:
    return [float(f"{p:.6g}") for p in torch.logspace(float(low), float(high), points)]


def _write_choices(recorder: Recorder, task: str, choices: Mapping[str, Choice]) -> None:
    best = best_head(choices)
    for start, choice in choices.items():
        recorder.add(
            f"{task}_choice",
            0,
            {
                f"rate_{start}_head": choice.rate,
                f"score_{start}_head": choice.score,
                f"rate_at_border_{start}_head": float(choice.at_border),
                f"chosen_{start}_head": float(start == best),
            },
        )
