"""One arm with one seed while it trains: its net, its curve, and the way back to the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from relearn.evaluation.efficiency import Stopwatch, forward_flops
from relearn.evaluation.records import Intervention, Log, Record, Recorder
from relearn.methods.grow.arms import GROWN, epochs_of
from relearn.methods.grow.distil import DistilledLoss, WithTeacher
from relearn.methods.grow.ledger import return_entry
from relearn.methods.grow.samples import batches_of
from relearn.methods.grow.start import start_of
from relearn.methods.grow.stopping import Abort, Stopped
from relearn.methods.grow.teacher import TRAINING_PASSES, score, shape_of
from relearn.models.checkpoint import build
from relearn.training.loop import Windows, fit
from relearn.training.optimizers import make_schedule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.grow.arms import Arm
    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.pair import Pair
    from relearn.training.device import Device
    from relearn.training.loop import LoopState
    from relearn.training.resume import ResumePoint


class StudentRun:
    """Everything that changes while one arm trains.

    Args:
        arm: Where its net comes from and how long it is trained.
        pair: What all arms of one seed share; its nets are used up by this arm.
        config: Knobs, with this arm's own rate already put in.
        device: Where to train.
        log: Live curves.
    """

    def __init__(
        self, arm: Arm, pair: Pair, config: GrowConfig, *, device: Device, log: Log
    ) -> None:
        teacher, grown, samples = pair.teacher, pair.grown, pair.samples
        self.arm, self.teacher, self.samples, self.config = arm, teacher, samples, config
        self.seed, self.device, self.log = pair.seed, device, log
        self.size = shape_of(teacher.checkpoint.architecture)
        self.student_flops = forward_flops(grown.student, self.size)
        self.start = start_of(arm, teacher, grown, config, seed=pair.seed, device=device)
        self.net, self.architecture = self.start.net, self.start.architecture
        self.interventions: list[Intervention] = list(self.start.interventions)
        self.forward_flops = forward_flops(self.net, self.size)
        self.recorder = Recorder("grow", arm.name, pair.seed)
        self.watch = Stopwatch()
        self.watch.seconds |= grown.seconds
        abort = config.growth.abort
        self.abort = Abort(
            float(teacher.told["validation_loss"]),
            patience=abort.patience if arm.start == GROWN else 0,
            tolerance=abort.tolerance,
            grace_steps=abort.grace_steps,
        )
        self.batches = batches_of(
            samples.train,
            self.architecture,
            config.train,
            seed=pair.seed,
            name="train",
            device=device.name,
        )
        self._each = self.forward_flops  # of the net that is trained, whatever is delivered
        self.epochs = self._epochs()
        self.steps, self.returned_at, self.order_digest = 0, -1, ""
        self._losses: list[float] = []

    @property
    def student_steps(self) -> int:
        """Steps of the student, over which all arms are comparable."""
        return self.config.train.epochs * self.batches.steps_per_epoch

    @property
    def flops_per_step(self) -> float:
        """Training FLOPs of one step on a whole batch, a distilling teacher's included."""
        asked = int(self.teacher.told["forward_flops"]) if self.arm.distils else 0
        return self._per_step(TRAINING_PASSES * self._each + asked)

    @property
    def inherited_flops(self) -> float:
        """Training FLOPs of the teacher, where the arm needs one."""
        return float(self.teacher.told["flops"]) if self.arm.inherits else 0.0

    @property
    def student_flops_per_step(self) -> float:
        """The same of the student, in whose budget all arms are comparable."""
        return self._per_step(TRAINING_PASSES * self.student_flops)

    def train(self, resume: ResumePoint | None) -> None:
        """Train until the epochs are over, or back at the teacher if the net stays worse."""
        train = self.config.train
        schedule = make_schedule(
            self.start.optimizer,
            name=train.schedule,
            epochs=self.epochs,
            steps_per_epoch=self.batches.steps_per_epoch,
            warmup_epochs=train.warmup_epochs,
        )
        with self.watch("train"), suppress(Stopped):
            self.evaluate(0)
            fit(
                self._trained(),
                self.batches,
                self._loss(),
                self.start.optimizer,
                epochs=self.epochs,
                windows=Windows(after_step=self._after_step, after_epoch=self._after_epoch),
                log=self.log,
                resume=resume,
                schedule=schedule,
                device=self.device,
                max_gradient_norm=train.max_gradient_norm,
                progress=f"grow: arm {self.arm.name}, seed {self.seed}",
                where=f"grow: arm {self.arm.name}, seed {self.seed}",
                books=self,
            )
        self.order_digest = self.order_digest or self.batches.order_digest

    def evaluate(self, step: int) -> tuple[float, float]:
        """Write and return accuracy and loss on the validation images.

        Args:
            step: Optimizer steps done.
        """
        with self.watch("validation"):
            accuracy, loss = score(self.net, self.samples.validation, self.architecture)
        values = {
            "validation_accuracy": accuracy,
            "validation_loss": loss,
            "flops": step * self.flops_per_step,
            "total_flops": step * self.flops_per_step + self.inherited_flops,
        }
        if self._losses:
            values["train_loss"] = sum(self._losses) / len(self._losses)
        self.recorder.add("curve", step, values)
        self.log(step, values)
        self._losses = []
        return accuracy, loss

    def state(self) -> dict[str, Any]:
        """Return the books for a resume point."""
        return {
            "records": [r.as_row() for r in self.recorder.records],
            "interventions": [i.as_row() for i in self.interventions],
            "above": self.abort.above,
            "steps": self.steps,
            "order_digest": self.order_digest,
            "losses": self._losses,
            "seconds": self.watch.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the books kept by ``state``."""
        self.recorder.records = [Record(**row) for row in state["records"]]
        self.interventions = [Intervention(**row) for row in state["interventions"]]
        self.abort.above, self.steps = int(state["above"]), int(state["steps"])
        self.order_digest = str(state["order_digest"])
        self._losses = [float(loss) for loss in state["losses"]]
        self.watch.seconds = dict(state["seconds"])

    def _per_step(self, flops: int) -> float:
        return float(flops) * len(self.samples.train) / self.batches.steps_per_epoch

    def _epochs(self) -> int:
        images = len(self.samples.train)
        return epochs_of(
            self.arm,
            student_epochs=self.config.train.epochs,
            student=TRAINING_PASSES * self.student_flops * images,
            own=TRAINING_PASSES * self.forward_flops * images,
            teacher=int(self.teacher.told["flops"]),
        )

    def _trained(self) -> nn.Module:
        if not self.arm.distils:
            return self.net
        wise = self.device.place(build(self.teacher.checkpoint))
        return WithTeacher(self.net, wise)

    def _loss(self) -> Any:
        smoothing, distil = self.config.train.label_smoothing, self.config.distillation
        if self.arm.distils:
            return DistilledLoss(distil.temperature, distil.weight, smoothing)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return torch.nn.functional.cross_entropy(
                logits.float(), labels, label_smoothing=smoothing
            )

        return loss

    def _after_step(self, state: LoopState) -> None:
        self.steps = state.step
        self._losses.append(state.loss)
        often = self.config.evaluation
        early = state.step <= often.early_steps
        if state.step % (often.early_every if early else often.every_steps):
            return
        loss = self.evaluate(state.step)[1]
        if self.abort.due(loss, state.step):
            self._return_to_teacher(state)

    def _after_epoch(self, state: LoopState) -> None:
        if state.epoch == self.config.train.epochs:
            # over the student's epochs, which all arms share whatever their budget
            self.order_digest = self.batches.order_digest
        last = self.recorder.records[-1].step
        if state.epoch == self.epochs and last != state.step:
            self.evaluate(state.step)

    def _return_to_teacher(self, state: LoopState) -> None:
        """Put the teacher in the place of the net, book it, and end the training."""
        row = {"arm": self.arm.name, "seed": self.seed, "step": state.step, "epoch": state.epoch}
        self.interventions.append(return_entry(self.net, self.teacher.checkpoint, row=row))
        self.net = self.device.place(build(self.teacher.checkpoint))
        self.architecture = self.teacher.checkpoint.architecture
        self.forward_flops = forward_flops(self.net, self.size)
        self.returned_at = state.step
        self.log(state.step, {"returned_to_teacher": 1.0})
        raise Stopped
