"""Looking at a training from time to time: curves, alarms, and the best model on validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.methods.forget_relearn.roll_back import weights_of
from relearn.methods.forget_relearn.session import Best
from relearn.methods.forget_relearn.watch import NEVER
from relearn.training.single_step import catastrophic_overfitting

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.forget_relearn.session import Session
    from relearn.methods.forget_relearn.watch import Reading
    from relearn.training.loop import LoopState


class Observer:
    """Evaluates the models of a session and keeps what was best.

    Args:
        session: Nets, images and books.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    @torch.no_grad()
    def note_step(self, perturbed: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Note loss and accuracy of an attacked training batch, a by-product of the step.

        Args:
            perturbed: Logits of the attacked images, shape (batch, classes).
            labels: int64, shape (batch,).
            loss: Scalar.
        """
        hits = (perturbed.argmax(1) == labels).double().mean()
        self.session.books.sums += torch.stack([loss.double(), hits, torch.ones_like(hits)])

    def evaluate(self, state: LoopState, *, phase: int) -> None:
        """Write one row of every curve, and keep models that are the best so far.

        Args:
            state: Where the training stands.
            phase: Number of the present phase.
        """
        session, done = self.session, state.epoch
        train = session.examiner.read(session.net, "train")
        found = {
            kind: session.examiner.read(session.as_pixels(net), "validation")
            for kind, net in session.kinds().items()
        }
        self._student_row(state, train=train, validation=found["student"], phase=phase)
        for kind, reading in found.items():
            row = {
                "validation_clean_accuracy": reading.clean,
                "validation_robust_accuracy": reading.robust,
            }
            session.books.curves.setdefault(kind, []).append([done, row])
            prefix = "" if kind == "student" else f"{kind}_"
            session.log(done, {f"{prefix}{name}": value for name, value in row.items()})
            self._keep_best(kind, done, reading)
        if session.trigger.settled(done):
            session.trigger.observe(
                train_robust=train.robust, validation_robust=found["student"].robust
            )

    def _student_row(
        self, state: LoopState, *, train: Reading, validation: Reading, phase: int
    ) -> None:
        session, done = self.session, state.epoch
        loss, hits, count = session.books.sums.tolist()
        row = {
            "student_train_clean_accuracy": train.clean,
            "student_train_robust_accuracy": train.robust,
            "student_validation_robust_accuracy": validation.robust,
            "robust_gap": train.robust - validation.robust,
            "train_loss": loss / max(1.0, count),
            "train_batch_robust_accuracy": hits / max(1.0, count),
            "learning_rate": float(state.optimizer.param_groups[0]["lr"]),
            "phase": float(phase),
        }
        session.books.sums.zero_()
        session.books.curves.setdefault("common", []).append([done, row])
        session.log(done, row)
        judged = self._relearnt(done)  # the dip after a forgetting is no overfitting
        if judged and session.alarm.observe(epoch=done, train=train, validation=validation):
            session.log(done, {"robust_overfitting_alarm": 1.0})
        self._watch_single_step(done)

    def _relearnt(self, done: int) -> bool:
        """Return whether nothing is being relearnt at this epoch."""
        session = self.session
        return not session.training.treated or session.trigger.settled(done)

    def _watch_single_step(self, done: int) -> None:
        """Raise the alarm of catastrophic overfitting, for the one-step recipe alone."""
        session, notes = self.session, self.session.books.notes
        if session.config.loss.name != "fgsm_rs":
            return
        rows = [row for _, row in session.books.curves["common"]]
        fallen = catastrophic_overfitting(
            [row["train_batch_robust_accuracy"] for row in rows],
            [row["student_train_robust_accuracy"] for row in rows],
            fall=session.config.loss.alarm_fall,
        )
        if fallen and notes.get("catastrophic_overfitting_epoch", NEVER) == NEVER:
            notes["catastrophic_overfitting_epoch"] = float(done)
            session.log(done, {"catastrophic_overfitting_alarm": 1.0})

    def _keep_best(self, kind: str, done: int, reading: Reading) -> None:
        """Keep the model; in a training that forgets, only ends of a relearning can be the best."""
        if not self._relearnt(done):
            return
        session = self.session
        best = session.books.best.get(kind)
        if best is None or reading.robust > best.score:
            weights = weights_of(session.kinds()[kind])
            session.books.best[kind] = Best(done, reading.robust, weights)
