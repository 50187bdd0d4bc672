"""Pre-training in shuffled batches, with or without a reset of the last layer now and then.

Paper: arXiv 2310.07996; official code, ``iid.py``: before every n-th epoch but the first, rows of
the last layer are drawn anew; then training goes on as if nothing had happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.data.batches import Batches
from relearn.data.randomness import generator_of
from relearn.methods.zap.monitor import gradient_norms
from relearn.training.loop import Windows, fit
from relearn.training.optimizers import make_optimizer, make_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.zap.policy import Due, Policy
    from relearn.methods.zap.session import Session
    from relearn.training.loop import LoopState
    from relearn.training.resume import ResumePoint


def pretrain_iid(session: Session, *, resume: ResumePoint | None) -> None:
    """Train the session's net on shuffled batches; an arm with a change does it when due.

    Args:
        session: Net, data, settings and books of this arm and seed.
        resume: Where to continue from and save to after each epoch; None keeps nothing.
    """
    run = _IidRun(session)
    train = session.train
    schedule = make_schedule(
        run.optimizer,
        name=train.schedule,
        epochs=train.epochs,
        steps_per_epoch=run.batches.steps_per_epoch,
        warmup_epochs=train.warmup_epochs,
    )
    fit(
        session.model,
        run.batches,
        run.loss,
        run.optimizer,
        epochs=train.epochs,
        windows=Windows(
            before_epoch=run.before_epoch,
            after_backward=run.after_backward,
            after_step=run.after_step,
            after_epoch=run.after_epoch,
        ),
        log=session.log,
        resume=resume,
        schedule=schedule,
        device=session.device,
        max_gradient_norm=train.max_gradient_norm,
        progress=session.where,
        where=session.where,
        books=session,
    )
    session.order_digest = run.batches.order_digest


class _IidRun:
    """The callables that ``fit`` opens its windows to."""

    def __init__(self, session: Session) -> None:
        train = session.train
        self.session, self.train = session, train
        self.batches = Batches(
            session.pixels.images,
            session.pixels.labels,
            batch_size=train.batch_size,
            seed=session.seed,
            mean=session.architecture.mean,
            std=session.architecture.std,
            shift=train.shift_pixels,
            flip=train.flip,
            device=session.device.name,
        )
        self.optimizer = make_optimizer(
            session.model.parameters(),
            name=train.optimizer,
            learning_rate=train.learning_rate,
            weight_decay=train.weight_decay,
            momentum=train.momentum,
        )
        self.total = train.epochs * self.batches.steps_per_epoch

    @property
    def policy(self) -> Policy:
        """The arm's schedule of resets."""
        return self.session.policy

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy, and note the batch's accuracy on the way."""
        self.session.note_batch(logits, labels)
        return torch.nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.train.label_smoothing
        )

    def before_epoch(self, state: LoopState) -> None:
        """Reset at an epoch's beginning when the policy counts epochs."""
        if self.policy.config.unit == "epochs":
            self._reset_if_due(state.epoch, state)

    def after_backward(self, state: LoopState) -> None:
        """Record gradient norms now and then, and near a reset."""
        if self.session.monitor.wants_gradients(state.step):
            norms = gradient_norms(self.session.model, self.session.head.module)
            self.session.recorder.add("gradients", state.step, norms)

    def after_step(self, state: LoopState) -> None:
        """Note the loss, and reset when the policy counts steps."""
        self.session.note_loss(state.loss, state.step)
        if self.policy.config.unit == "steps":
            self._reset_if_due(state.step, state)

    def after_epoch(self, state: LoopState) -> None:
        """Write the epoch's row and tell the policy how the loss stands."""
        self.policy.observe(self.session.mean_loss)
        self.session.write_progress(state.step, epoch=state.epoch)

    def _reset_if_due(self, done: int, state: LoopState) -> None:
        due = self.session.due(done, steps_left=self.total - state.step)
        if due is None:
            return
        epoch = state.step // self.batches.steps_per_epoch
        rows = self.session.change(self.optimizer, due, step=state.step, epoch=epoch)
        self._biased_steps(rows, due, state.step)

    def _biased_steps(self, rows: Tensor, due: Due, step: int) -> None:
        """Train a few steps on batches biased towards the reset classes (official option)."""
        biased = self.session.config.biased
        if not biased.steps or self.session.arm.change != "zap":
            return
        draw = generator_of(self.session.seed, f"zap.biased.{step}")
        member = torch.isin(self.batches.labels.cpu(), rows)
        inside, everything = torch.nonzero(member).flatten(), torch.arange(len(member))
        held = [p for p in self.session.backbone_parameters() if biased.head_only]
        for parameter in held:
            parameter.requires_grad_(False)
        # rows beyond the classes (head_outputs) have no samples to lean towards
        few = round(biased.fraction * self.train.batch_size) if len(inside) else 0
        for _ in range(biased.steps):
            picks = [(inside, few), (everything, self.train.batch_size - few)]
            chosen = [
                pool[torch.randint(len(pool), (n,), generator=draw)] for pool, n in picks if n
            ]
            x, y = self.session.batch(torch.cat(chosen))
            self.optimizer.zero_grad(set_to_none=True)
            with self.session.device.autocast():
                logits = self.session.model(x)
            self.loss(logits, y).backward()
            self.optimizer.step()
        self.session.extra_steps += biased.steps
        for parameter in held:
            parameter.requires_grad_(True)
