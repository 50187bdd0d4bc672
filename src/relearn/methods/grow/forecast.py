"""What growing would cost, before any arm is trained: size, speed, and the length of each arm."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

from relearn.evaluation.classification import evaluating
from relearn.evaluation.efficiency import forward_flops, parameter_count
from relearn.methods.grow.arms import FRESH, TEACHER, arms_of, epochs_of
from relearn.methods.grow.growing import inputs_of
from relearn.methods.grow.teacher import TRAINING_PASSES, shape_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.pair import Pair


def forecast_of(pair: Pair, config: GrowConfig) -> dict[str, Any]:
    """Return size and speed before and after, and how long each arm would be trained.

    Args:
        pair: Teacher and growth of one seed.
        config: Knobs of the method.

    Returns:
        groups, grows, refused, plan_digest; before and after (parameters, flops of one image,
        latency_seconds of a batch); latency_batch; epochs and train_flops of each arm.
    """
    plan, often = pair.grown.record.plan, config.evaluation
    architecture = pair.teacher.checkpoint.architecture
    batch = inputs_of(pair.samples.validation, architecture, often.latency_batch)
    sides = {
        name: {
            "parameters": parameter_count(net),
            "flops": forward_flops(net, shape_of(architecture)),
            "latency_seconds": median_latency(net, batch, repeats=often.latency_repeats),
        }
        for name, net in (("before", pair.grown.teacher), ("after", pair.grown.student))
    }
    before, after = (int(sides[name]["flops"]) for name in ("before", "after"))
    images, taught = len(pair.samples.train), int(pair.teacher.told["flops"])
    epochs, flops = {}, {}
    for name, arm in arms_of(config).items():
        own = before if arm.start == TEACHER else after
        each = TRAINING_PASSES * own * images
        epochs[name] = epochs_of(
            arm,
            student_epochs=config.train.epochs,
            student=TRAINING_PASSES * after * images,
            own=each,
            teacher=taught,
        )
        asked = epochs[name] * before * images if arm.distils else 0
        inherited = 0 if arm.start == FRESH and not arm.distils else taught
        flops[name] = epochs[name] * each + asked + inherited
    return {
        "groups": len(plan.groups),
        "grows": sum(group.grows for group in plan.groups),
        "refused": len(plan.refusals),
        "plan_digest": plan.digest,
        **sides,
        "latency_batch": len(batch),
        "teacher_flops": taught,
        "epochs": epochs,
        "train_flops": flops,
    }


def median_latency(net: nn.Module, batch: Tensor, *, repeats: int) -> float:
    """Return the median seconds of one forward pass of a batch, after one that is not counted.

    Args:
        net: Asked in evaluation mode; its mode is kept.
        batch: Float images (batch, channels, height, width) on any device.
        repeats: Passes that are timed.
    """
    device = next(net.parameters()).device
    placed, found = batch.to(device), []
    with evaluating(net):
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            net(placed)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            found.append(time.perf_counter() - begin)
    return statistics.median(found[1:])
