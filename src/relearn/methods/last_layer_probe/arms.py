"""The rungs of the ladder and the variants of the studies, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from relearn.errors import ParameterError, near_miss
from relearn.methods.last_layer_probe.bodies_config import numbers_in
from relearn.methods.last_layer_probe.config import BEST_PROBE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig

LINEAR, NOISE = "linear", "noise_body"
PROBES = ("random", "kernel", "frozen")
"""Kinds that leave the body as it is and are candidates for the treated arm."""

TRAINED = ("full", "fine_tuned")
"""Kinds whose rate and length are tuned."""


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: Free label; names the unit.
        kind: ``majority``, ``linear``, ``random``, ``kernel``, ``frozen``, ``noise``, ``unfrozen``,
            ``full`` or ``fine_tuned``.
        body: Label of the skeleton, such as ``fc3``, ``conv1`` or a declared name; empty for none.
        replicas: r of a random body, or features of the body of noise.
        activation: Of the skeleton.
        beta: Share of the bias.
        gain: Factor on the normalised weights.
        condition: What is done to the images first, as in ``samples.CONDITIONS``.
    """

    name: str
    kind: str
    body: str = ""
    replicas: int = 0
    activation: str = ""
    beta: float = 0.0
    gain: float = 1.0
    condition: str = "plain"

    @property
    def treated(self) -> bool:
        """Whether a body is left frozen, or thawed from there."""
        return self.kind in (*PROBES, "noise", "unfrozen")

    @property
    def is_probe(self) -> bool:
        """Whether it may be the treated arm: a last-layer rung that is no control."""
        return self.kind in PROBES and self.condition == "plain"


def arms_of(config: LastLayerProbeConfig) -> dict[str, Arm]:
    """Return the arms that are switched on, by name, from the lowest rung to the highest.

    Args:
        config: Knobs of the method.

    Raises:
        ParameterError: An arm named under ``evidence`` is not among them.
    """
    makers = {
        "arms": _ladder,
        "activations": _activations,
        "skeletons": _skeletons,
        "initialisation": _initialisation,
        "verdicts": _verdict_cases,
    }
    found = {arm.name: arm for arm in makers[config.compare](config)}
    if config.compare == "arms":
        _require_named(config, found)
    return found


def arm_named(config: LastLayerProbeConfig, name: str) -> Arm:
    """Return one arm.

    Args:
        config: Knobs of the method.
        name: Name of the arm.

    Raises:
        ParameterError: No arm of this name is switched on; a near miss is suggested.
    """
    arms = arms_of(config)
    if name not in arms:
        raise ParameterError(
            f"last_layer_probe.arms: no arm {name!r} is switched on,{near_miss(name, arms)} "
            f"there are {', '.join(arms)}"
        )
    return arms[name]


def body_labels(config: LastLayerProbeConfig) -> list[str]:
    """Return the labels of all skeletons that are probed.

    Args:
        config: Knobs of the method.
    """
    bodies = config.bodies
    labels = [f"fc{depth:g}" for depth in numbers_in(bodies.fully_connected.depths)]
    if bodies.convolutional.enabled:
        labels.append(conv_label(config))
    return labels + list(bodies.declared)


def conv_label(config: LastLayerProbeConfig) -> str:
    """Return the label of the convolutional skeleton.

    Args:
        config: Knobs of the method.
    """
    return f"conv{config.bodies.convolutional.layers}"


def replicas_of(config: LastLayerProbeConfig, label: str) -> list[int]:
    """Return the replicas r of the random bodies of a skeleton, rising.

    Args:
        config: Knobs of the method.
        label: As from ``body_labels``.
    """
    bodies = config.bodies
    text = bodies.fully_connected.widths
    if label in bodies.declared:
        text = bodies.declared_replicas
    elif label.startswith("conv"):
        text = bodies.convolutional.channels
    return sorted(int(number) for number in numbers_in(text))


def _ladder(config: LastLayerProbeConfig) -> Iterable[Arm]:
    arms, labels = config.arms, body_labels(config)
    if arms.majority:
        yield Arm("majority", "majority")
    yield Arm(LINEAR, "linear")
    if arms.random:
        for label in labels:
            yield from (_random(config, label, count) for count in replicas_of(config, label))
    if arms.kernel:
        yield from (_kernel(config, label) for label in labels)
    kinds = ("frozen", "unfrozen", "full", "fine_tuned")
    yield from (Arm(kind, kind) for kind in kinds if getattr(arms, kind))
    if arms.controls:
        yield _noise(config)
        for arm in (Arm(LINEAR, "linear"), _control(config)):
            yield under(arm, "permuted_labels")


