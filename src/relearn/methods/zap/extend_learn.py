"""The short training after the head has grown: new images, with old ones mixed in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from relearn.data.batches import to_float
from relearn.data.randomness import generator_of
from relearn.errors import TrainingError
from relearn.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Split
    from relearn.evaluation.records import Log
    from relearn.methods.zap.extend_config import AddClassesConfig
    from relearn.methods.zap.extend_rows import Rows
    from relearn.models.checkpoint import Architecture
    from relearn.models.heads import Head
    from relearn.training.device import Device

_CURVE_EVERY = 10  # steps between points of the live curve


class Learner:
    """Trains what may change; everything else keeps every bit.

    Args:
        model: The net, its head grown already.
        head: Its last layer.
        rows: Old and new rows.
        config: Knobs.
        log: Live curves.
    """

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        rows: Rows,
        *,
        config: AddClassesConfig,
        log: Log,
    ) -> None:
        self.model, self.head, self.rows, self.config, self.log = model, head, rows, config, log

    def learn(self, new: Split, old: Split, *, architecture: Architecture, device: Device) -> int:
        """Train in place, in evaluation mode, and return the optimizer steps done.

        Args:
            new: Support images; labels are positions among the new classes.
            old: Training images of old classes; labels are rows of the head.
            architecture: Its mean and std normalise the images.
            device: Where the net lies.

        Raises:
            TrainingError: The loss is not finite.
        """
        trained = self.model if self.config.train == "all" else self.head.module
        self.model.eval().requires_grad_(False)
        trained.requires_grad_(True)
        optimizer = make_optimizer(
            trained.parameters(),
            name="adam",
            learning_rate=self.config.learning_rate,
            weight_decay=0.0,
            momentum=0.0,
        )
        before = {p: p.detach().clone() for p in self.head.module.parameters()}
        step = 0
        for images, labels in self._batches(new, old):
            x = to_float(images.to(device.name), architecture.mean, architecture.std)
            loss = self._step(optimizer, x, labels.to(device.name), device)
            if self.config.train == "new_rows":
                self._put_back(before)
            step += 1
            self._note(step, loss)
        self.model.requires_grad_(True)
        return step

    def _step(
        self, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor, device: Device
    ) -> float:
        optimizer.zero_grad(set_to_none=True)
        with device.autocast():
            logits = self.model(device.lay_out(x))
        # outputs beyond the named classes are never exported, and so have no say here
        losses = torch.nn.functional.cross_entropy(
            logits.float()[:, : self.rows.total], labels, reduction="none"
        )
        if self.config.balance:
            losses = losses * class_weights(labels, self.rows, self.config.replay_share)
        loss = losses.mean()
        torch.autograd.backward(loss)
        optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def _put_back(self, before: dict[nn.Parameter, Tensor]) -> None:
        """Give every row but the new ones the bits it had."""
        for parameter, kept in before.items():
            kept[self.rows.new] = parameter[self.rows.new]
            parameter.copy_(kept)

    def _note(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"add_classes: the loss became {loss} at step {step}; lower "
                "add_classes.learning_rate"
            )
        if step % _CURVE_EVERY == 0:
            self.log(step, {"train_loss": loss})

    def _batches(self, new: Split, old: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield uint8 images and rows of the head: new images, then replayed ones."""
        share, owed = self.config.replay_share, 0.0
        generator = generator_of(self.config.seed, "add_classes.replay")
        for chosen in self._order(len(new)):
            # what does not make a whole image is owed to the next step, so that the share holds
            owed += len(chosen) * share / (1 - share)
            again = torch.randint(len(old), (int(owed),), generator=generator)
            owed -= int(owed)
            yield (
                torch.cat([new.images[chosen], old.images[again]]),
                torch.cat([new.labels[chosen] + self.rows.first, old.labels[again]]),
            )

    def _order(self, images: int) -> Iterator[Tensor]:
        """Yield the new images that each step learns, by position."""
        if self.config.protocol == "sequential":
            yield from torch.arange(images).split(1)
            return
        size = max(1, round(self.config.batch_size * (1 - self.config.replay_share)))
        generator = generator_of(self.config.seed, "add_classes.order")
        for _ in range(self.config.epochs):
            yield from torch.randperm(images, generator=generator).split(size)


def class_weights(labels: Tensor, rows: Rows, replay_share: float) -> Tensor:
    """Return the weight of each image with which every class counts the same, on average.

    New images are a share 1 - r of what is trained, and k of n classes: each weighs
    (k / n) / (1 - r); a replayed one ((n - k) / n) / r. Without replay nothing can be balanced.

    Args:
        labels: int64, shape (batch,): rows of the head.
        rows: Old and new rows.
        replay_share: r, 0 to below 1.

    Returns:
        Float, shape (batch,).
    """
    if replay_share == 0:
        return torch.ones(len(labels), device=labels.device)
    new = rows.count / rows.total
    weights = torch.tensor([(1 - new) / replay_share, new / (1 - replay_share)])
    chosen: Tensor = weights.to(labels.device)[(labels >= rows.first).long()]
    return chosen
