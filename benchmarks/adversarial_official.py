"""The official code at work: locuslab/robust_overfitting, from a checkout.

Nothing of it is copied: its own ``main`` runs, on its own net. What it needs to run on a CPU today
is put in from outside, always to its advantage: ``.cuda()`` does nothing, and in place of its
loader stand batches that are ready, so that neither its worker processes nor its augmentation cost
it anything. Its precision is fp32; ``--half`` is parsed and does nothing.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from adversarial_work import CLASSES, MEAN, STD, architecture, pictures, short_trainings

from relearn.models.checkpoint import build_fresh
from relearn.models.normalised import NormalisedNet

if TYPE_CHECKING:
    from side_by_side import Repetition

    from relearn.data.batches import Batches
    from relearn.training.attack import Attack
    from relearn.training.device import Device

STEPS_OF_AN_EPOCH = 391  # of CIFAR-10 in batches of 128; its learning rate asks for it


def step(*, checkout: str, batch_size: int, steps: int) -> Repetition:
    """Prepare one step of its own loop: attack, training step, clean pass for its log.

    Args:
        checkout: The official code.
        batch_size: Images.
        steps: Gradients of the attack.
    """
    official = _imported(checkout)
    _require_same_function(official)
    turns = _Turns(batch_size)
    sys.argv = ["train_cifar.py", "--fname", "out", "--attack-iters", str(steps)]
    official.Batches = turns.loader
    official.cifar10 = lambda _: _tiny_cifar()
    threading.Thread(target=turns.run, args=(official.main,), daemon=True).start()
    return turns.one_step


def trained(*, checkout: str, epochs: int, seeds: int) -> Repetition:
    """Prepare our short trainings with its attack in place of ours.

    Args:
        checkout: The official code.
        epochs: Of each training.
        seeds: Trainings, over which the mean is taken.
    """
    official = _imported(checkout)

    def attacked(
        inner: Batches, net: NormalisedNet, attack: Attack, device: Device
    ) -> _OfficialAttack:
        return _OfficialAttack(official, inner, net, attack)

    return short_trainings(attacked, precision="fp32", epochs=epochs, seeds=seeds)


class _OfficialAttack:
    """Batches attacked by its ``attack_pgd``, for our loop."""

    def __init__(self, official: Any, inner: Batches, net: NormalisedNet, attack: Attack) -> None:
        self.official, self.inner, self.net, self.attack = official, inner, net.model, attack
        self.seed, self.name = inner.seed, inner.name
        self.steps_per_epoch = inner.steps_per_epoch

    def replay(self, epoch: int) -> None:
        self.inner.replay(epoch)

    def epoch(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        radius, step_size = self.attack.ball.epsilon, self.attack.step_size
        for pixels, labels in self.inner.epoch(epoch):
            delta = self.official.attack_pgd(
                self.net, pixels, labels, radius, step_size, self.attack.steps, 1, "l_inf"
            )
            yield torch.clamp(pixels + delta.detach(), 0, 1), labels


class _Turns:
    """Lets its loop take one step when told: its loader waits before each batch."""

    def __init__(self, batch_size: int) -> None:
        stored, labels = pictures(batch_size)
        self.batch = {"input": stored.float() / 255, "target": labels}
        self.threads = torch.get_num_threads()  # of the thread that waits
        self._go: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self, main: Any) -> None:
        """Run its ``main`` until the process ends, with as many threads as the process."""
        torch.set_num_threads(self.threads)
        try:
            main()
        except BaseException:  # the thread that waits raises it
            self._done.put(traceback.format_exc())

    def one_step(self) -> float:
        """Return after one step of its loop."""
        self._go.put(None)
        fault = self._done.get()
        if fault:
            raise RuntimeError(f"the official code failed:\n{fault}")
        return 1.0

    def loader(self, *_: Any, **__: Any) -> _Turns:
        """Stand in for its loader's class."""
        return self

    def __len__(self) -> int:
        return STEPS_OF_AN_EPOCH

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            self._go.get()
            yield self.batch
            self._done.put("")  # it asks for the next, so the step is over


def _tiny_cifar() -> dict[str, dict[str, Any]]:
    part = {"data": np.zeros((CLASSES, 32, 32, 3), np.uint8), "labels": list(range(CLASSES))}
    return {"train": part, "test": part}


def _require_same_function(official: Any) -> None:
    """Fail unless its net with our weights is our function."""
    ours = NormalisedNet(build_fresh(architecture(), seed=0), MEAN, STD).train()
    theirs = official.PreActResNet18().train()
    pixels = pictures(8)[0].float() / 255
    with torch.no_grad():
        # both nets list their parameters in the order of the layers
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
        expected = theirs(official.normalize(pixels))
        torch.testing.assert_close(ours(pixels), expected, rtol=1e-3, atol=1e-3)


def _imported(checkout: str) -> Any:
    """Import the official code; it writes into the working directory, so that is a new one."""
    torch.cuda.is_available = lambda: False
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    torch.nn.Module.cuda = lambda module, *_, **__: module
    logging.disable(logging.INFO)  # its log
    sys.path.insert(0, str(Path(checkout).resolve()))
    os.chdir(tempfile.mkdtemp(prefix="bench_adversarial_"))
    import train_cifar

    return train_cifar
