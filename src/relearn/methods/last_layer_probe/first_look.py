"""What depth, first weights and images promise, before anything is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.batches import to_float
from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.arms import Arm, arms_of
from relearn.methods.last_layer_probe.depth import correlation_curve, fixed_point
from relearn.methods.last_layer_probe.described import skeleton_for
from relearn.methods.last_layer_probe.image_parts import float_images
from relearn.methods.last_layer_probe.init_report import unclassified
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.normalised_init import normalised_init_
from relearn.methods.last_layer_probe.samples import draw_samples
from relearn.methods.last_layer_probe.scores import effective_rank
from relearn.methods.last_layer_probe.session import require_trained
from relearn.methods.last_layer_probe.special import look_at, reasons_of
from relearn.models.checkpoint import build_fresh
from relearn.models.heads import find_head
from relearn.models.layer_groups import units_of

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.methods.last_layer_probe.samples import Samples
    from relearn.models.checkpoint import Checkpoint


def first_look(
    base: Checkpoint, stream: Stream, config: LastLayerProbeConfig, *, seed: int
) -> dict[str, Any]:
    """Return the report as plain data.

    Args:
        base: Net whose architecture and body are used.
        stream: Frozen data.
        config: Knobs.
        seed: Whose images are looked at.

    Returns:
        depth (a row a skeleton), initialisation (a row a layer), images (figures of
        ``special.look_at``), images_a_class, blocks, and warnings in words.

    Raises:
        ParameterError: A skeleton, activation or arm that cannot be.
        DataError: The images do not suffice, or one has zero norm.
    """
    arms = arms_of(config)
    for arm in arms.values():
        require_trained(base, arm)
    samples = draw_samples(stream, config, seed=seed)
    images = look_at(samples, seed=seed)
    depth = [depth_row(arm, samples, config) for arm in _bodies(arms)]
    first = _first_weights(base, samples, config, seed=seed)
    reasons = reasons_of(images, config.special)
    return {
        "depth": depth,
        "initialisation": first["layers"],
        "images": images,
        "images_a_class": len(samples.train) / samples.classes,
        "blocks": _blocks(base),
        "warnings": [
            *(warning for row in depth for warning in row.pop("warnings")),
            *first["warnings"],
            *(f"The data are special: {reason}." for reason in reasons),
        ],
    }


def _bodies(arms: dict[str, Arm]) -> list[Arm]:
    """Return one arm for each skeleton and activation."""
    found = {(arm.body, arm.activation, arm.beta): arm for arm in arms.values() if arm.body}
    return list(found.values())


def depth_row(arm: Arm, samples: Samples, config: LastLayerProbeConfig) -> dict[str, Any]:
    """Return what the depth of a skeleton does to two inputs, and to the images at hand.

    Args:
        arm: With a body.
        samples: Whose kernel gives the effective rank.
        config: Thresholds, and how deep to follow.
    """
    told = config.depth_report
    skeleton, norm = skeleton_for(config, arm, side=int(samples.train.images.shape[2]))
    activation = activation_of(arm.activation)
    curve = correlation_curve(
        activation, beta=arm.beta, depth=told.deepest, rho0=told.correlation
    ).flatten()
    fixed = fixed_point(activation, beta=arm.beta)
    few = float_images(samples.train.images[: told.images])
    kernel = dual_kernel(skeleton, few, input_norm=norm, dtype=torch.float64)
    rank = effective_rank(kernel) / len(few)
    end = float(curve[min(skeleton.depth, told.deepest)])
    name = f"{arm.body} ({arm.activation}, beta {arm.beta:g})"
    return {
        "skeleton": name,
        "depth": skeleton.depth,
        "size": skeleton.size,
        "digest": skeleton.digest[:12],
        "correlation_at_depth": end,
        "correlation_deep": float(curve[-1]),
        "fixed_point": fixed.correlation,
        "regime": fixed.regime,
        "effective_rank": rank,
        "curve": [float(value) for value in curve],
        "warnings": _depth_warnings(name, end, fixed.correlation, rank, config=config),
    }


def _depth_warnings(
    name: str, end: float, fixed: float, rank: float, *, config: LastLayerProbeConfig
) -> list[str]:
    told = config.depth_report
    found = []
    if abs(1 - end) < told.collapsed:
        found.append(f"{name}: at its depth all inputs look alike (correlation {end:.4f}).")
    elif fixed < told.collapsed and abs(end) < told.collapsed and told.correlation >= 0.5:
        found.append(f"{name}: at its depth no two inputs look alike: nothing generalises.")
    if rank < told.smallest_rank:
        found.append(
            f"{name}: the effective rank of its kernel is {100 * rank:.2g} % of the images: depth "
            "has flattened it; lower the depth or bodies.beta."
        )
    return found


def _first_weights(
    base: Checkpoint, samples: Samples, config: LastLayerProbeConfig, *, seed: int
) -> dict[str, Any]:
    """Return E s^2 layer by layer for the usual draw of the base's architecture and for ours."""
    architecture = base.architecture.with_classes(samples.classes)
    net = build_fresh(architecture, seed=seed)
    images = samples.train.images[: config.initialisation.images]
    example = to_float(images, architecture.mean, architecture.std)
    rows = normalised_init_(net.train(), example, beta=config.bodies.beta, seed=seed)
    outside = [row.name for row in rows if not row.within]
    warnings = [f"First weights: {line}." for line in unclassified(rows)]
    if outside:
        warnings.append(
            f"First weights: after the normalised draw {', '.join(outside)} are off the expected "
            "mean square by more than their tolerance."
        )
    kept = ("name", "kind", "fed_by", "given_before", "given_after", "expected", "tolerance")
    layers = [{name: getattr(row, name) for name in kept} for row in rows]
    return {"layers": [_finite(row) for row in layers], "warnings": warnings}


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with None in the place of numbers that a JSON file cannot hold."""
    bad = {k for k, v in row.items() if isinstance(v, float) and math.isnan(v)}
    return {k: None if k in bad else v for k, v in row.items()}


def _blocks(base: Checkpoint) -> int:
    """Return the layers or blocks below the last layer."""
    net = build_fresh(base.architecture, seed=0)
    head = find_head(net, str(base.provenance.get("head", ""))).name
    return sum(unit.name != head for unit in units_of(net, head))