def _control(config: LastLayerProbeConfig) -> Arm:
    """Return the strongest probe that is always there: its verdict on wrong labels is the test."""
    label = body_labels(config)[0]
    if config.arms.kernel:
        return _kernel(config, label)
    if config.arms.random:
        return _random(config, label, replicas_of(config, label)[-1])
    return Arm("frozen", "frozen")


def _noise(config: LastLayerProbeConfig) -> Arm:
    """Return the body of noise, of a middling width: more noise is no better."""
    widths = replicas_of(config, body_labels(config)[0])
    return Arm(NOISE, "noise", replicas=widths[len(widths) // 2])


def under(arm: Arm, condition: str) -> Arm:
    """Return the arm on changed images.

    Args:
        arm: On the images as they are.
        condition: As in ``samples.CONDITIONS``.
    """
    if condition == "plain":
        return arm
    return replace(arm, name=f"{arm.name}.{condition}", condition=condition)


def _random(config: LastLayerProbeConfig, label: str, replicas: int) -> Arm:
    bodies = config.bodies
    return Arm(
        f"random_{label}_{replicas}",
        "random",
        label,
        replicas,
        activation=bodies.activation,
        beta=bodies.beta,
        gain=bodies.gain,
    )


def _kernel(config: LastLayerProbeConfig, label: str) -> Arm:
    bodies = config.bodies
    return Arm(f"kernel_{label}", "kernel", label, activation=bodies.activation, beta=bodies.beta)


def _activations(config: LastLayerProbeConfig) -> Iterable[Arm]:
    yield Arm(LINEAR, "linear")
    study = config.study
    label = f"fc{study.depth}"
    for name in study.activations.split():
        plain = _random(config, label, study.width)
        yield replace(plain, name=f"random_{name}", activation=name)
    for name in study.activations.split():
        yield replace(_kernel(config, label), name=f"kernel_{name}", activation=name)


def _skeletons(config: LastLayerProbeConfig) -> Iterable[Arm]:
    depth, label = config.bodies.convolutional.layers, conv_label(config)
    # replicas 0: as many features as the convolutional body, which only the images tell
    bodies = [
        replace(_random(config, f"fc{depth}", 0), name="random_fc"),
        replace(_random(config, label, config.study.channels), name="random_conv"),
        replace(_kernel(config, f"fc{depth}"), name="kernel_fc"),
        replace(_kernel(config, label), name="kernel_conv"),
    ]
    for condition in ("plain", "permuted_pixels"):
        for arm in (Arm(LINEAR, "linear"), *bodies):
            yield under(arm, condition)


def _initialisation(config: LastLayerProbeConfig) -> Iterable[Arm]:
    yield Arm(LINEAR, "linear")
    study, sweep = config.study, config.initialisation
    plain = _random(config, f"fc{study.depth}", study.width)
    gains = {1.0, *numbers_in(sweep.gains, kind=float)}
    for gain in sorted(gains):
        yield replace(plain, name=f"random_gain_{gain:g}", gain=gain, beta=0.0)
    for beta in sorted(set(numbers_in(sweep.betas, kind=float))):
        yield replace(plain, name=f"random_beta_{beta:g}", gain=1.0, beta=beta)


def _verdict_cases(config: LastLayerProbeConfig) -> Iterable[Arm]:
    from relearn.methods.last_layer_probe.samples import CONDITIONS

    label = body_labels(config)[-1]
    few, *_, many = [*replicas_of(config, label), replicas_of(config, label)[-1]]
    bodies = [_random(config, label, few), _kernel(config, label), _noise(config)]
    if many != few:
        bodies.insert(1, _random(config, label, many))
    if config.arms.frozen:
        bodies.append(Arm("frozen", "frozen"))
    for condition in CONDITIONS:
        for arm in (Arm(LINEAR, "linear"), *bodies, Arm("full", "full")):
            yield under(arm, condition)


def _require_named(config: LastLayerProbeConfig, arms: dict[str, Arm]) -> None:
    evidence = config.evidence
    wanted = {
        "baseline_arm": evidence.baseline_arm,
        "treated_arm": evidence.treated_arm,
        "sham_arm": evidence.sham_arm,
    }
    for field, name in wanted.items():
        by_rule = field == "treated_arm" and name == BEST_PROBE
        if not name or by_rule or name in arms:
            continue
        raise ParameterError(
            f"last_layer_probe.evidence.{field}: arm {name!r} is not switched on under "
            f"last_layer_probe.arms,{near_miss(name, arms)} there are {', '.join(arms) or 'none'}"
        )
