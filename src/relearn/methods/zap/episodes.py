"""ASB and meta-ASB: learn one class image by image, then a batch that remembers the others.

Paper: arXiv 2310.07996 (ASB: alternating sequential and batch); official code, ``anml.py``. An
episode samples one class, may reset its row of the last layer, learns its images one at a time with
SGD, and then takes one Adam step on those images plus images of all classes. ASB keeps the weights
that the sequential phase left; meta-ASB goes back to the weights before it, along the gradient
through it.
We differ in that the meta-gradient uses ``torch.func`` and offers a first-order form.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call

from relearn.data.randomness import generator_of
from relearn.data.tasks import Episode, draw_episode
from relearn.errors import TrainingError
from relearn.methods.zap.config import EpisodesConfig, MetaConfig
from relearn.methods.zap.monitor import gradient_norms
from relearn.training.optimizers import make_optimizer
from relearn.training.progress import progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.zap.session import Session
    from relearn.training.resume import ResumePoint

_PROGRESS_ROWS = 10  # rows of training figures, and resume points, a run


def pretrain_episodes(session: Session, *, resume: ResumePoint | None) -> None:
    """Train the session's net by ASB or meta-ASB episodes; an arm with a change does it when due.

    Args:
        session: Net, data, settings and books of this arm and seed.
        resume: Where to continue from and save to now and then; None keeps nothing.
    """
    config = session.config.meta if session.arm.pretraining == "meta" else session.config.asb
    run = _EpisodeRun(session, config)
    first = run.take_up(resume)
    session.model.train()
    often = max(1, config.episodes // _PROGRESS_ROWS)
    for number in progress_bar(range(first, config.episodes), session.where, total=config.episodes):
        run.episode(number)
        if (number + 1) % often == 0 or number + 1 == config.episodes:
            session.write_progress(session.steps, epoch=number + 1)
            if resume is not None and number + 1 < config.episodes:
                run.keep(resume, number + 1)


class _EpisodeRun:
    """The optimizer and the two phases of an episode."""

    def __init__(self, session: Session, config: EpisodesConfig) -> None:
        self.session, self.config = session, config
        self.optimizer = make_optimizer(
            session.model.parameters(),
            name="adam",
            learning_rate=config.outer_learning_rate,
            weight_decay=0.0,
            momentum=0.0,
        )
        self.per_episode = config.sequence_length + 1

    def episode(self, number: int) -> None:
        """Run one episode: draw, reset if due, sequence, batch."""
        config, session = self.config, self.session
        drawn = draw_episode(
            session.pixels,
            generator=generator_of(session.seed, f"episode.{number}"),
            sequence_length=config.sequence_length,
            remember=config.remember,
            sampling=config.sample,
        )
        self._note_order(drawn)
        self._reset_if_due(number, drawn)
        rows = drawn.remember if config.remember_only else drawn.batch
        noise = generator_of(session.seed, f"episode.{number}.augment")
        x, y = session.batch(drawn.sequence, noise)
        batch_x, batch_y = session.batch(rows, noise)
        self.optimizer.zero_grad(set_to_none=True)
        with session.watch("train"), session.device.autocast():
            if isinstance(config, MetaConfig):
                loss = self._meta_gradient(x, y, batch_x=batch_x, batch_y=batch_y, config=config)
            else:
                self._sequence(x, y)
                loss = self._batch_gradient(session.model(batch_x), batch_y)
        self._step(loss, number)

    def _sequence(self, x: Tensor, y: Tensor) -> None:
        """Learn the images one at a time by plain SGD: p <- p - inner_learning_rate * gradient."""
        parameters: list[Tensor] = list(self.session.model.parameters())
        for one, label in zip(x.split(1), y.split(1), strict=True):
            loss = torch.nn.functional.cross_entropy(self.session.model(one), label)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-self.config.inner_learning_rate)

    def _batch_gradient(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        self.session.note_batch(logits, labels)
        loss.backward()
        return loss.detach()

    def _meta_gradient(
        self, x: Tensor, y: Tensor, *, batch_x: Tensor, batch_y: Tensor, config: MetaConfig
    ) -> Tensor:
        """Leave in ``.grad`` the gradient of the batch loss after the sequence, at its beginning.

        theta_{k+1} = theta_k - inner_learning_rate * grad L(x_k; theta_k); the first-order form
        treats each inner gradient as a constant.
        """
        model = self.session.model
        weights: dict[str, Tensor] = dict(model.named_parameters())
        head = self.session.head.name + "."
        everything = config.inner_parameters == "all"
        adapted = [n for n in weights if everything or n.startswith(head)]
        for one, label in zip(x.split(1), y.split(1), strict=True):
            logits = functional_call(model, weights, (one,))
            loss = torch.nn.functional.cross_entropy(logits, label)
            gradients = torch.autograd.grad(
                loss, [weights[n] for n in adapted], create_graph=not config.first_order
            )
            for name, gradient in zip(adapted, gradients, strict=True):
                weights[name] = weights[name] - config.inner_learning_rate * gradient
        return self._batch_gradient(functional_call(model, weights, (batch_x,)), batch_y)

    def _step(self, loss: Tensor, number: int) -> None:
        session = self.session
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"{session.where}: loss is {float(loss)} in episode {number + 1}; lower "
                "zap.asb.inner_learning_rate or outer_learning_rate (zap.meta for meta arms)"
            )
        if self.config.max_gradient_norm > 0:
            torch.nn.utils.clip_grad_norm_(
                session.model.parameters(), self.config.max_gradient_norm
            )
        if session.monitor.wants_gradients(number):
            norms = gradient_norms(session.model, session.head.module)
            session.recorder.add("gradients", session.steps, norms)
        self.optimizer.step()
        session.policy.observe(float(loss))
        session.note_loss(float(loss), session.steps + self.per_episode)

    def _reset_if_due(self, number: int, drawn: Episode) -> None:
        session = self.session
        left = (self.config.episodes - number) * self.per_episode
        by_steps = session.policy.config.unit == "steps"
        due = session.due(session.steps if by_steps else number, steps_left=left)
        if due is not None:
            one = session.policy.config.rows == "sampled_class"
            session.change(
                self.optimizer,
                due,
                step=session.steps,
                epoch=number,
                sampled=drawn.class_number if one else None,
            )

    def _note_order(self, drawn: Episode) -> None:
        """Chain the digest of the samples handed out, so that resuming keeps it."""
        chain = hashlib.sha256(self.session.order_digest.encode())
        chain.update(drawn.sequence.numpy().tobytes())
        chain.update(drawn.remember.numpy().tobytes())
        self.session.order_digest = chain.hexdigest()

    def take_up(self, resume: ResumePoint | None) -> int:
        """Return the episode to start with, after taking up a resume point if there is one."""
        state = resume.load() if resume is not None else None
        if state is None:
            return 0
        self.session.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.session.restore(state["books"])
        return int(state["episode"])

    def keep(self, resume: ResumePoint, done: int) -> None:
        """Save everything needed to go on after ``done`` episodes."""
        resume.save(
            {
                "model": self.session.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "books": self.session.state(),
                "episode": done,
            }
        )
