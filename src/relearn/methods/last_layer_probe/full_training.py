"""Training the whole net: from a fresh draw, or from a trained body with the probe's head on it.

Rate and length are chosen on validation images, as for every other arm that is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.evaluation.records import Log, no_log
from relearn.methods.last_layer_probe.blocks import thaw_all
from relearn.methods.last_layer_probe.net_training import Trained, Training, train_net
from relearn.training.choice import Choice, choose_rate
from relearn.training.device import PLAIN_CPU, Device

if TYPE_CHECKING:
    from torch import nn

    from relearn.training.config import GridConfig
    from relearn.training.resume import NoResume, ResumePoint


@dataclass(frozen=True)
class LengthAndRate:
    """The length and rate that were chosen.

    Attributes:
        epochs: The length.
        choice: The rate at that length, and whether its grid was wide enough.
        tried: For each length the choice of its rate.
    """

    epochs: int
    choice: Choice
    tried: Mapping[int, Choice]


def train_whole(
    net: nn.Module,
    training: Training,
    *,
    head: str = "",
    device: Device = PLAIN_CPU,
    log: Log = no_log,
    resume: ResumePoint | NoResume | None = None,
    progress: str | None = None,
) -> Trained:
    """Train all weights of a net at one rate, in place, and leave it with the kept weights.

    From a fresh draw this is full training; from a trained net, its head put in by
    ``blocks.put_head``, it is full fine-tuning.

    Args:
        net: The net as it starts.
        training: What it learns from, and how.
        head: Name of the last layer; empty finds it.
        device: Where to train.
        log: ``log(step, {metric: value})`` after each epoch.
        resume: Where training is kept while it runs; None keeps nothing.
        progress: Text before the progress bar; None shows none.

    Returns:
        The kept epoch, the curve and the cost.

    Raises:
        ParameterError: As ``train_net``.
        DataError: As ``train_net``.
        TrainingError: As ``train_net``.
    """
    thawed = thaw_all(net, head)
    return train_net(
        net, training, thawed, device=device, log=log, resume=resume, progress=progress
    )


def choose_length_and_rate(
    score: Callable[[float, int], float], grid: GridConfig, lengths: Sequence[int]
) -> LengthAndRate:
    """Return the best length, each length with its own best rate.

    A tie goes to the shorter training.

    Args:
        score: From rate and epochs to a score on validation images, higher is better.
        grid: Of the rates; it widens while its best value lies at a border.
        lengths: Epochs to choose from.

    Raises:
        ParameterError: There is no length, or one below 1.
    """
    if not lengths or min(lengths) < 1:
        raise ParameterError(
            f"last_layer_probe.trained.tuning.epochs: got {list(lengths)}, expected one length or "
            "more, each 1 or more"
        )
    tried = {
        epochs: choose_rate(
            lambda rates, epochs=epochs: [score(rate, epochs) for rate in rates],  # type: ignore[misc]
            **grid.model_dump(),
        )
        for epochs in sorted(set(lengths))
    }
    best = max(tried, key=lambda epochs: (tried[epochs].score, -epochs))
    return LengthAndRate(best, tried[best], tried)


def with_rate(training: Training, rate: float, epochs: int) -> Training:
    """Return the training with another rate and length.

    Args:
        training: What is trained.
        rate: Highest learning rate.
        epochs: Length; a warm-up longer than that is cut to it.
    """
    settings = training.settings
    warmup = min(settings.warmup_epochs, float(epochs))
    changed = {"learning_rate": rate, "epochs": epochs, "warmup_epochs": warmup}
    return replace(training, settings=settings.model_copy(update=changed))
