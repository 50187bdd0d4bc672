"""The cycle: warm-up, consolidation, forgetting, relearning, as windows of the training loop.

Paper: arXiv 2402.11733, figure 2. Plain adversarial training and its controls run through the same
windows with fewer parts, so that arms differ in nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import seed_of
from relearn.methods.forget_relearn.forget import Source, forget, fresh_source
from relearn.methods.forget_relearn.observe import Observer
from relearn.methods.forget_relearn.relearn import consistency_loss
from relearn.methods.forget_relearn.roll_back import go_back, keep, weights_of
from relearn.methods.forget_relearn.triggers import PHASES, RELEARNING
from relearn.methods.forget_relearn.watch import Recovery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from relearn.methods.forget_relearn.pictures import Pictures
    from relearn.methods.forget_relearn.session import Session
    from relearn.training.adversarial import AdversarialLoss
    from relearn.training.loop import LoopState


class Cycle:
    """What happens around the steps of one training.

    Args:
        session: Nets, images and books.
        loss: Adversarial loss of the batches.
        pictures: Before and after pictures; None takes none.
    """

    def __init__(
        self, session: Session, loss: AdversarialLoss, *, pictures: Pictures | None
    ) -> None:
        self.session, self.adversarial = session, loss
        self.pictures = pictures
        self.observer = Observer(session)
        self.phase = "warmup"
        self.consolidating = False
        self.kept: dict[str, Any] | None = None
        self._stable_logits: Tensor | None = None
        self._closed: tuple[int, float] | None = None  # step and robust accuracy at the last close

    def before_epoch(self, state: LoopState) -> None:
        """Begin what begins at this epoch: average, stable model, forgetting, phase."""
        session, epoch = self.session, state.epoch
        if session.training.average and epoch == session.config.average.from_epoch:
            session.begin_average()
        if session.training.treated:
            if session.training.stable and epoch == session.trigger.config.warmup_epochs:
                session.begin_stable()
            reason = session.trigger.due(epoch)
            if reason is not None:
                self._forget(state, reason)
            self.phase = session.trigger.phase(epoch)
            self.consolidating = session.trigger.consolidates(epoch)

    def after_attack(self, clean: Tensor, perturbed: Tensor, _labels: Tensor) -> None:
        """Let the stable model answer for the batch, where the student is held to it."""
        session, relearn = self.session, self.session.training.relearn
        self._stable_logits = None
        held = self.phase == RELEARNING and relearn.consistency != "none" and relearn.weight > 0
        if not held or session.stable is None:
            return
        shown = perturbed if relearn.stable_input == "adversarial" else clean
        with session.watch("consistency"), torch.inference_mode(), session.device.autocast():
            logits = session.as_pixels(session.stable.net)(shown)
        self._stable_logits = logits.float().clone()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return adversarial loss + weight * distance to the stable model (SPEC step 5).

        Args:
            logits: Of the batch, as the adversarial loss takes them.
            labels: int64, shape (batch,).
        """
        total = self.adversarial(logits, labels)
        self.observer.note_step(self.adversarial.of_perturbed(logits), labels, total)
        if self._stable_logits is not None:
            relearn = self.session.training.relearn
            total = total + relearn.weight * consistency_loss(
                self.adversarial.of_perturbed(logits),
                self._stable_logits,
                kind=relearn.consistency,
                temperature=relearn.temperature,
            )
        return total

    def after_step(self, state: LoopState) -> None:
        """Take the student up: into the average always, into the stable model when it may."""
        session = self.session
        with session.watch("consolidation"):
            if session.average is not None:
                session.average.update(session.model, step=state.step)
            if session.stable is not None and self.consolidating:
                session.stable.update(session.model, step=state.step)

    def after_epoch(self, state: LoopState) -> None:
        """Evaluate where it is due, close a relearning, and note the state of the training."""
        session, done = self.session, state.epoch
        relearnt = session.training.treated and session.trigger.relearnt(done)
        with session.watch("monitor"):
            self._follow_recovery(done, relearnt=relearnt)
            last = done == session.config.train.epochs
            due = done % session.config.monitor.every_epochs == 0 or last or relearnt
            if due:
                self.observer.evaluate(state, phase=PHASES[self.phase])
        if relearnt:
            self._close(state)

    def _forget(self, state: LoopState, reason: str) -> None:
        session, training = self.session, self.session.training
        cycle = len(session.books.recoveries) + 1
        with session.watch("monitor"):
            before = self._before(state)
        self.kept = keep(session, state) if session.config.roll_back.automatic else None
        self._picture(cycle, "before", step=state.step)
        draw_seed = seed_of(session.seed, f"forget_relearn.forget.{cycle}")
        row = {
            "method": "forget_relearn",
            "arm": training.name,
            "seed": session.seed,
            "step": state.step,
            "epoch": state.epoch,
            "trigger": reason,
            "draw_seed": draw_seed,
        }
        with session.watch("forget"):
            entries = forget(
                session.model,
                state.optimizer,
                shares=session.shares,
                mask=training.forget.mask,
                source=self._source(draw_seed),
                clear_momentum=training.forget.clear_momentum,
                row=row,
            )
        session.books.interventions += entries
        session.trigger.forgot(state.epoch)
        with session.watch("monitor"):
            after = session.examiner.read(session.net, "few").robust
        session.books.recoveries.append(Recovery(cycle, state.epoch, before, after))
        self._picture(cycle, "forgotten", step=state.step)
        told = {"forgotten": float(sum(entry.rows for entry in entries)), "dip": before - after}
        session.log(state.epoch, told)
        session.model.train()

    def _before(self, state: LoopState) -> float:
        """Return the student's robust accuracy, which the end of a relearning may have told."""
        if self._closed is not None and self._closed[0] == state.step:
            return self._closed[1]
        return self.session.examiner.read(self.session.net, "few").robust

    def _source(self, draw_seed: int) -> Source:
        session, kind = self.session, self.session.training.forget.initialisation
        named = dict(session.model.named_parameters())
        if kind == "zero":
            return Source(kind, {name: torch.zeros_like(p) for name, p in named.items()})
        if kind == "rewind":
            drawn = session.config.start_from == "initialisation"
            return Source(kind, session.first, session.seed if drawn else -1)
        if kind == "stable" and session.stable is not None:
            stable = session.stable.net
            return Source(kind, {n: p.detach() for n, p in stable.named_parameters()})
        return fresh_source(session.architecture, draw_seed=draw_seed)

    def _follow_recovery(self, done: int, *, relearnt: bool) -> None:
        """Evaluate the student after each epoch of relearning until it has recovered."""
        session = self.session
        if not session.books.recoveries or self.phase != RELEARNING:
            return
        recovery = session.books.recoveries[-1]
        if recovery.relearnt is not None or (recovery.epochs > 0 and not relearnt):
            return
        robust = session.examiner.read(session.net, "few").robust
        within = session.config.monitor.recovered_within
        recovery.observe(robust, epochs=done - recovery.epoch, within=within)
        if relearnt:
            recovery.relearnt = robust

    def _close(self, state: LoopState) -> None:
        """End a cycle: go back where it did not recover, keep its models, take the last picture."""
        session = self.session
        recovery = session.books.recoveries[-1]
        back = session.config.roll_back
        ended = recovery.relearnt or 0.0
        self._closed = (state.step, ended)
        lost = recovery.before - ended
        if back.automatic and lost > back.tolerance and self.kept is not None:
            go_back(session, state, recovery, kept=self.kept)
            self._closed = None
        self._picture(recovery.cycle, "relearnt", step=state.step)
        self.kept = None
        if back.keep_cycles:
            kinds = {"student": "last", "stable": "stable"}
            models = {kinds[k]: weights_of(net) for k, net in session.kinds().items()}
            session.books.cycles[recovery.cycle] = models
            for old in sorted(session.books.cycles)[: -back.keep_cycles]:
                del session.books.cycles[old]

    def _picture(self, cycle: int, moment: str, *, step: int) -> None:
        if self.pictures is None:
            return
        session = self.session
        with session.watch("pictures"):
            taken = self.pictures.take(
                session.net, session.model, cycle=cycle, moment=moment, step=step
            )
            session.books.pictures.update(taken)
            if moment == "relearnt":
                session.books.seen[cycle] = self.pictures.records(cycle)

    def state(self) -> dict[str, Any]:
        """Return what a resume point keeps, as ``fit`` asks of its books."""
        return {
            "session": self.session.state(),
            "kept": self.kept,
            "pictures": self.pictures.state() if self.pictures else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: Read from a resume point.
        """
        self.session.restore(state["session"])
        self.kept = state["kept"]
        if self.pictures is not None:
            self.pictures.restore(state["pictures"])
