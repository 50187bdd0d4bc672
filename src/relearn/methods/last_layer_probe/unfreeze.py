"""Progressive unfreezing: more and more of the last blocks are trained on, as long as it pays.

Step k trains the last k blocks and the head. Each step begins at the probe's optimum, the head
included: a head drawn at random would first spoil the features it reads. A step counts only if its
gain on the validation images over the best so far is above both a smallest gain and a number of
standard errors of the paired difference; the first step that does not ends the road, and so does
the budget. What is kept is the best that counted; where none did, it is the probe itself, bit for
bit. The rule and its numbers are our defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import ParameterError, TrainingError
from relearn.evaluation.classification import predict
from relearn.evaluation.records import Log, no_log
from relearn.methods.last_layer_probe.blocks import blocks_of, thaw_last
from relearn.methods.last_layer_probe.bodies import body_digest, body_of
from relearn.methods.last_layer_probe.net_training import step_flops, train_net
from relearn.methods.last_layer_probe.road import (
    Road,
    UnfreezeStep,
    Unfrozen,
    paired_error,
    probe_step,
)
from relearn.training.device import PLAIN_CPU, Device
from relearn.training.resume import ResumePoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from relearn.methods.last_layer_probe.net_training import Trained, Training


__all__ = ["Road", "UnfreezeStep", "Unfrozen", "paired_error", "unfreeze"]


def unfreeze(
    net: nn.Module,
    training: Training,
    road: Road,
    *,
    head: str = "",
    device: Device = PLAIN_CPU,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    progress: str | None = None,
) -> Unfrozen:
    """Train more and more of the last blocks as long as it pays, and leave the kept net.

    Args:
        net: Body and the probe's head (``blocks.put_head``).
        training: What it learns from; its epochs are the budget of each step, its rate that of the
            head. ``batch_norm: frozen`` is the usual choice.
        road: How far it may go.
        head: Name of the last layer; empty finds it.
        device: Where to train.
        log: ``log(step, {metric: value})``, the metrics of step k under ``blocks_<k>.``.
        resume: Each step keeps a file beside it while the road lasts; None keeps nothing.
        progress: Text before the progress bars; None shows none.

    Returns:
        The steps, which of them was kept, why the road ended, and the digests of the body.

    Raises:
        ParameterError: A knob is out of range.
        DataError: There are no images.
        HeadNotFoundError: As ``relearn.models.heads.find_head``.
        TrainingError: The loss is not finite, or a roll-back did not lead to the start.
    """
    device.place(net)
    walk = _Walk(net, training, road, head)
    for blocks in range(1, walk.most + 1):
        if walk.stops_before(blocks):
            break
        point = _point(resume, blocks)
        trained = train_net(
            net,
            training,
            thaw_last(net, blocks, layer_factor=road.layer_factor, head=head),
            device=device,
            log=_under(log, f"blocks_{blocks}."),
            resume=point,
            progress=progress and f"{progress}, last {blocks}",
        )
        if not walk.take(blocks, trained):
            break
    found = walk.finished()
    for blocks in range(1, walk.most + 1):
        point = _point(resume, blocks)
        if point is not None:
            point.clear()
    return found


class _Walk:
    """The road while it is gone: the start, the best so far, and why it ended."""

    def __init__(self, net: nn.Module, training: Training, road: Road, head: str) -> None:
        _check(road)
        self.net, self.training, self.road, self.head = net, training, road, head
        self.count = len(blocks_of(net, head)) - 1
        self.most = min(road.most_steps, self.count) if road.most_steps else self.count
        self.start = _copied(net)
        self.start_digest = self._digest()
        self.best = self.start
        self.kept = 0
        self.reason = "all steps done"
        self.hits = self._probe_hits()
        self.steps = [probe_step(self.hits)]

    def stops_before(self, blocks: int) -> bool:
        """Return whether the budget forbids a step; else put the probe back for it to begin at."""
        road, spent = self.road, self.steps
        self.net.load_state_dict(self.start)
        if road.budget_seconds and sum(step.seconds for step in spent) >= road.budget_seconds:
            self.reason = "budget_seconds"
        elif road.budget_flops:
            thaw_last(self.net, blocks, layer_factor=road.layer_factor, head=self.head)
            images = self.training.settings.epochs * len(self.training.train)
            ahead = step_flops(self.net, self.training.architecture) * images
            if sum(step.flops for step in spent) + ahead > road.budget_flops:
                self.reason = "budget_flops"
        return self.reason != "all steps done"

    def take(self, blocks: int, trained: Trained) -> bool:
        """Note a step, keep it if it counts, and return whether the road goes on."""
        accuracy = float(self.hits.double().mean())
        gain = trained.validation_accuracy - accuracy
        error = paired_error(trained.hits, self.hits)
        needed = max(self.road.smallest_gain, self.road.sigmas * error)
        counts = gain > needed
        self.steps.append(
            UnfreezeStep(
                blocks=blocks,
                trained=trained,
                trained_parameters=trained.trained_parameters,
                validation_accuracy=trained.validation_accuracy,
                gain=gain,
                standard_error=error,
                needed=needed,
                seconds=trained.seconds,
                flops=trained.flops,
                kept=counts,
            )
        )
        if counts:
            self.kept, self.best, self.hits = blocks, _copied(self.net), trained.hits
        else:
            self.reason = "gain"
        return counts

    def finished(self) -> Unfrozen:
        """Return the road, with the kept weights in the net and nothing left frozen."""
        self.net.load_state_dict(self.best)
        self.net.requires_grad_(True)
        self.net.eval()
        digest = self._digest()
        if self.kept == 0 and digest != self.start_digest:
            raise TrainingError(
                "last_layer_probe.trained.unfreeze: rolling back did not lead to the body of the "
                "start; its forward pass must not write to tensors outside its state dict"
            )
        return Unfrozen(self.kept, tuple(self.steps), self.reason, self.start_digest, digest)

    def _probe_hits(self) -> Tensor:
        architecture, held = self.training.architecture, self.training.validation
        logits = predict(self.net, held.images, mean=architecture.mean, std=architecture.std)
        return logits.argmax(1).cpu() == held.labels

    def _digest(self) -> str:
        return body_digest(body_of(self.net, self.training.architecture, self.head))


def _check(road: Road) -> None:
    block = "last_layer_probe.trained.unfreeze"
    for name in ("most_steps", "smallest_gain", "sigmas", "budget_seconds", "budget_flops"):
        value = getattr(road, name)
        if not value >= 0:
            raise ParameterError(f"{block}.{name}: got {value}, expected 0 or more")


def _copied(net: nn.Module) -> Mapping[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _under(log: Log, prefix: str) -> Log:
    def prefixed(step: int, values: Mapping[str, float]) -> None:
        log(step, {f"{prefix}{name}": value for name, value in values.items()})

    return prefixed


def _point(resume: ResumePoint | None, blocks: int) -> ResumePoint | None:
    """Return the resume point of one step, beside that of the road."""
    if resume is None:
        return None
    path = resume.path
    return ResumePoint(path.with_name(f"{path.stem}-blocks{blocks}{path.suffix}"), resume.key)
