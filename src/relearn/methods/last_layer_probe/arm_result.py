"""A finished arm as records, costs, ledger and checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from relearn.evaluation.efficiency import parameter_count, peak_memory_bytes
from relearn.evaluation.records import ArmResult, Record, Recorder
from relearn.methods.last_layer_probe.session import METHOD
from relearn.models.checkpoint import Architecture, Checkpoint, capture
from relearn.provenance import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.last_layer_probe.probing import Probed
    from relearn.methods.last_layer_probe.session import Session

NOT_PROMOTABLE = {
    "kernel": "a kernel answers by its training images, which a checkpoint does not hold; roll out "
    "its widest random body, which is its approximation",
    "noise": "a body of noise is a control",
    "frozen": "the head reads the base net before its last features, and the checkpoint holds the "
    "head alone; roll out unfrozen, or take the tap point `features`",
}
"""Kind of arm to the reason why it stays in the house."""

_LAST_TAP = "features"


def conclude_probe(session: Session, probed: Probed) -> ArmResult:
    """Return what is kept of a last-layer arm: its head, and how to make its body again.

    Args:
        session: Its books.
        probed: Its head.
    """
    weight, bias = probed.solved.weight, probed.solved.bias
    if session.arm.kind == "frozen" and probed.tap == _LAST_TAP:
        checkpoint = _with_head(session, weight, bias)
        forward = parameter_count(_built(checkpoint))
    else:
        told = {"body": probed.body.to_plain(), "tap": probed.tap}
        checkpoint = head_checkpoint(session, weight, bias, told)
        forward = int(probed.body.options.get("features", 0)) + weight.numel()
    extra = {"head_parameters": float(weight.numel() + bias.numel()), "numbers": float(forward)}
    return _result(session, checkpoint, extra)


def head_checkpoint(
    session: Session, weight: Tensor, bias: Tensor, told: dict[str, Any]
) -> Checkpoint:
    """Return a head as a net that reads features as images of one pixel.

    Args:
        session: Whose provenance it carries.
        weight: Shape (classes, p).
        bias: Shape (classes,).
        told: Further provenance: the body.
    """
    architecture = Architecture(
        "mlp", int(weight.shape[1]), 1, int(weight.shape[0]), {"width": 1, "depth": 0}, (), ()
    )
    weights = {"head.weight": weight.float().contiguous(), "head.bias": bias.float().contiguous()}
    reason = NOT_PROMOTABLE.get(session.arm.kind, "")
    provenance = {**provenance_of(session), **told, "not_promotable": reason}
    return Checkpoint(architecture, weights, _plain(provenance))


def _with_head(session: Session, weight: Tensor, bias: Tensor) -> Checkpoint:
    """Return the base net with the head in the place of its own."""
    from relearn.methods.last_layer_probe.blocks import put_head
    from relearn.models.checkpoint import build

    net = build(session.base)
    told = str(session.base.provenance.get("head", ""))
    head = put_head(net, weight.float(), bias.float(), told)
    architecture = session.base.architecture.with_classes(session.samples.classes)
    return capture(net, architecture, {**provenance_of(session), "head": head.name})


def conclude_net(
    session: Session,
    net: nn.Module,
    architecture: Architecture,
    *,
    steps: int,
    costs: dict[str, float],
) -> ArmResult:
    """Return what is kept of an arm that trained a net.

    Args:
        session: Its books.
        net: As it ended.
        architecture: From which it is made again.
        steps: Optimizer steps done.
        costs: Further costs.
    """
    told = {**provenance_of(session), "steps": steps, "steps_since_intervention": steps}
    checkpoint = capture(net, architecture, told)
    return _result(session, checkpoint, {"numbers": float(parameter_count(net)), **costs})


def conclude_majority(session: Session, bias: Tensor) -> ArmResult:
    """Return what is kept of the majority: a net that always gives the shares of the classes.

    Args:
        session: Its books.
        bias: Shape (classes,).
    """
    told = {"body": {"kind": "none", "options": {}, "shape": [1, 1]}, "tap": ""}
    weight = torch.zeros(len(bias), 1)
    checkpoint = head_checkpoint(session, weight, bias, told)
    provenance = {**checkpoint.provenance, "not_promotable": "the most frequent class is no model"}
    checkpoint = Checkpoint(checkpoint.architecture, checkpoint.weights, provenance)
    return _result(session, checkpoint, {"head_parameters": float(len(bias)), "numbers": 0.0})


def provenance_of(session: Session) -> dict[str, Any]:
    """Return what a checkpoint of the arm says about itself.

    Args:
        session: Its books.
    """
    images = session.samples.train.images
    return {
        "method": METHOD,
        "arm": session.arm.name,
        "seed": session.seed,
        "config": digest(session.config),
        "stream": session.stream.digest,
        "base": session.base.digest,
        "condition": session.arm.condition,
        "class_names": list(session.samples.class_names),
        "class_numbers": [int(c) for c in session.samples.class_numbers],
        "order_digest": session.samples.order_digest,
        "image_shape": [int(images.shape[1]), int(images.shape[2])],
        "steps": 0,
        # an optimum over all training images: there is nothing left to relearn
        "steps_since_intervention": len(images),
    }


def _result(session: Session, checkpoint: Checkpoint, extra: dict[str, float]) -> ArmResult:
    return ArmResult(
        checkpoint=checkpoint,
        records=session.recorder.records,
        costs=_costs(session, extra),
        interventions=session.interventions,
        predictions=session.predictions,
        order_digest=session.samples.order_digest,
    )


def _costs(session: Session, extra: dict[str, float]) -> list[Record]:
    seconds = session.watch.seconds
    features, train = seconds.get("features", 0.0), seconds.get("train", 0.0)
    parameters = extra.get("head_parameters", extra["numbers"])
    recorder = Recorder(METHOD, session.arm.name, session.seed)
    recorder.add(
        "cost",
        0,
        {
            "train_seconds": features + train,
            "feature_seconds": features,
            "head_seconds": train,
            "judge_seconds": seconds.get("judge", 0.0),
            "total_seconds": sum(seconds.values()),
            "train_images": float(len(session.samples.train)),
            "parameters": parameters,
            "peak_memory_bytes": float(peak_memory_bytes(session.device.name)),
            **extra,
        },
    )
    return recorder.records


def _built(checkpoint: Checkpoint) -> nn.Module:
    from relearn.models.checkpoint import build

    return build(checkpoint)


def _plain(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance without reasons that are empty."""
    return {k: v for k, v in provenance.items() if not (k == "not_promotable" and not v)}
