"""What is trained, and how the model of each training is read: the arms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from relearn.errors import ParameterError, near_miss
from relearn.methods.lora_ipc.config import BEST_ON_VALIDATION, LEAKING

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.config import LoraIpcConfig

FULL, SHARED, TASKWISE, STILL = "full", "shared", "taskwise", "still"
PAPER_RULE = "as configured"
CANDIDATES = ("ncm", "ranpac", "shared_lora", "lorac")
"""Cheap alternatives of which the best on validation is the baseline."""


@dataclass(frozen=True)
class Reading:
    """How a trained model is asked.

    Attributes:
        aligned: By the last layer that was aligned on drawn features, or the one the tasks left.
        inferred: Whether each image is answered by the model after the task it seems to be of.
        voted: Whether the images of a test batch vote on that task.
    """

    aligned: bool = False
    inferred: bool = False
    voted: bool = False


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: Free label.
        body: What is trained: the ``full`` net, one ``shared`` module, a module each task
            (``taskwise``), or nothing (``still``).
        family: Field of ``rates`` whose factor it takes; empty for ``still``.
        rule: Rule of freezing; empty freezes nothing, ``PAPER_RULE`` takes that of the parameters.
        orthogonality: ``soft``, ``hard`` or ``off``; empty takes that of the parameters.
        omega: Whether weights of earlier modules may be trained.
        held_by: ``ewc`` or ``lwf``; empty for none.
        joint: Whether all classes are learnt at once.
        rehearsal: Whether images of earlier classes are kept.
        deliveries: Arm to its reading.
    """

    name: str
    body: str
    family: str = ""
    rule: str = ""
    orthogonality: str = ""
    omega: bool = True
    held_by: str = ""
    joint: bool = False
    rehearsal: bool = False
    deliveries: dict[str, Reading] = field(default_factory=dict)

    @property
    def treated(self) -> bool:
        """Whether matrices are frozen while it runs, be they drawn at random."""
        return bool(self.rule)


_ALL = (
    Training("raw_ncm", STILL),
    Training("ncm", STILL),
    Training("ranpac", STILL),
    Training("sequential_full", FULL, "full"),
    Training("ewc", FULL, "held", held_by="ewc"),
    Training("lwf", FULL, "held", held_by="lwf"),
    Training("shared_lora", SHARED, "shared"),
    Training("shared_lora_rehearsal", SHARED, "shared", rehearsal=True),
    Training("joint", SHARED, "joint", joint=True),
    Training("joint_full", FULL, "joint_full", joint=True),
    Training("lorac", TASKWISE, "lorac"),
    Training("lorac_no_ortho", TASKWISE, "lorac", orthogonality="off"),
    Training("lorac_no_omega", TASKWISE, "lorac", omega=False),
    Training("lorac_ipc_random", TASKWISE, "lorac_ipc", rule="random"),
    Training("lorac_ipc_sequential", TASKWISE, "lorac_ipc", rule="sequential"),
    Training("lorac_ipc", TASKWISE, "lorac_ipc", rule=PAPER_RULE),
    Training("lorac_ipc_no_ortho", TASKWISE, "lorac_ipc", rule=PAPER_RULE, orthogonality="off"),
    Training("lorac_ipc_hard", TASKWISE, "lorac_ipc", rule=PAPER_RULE, orthogonality="hard"),
    Training("lorac_ipc_no_omega", TASKWISE, "lorac_ipc", rule=PAPER_RULE, omega=False),
    Training("lorac_ipc_rehearsal", TASKWISE, "lorac_ipc", rule=PAPER_RULE, rehearsal=True),
)


def trainings_of(config: LoraIpcConfig) -> dict[str, Training]:
    """Return the trainings that are switched on, by name, baselines first.

    Args:
        config: Knobs of the method.

    Raises:
        ParameterError: An arm named under ``evidence`` is delivered by no training.
    """
    chosen = [t for t in _ALL if getattr(config.trainings, t.name)]
    found = {t.name: replace(t, deliveries=_deliveries(t, config)) for t in chosen}
    _require_named(config, found)
    return found


def training_of(config: LoraIpcConfig, arm: str) -> Training:
    """Return the training that delivers an arm.

    Args:
        config: Knobs of the method.
        arm: Name of the arm.

    Raises:
        ParameterError: No training of this configuration delivers it; a near miss is suggested.
    """
    by_arm = {name: t for t in trainings_of(config).values() for name in t.deliveries}
    if arm not in by_arm:
        raise ParameterError(
            f"lora_ipc.trainings: no training delivers an arm {arm!r},"
            f"{near_miss(arm, by_arm)} there are {', '.join(by_arm)}"
        )
    return by_arm[arm]


def training_named(config: LoraIpcConfig, name: str) -> Training:
    """Return a training that is switched on.

    Args:
        config: Knobs of the method.
        name: Its name.

    Raises:
        ParameterError: No such training is switched on; a near miss is suggested.
    """
    found = trainings_of(config)
    if name not in found:
        raise ParameterError(
            f"lora_ipc.trainings: {name!r} is not switched on,{near_miss(name, found)} "
            f"there are {', '.join(found)}"
        )
    return found[name]


def arms_of(config: LoraIpcConfig) -> tuple[str, ...]:
    """Return the names of all arms, baselines first.

    Args:
        config: Knobs of the method.
    """
    return tuple(arm for t in trainings_of(config).values() for arm in t.deliveries)


def candidates_of(config: LoraIpcConfig) -> tuple[str, ...]:
    """Return the arms of which the best on validation is the baseline.

    Args:
        config: ``evidence.baseline_arm`` names one arm, or the rule.
    """
    named = config.evidence.baseline_arm
    if named != BEST_ON_VALIDATION:
        return (named,)
    return tuple(arm for arm in CANDIDATES if arm in arms_of(config))


def _deliveries(training: Training, config: LoraIpcConfig) -> dict[str, Reading]:
    """Return the arms of a training, first the one that bears its name."""
    if training.body in (STILL, FULL) or training.joint:
        return {training.name: Reading()}
    heads = {"": True, "_no_tap": False} if config.alignment.enabled else {"": False}
    name, infers = training.name, training.body == TASKWISE
    found = {f"{name}{ending}": Reading(aligned) for ending, aligned in heads.items()}
    if infers and config.task_inference.enabled:
        found |= {f"{name}_tii{end}": Reading(aligned, True) for end, aligned in heads.items()}
    if infers and config.task_inference.batch_wise:
        found[f"{name}{LEAKING}"] = Reading(heads[""], True, True)
    return found


def _require_named(config: LoraIpcConfig, trainings: dict[str, Training]) -> None:
    arms = [arm for training in trainings.values() for arm in training.deliveries]
    for name in ("baseline_arm", "treated_arm", "sham_arm"):
        wanted = str(getattr(config.evidence, name))
        by_rule = name == "baseline_arm" and wanted == BEST_ON_VALIDATION
        if not wanted or wanted in arms or (by_rule and set(CANDIDATES) & set(arms)):
            continue
        raise ParameterError(
            f"lora_ipc.evidence.{name}: no training that is switched on delivers {wanted!r},"
            f"{near_miss(wanted, arms)} there are {', '.join(arms) or 'none'}"
        )
