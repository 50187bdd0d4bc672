"""Losses of one task: cross-entropy over some of the outputs, and what holds a net to its past.

References:
    Elastic weight consolidation: Kirkpatrick et al. 2017, arXiv 1612.00796, equation 3; the terms
    of all earlier tasks are added up around the last weights, as its online form does.
    Learning without forgetting: Li and Hoiem 2016, arXiv 1606.09282.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskLoss:
    """Cross-entropy over some outputs, plus penalties.

    Over the classes of the present task alone it is the local cross-entropy, which has no gradient
    for any other row of the last layer.

    Args:
        classes: Outputs it is over; each label is one of them.
        outputs: Outputs of the last layer.
        label_smoothing: Share of the target that is spread over ``classes``.
        penalties: Scalars that are added.
    """

    def __init__(
        self,
        classes: Sequence[int],
        *,
        outputs: int,
        label_smoothing: float = 0.0,
        penalties: Sequence[Callable[[], Tensor]] = (),
    ) -> None:
        self.classes = torch.tensor(list(classes))
        self.place = torch.zeros(outputs, dtype=torch.int64)
        self.place[self.classes] = torch.arange(len(self.classes))
        self.label_smoothing, self.penalties = label_smoothing, list(penalties)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: Shape (batch, outputs).
            labels: int64, shape (batch,).
        """
        own = logits[:, self.classes.to(logits.device)].float()
        target = self.place.to(labels.device)[labels]
        loss = functional.cross_entropy(own, target, label_smoothing=self.label_smoothing)
        for penalty in self.penalties:
            loss = loss + penalty().to(loss)
        return loss


class WithPast(nn.Module):
    """The net beside itself as it was before the task; only the net is trained.

    Args:
        net: Is trained.
        past: Is asked; in evaluation mode, without gradients.
    """

    def __init__(self, net: nn.Module, past: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._asked = (past.eval(),)  # in a tuple: no part of this module's state

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of both, (batch, outputs) each.

        Args:
            images: Float, shape (batch, channels, height, width).
        """
        with torch.no_grad():
            told = self._asked[0](images)
        return self.net(images), told


class PastLoss:
    """L + w T^2 KL(softmax(p / T) || softmax(s / T)) over the outputs of earlier tasks.

    Args:
        loss: L, of the present task.
        earlier: Outputs of earlier tasks, at least one.
        weight: w.
        temperature: T.
    """

    def __init__(
        self, loss: TaskLoss, earlier: Sequence[int], *, weight: float, temperature: float
    ) -> None:
        self.loss, self.earlier = loss, list(earlier)
        self.weight, self.temperature = weight, temperature

    def __call__(self, logits: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: Of the net and of its past, (batch, outputs) each.
            labels: int64, shape (batch,).
        """
        now, past = (each.float()[:, self.earlier] / self.temperature for each in logits)
        towards = functional.kl_div(
            functional.log_softmax(now, dim=1),
            functional.log_softmax(past, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return self.loss(logits[0], labels) + self.weight * self.temperature**2 * towards


class Consolidation:
    """w / 2 sum_i F_i (theta_i - theta*_i)^2 with F summed over all tasks so far.

    Args:
        net: Its weights are theta.
        weight: w.
    """

    def __init__(self, net: nn.Module, weight: float) -> None:
        self.net, self.weight = net, weight
        self.information: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    def penalty(self) -> Tensor:
        """Return the scalar; zero before the first task has ended."""
        total = torch.zeros((), device=next(self.net.parameters()).device)
        for name, parameter in self.net.named_parameters():
            if name in self.information:
                moved = (parameter - self.anchor[name]).square()
                total = total + (self.information[name] * moved).sum()
        return total * (self.weight / 2)

    def add_task(self, images: Tensor, labels: Tensor, loss: TaskLoss) -> None:
        """Add F of a task, the mean over images of the squared gradient, and move the anchor.

        Args:
            images: Float, of the task, shape (images, channels, height, width).
            labels: int64, shape (images,).
            loss: The task's own cross-entropy.
        """
        named = dict(self.net.named_parameters())
        total = {name: torch.zeros_like(p) for name, p in named.items()}
        plain = TaskLoss(loss.classes.tolist(), outputs=len(loss.place))
        for image, label in zip(images.split(1), labels.split(1), strict=True):
            grads = torch.autograd.grad(plain(self.net(image), label), list(named.values()))
            for name, grad in zip(named, grads, strict=True):
                total[name] += grad.square() / len(images)
        for name, parameter in named.items():
            self.information[name] = self.information.get(name, 0) + total[name]
            self.anchor[name] = parameter.detach().clone()

    def state(self) -> dict[str, Any]:
        """Return F and the anchor."""
        return {"information": dict(self.information), "anchor": dict(self.anchor)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: F and the anchor by name.
        """
        named = dict(self.net.named_parameters())
        for kept, own in (("information", self.information), ("anchor", self.anchor)):
            own.clear()
            own.update({name: _fitted(t, named[name]) for name, t in state[kept].items()})


def _fitted(stored: Tensor, like: Tensor) -> Tensor:
    """Return what was stored, zero for outputs that have come since: nothing holds them."""
    found = torch.zeros_like(like)
    if stored.shape == like.shape:
        return found.copy_(stored)
    found[: len(stored)] = stored.to(found)
    return found
