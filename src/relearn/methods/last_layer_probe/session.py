"""What one arm with one seed works on: images, knobs, books."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.evaluation.efficiency import Stopwatch
from relearn.evaluation.records import Intervention, Log, Recorder, no_log
from relearn.methods.last_layer_probe.arms import Arm, arm_named
from relearn.methods.last_layer_probe.samples import Samples, draw_samples
from relearn.training.device import Device, open_device

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import Stream
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.resume import ResumePoint

METHOD = "last_layer_probe"


@dataclass
class Session:
    """One arm with one seed.

    Attributes:
        base: Net whose body or architecture is used; it keeps every bit.
        stream: Named in the provenance.
        config: Knobs.
        arm: What is done.
        seed: Of the pair: images, body and order follow from it.
        samples: Images of the seed under the arm's condition.
        device: Where nets are trained and bodies are read.
        log: Live curves.
        resume: Where training is kept while it runs.
        recorder: Records so far.
        watch: Seconds so far.
        interventions: Ledger so far.
        predictions: Of the test images.
    """

    base: Checkpoint
    stream: Stream
    config: LastLayerProbeConfig
    arm: Arm
    seed: int
    samples: Samples
    device: Device
    log: Log = no_log
    resume: ResumePoint | None = None
    recorder: Recorder = field(init=False)
    watch: Stopwatch = field(default_factory=Stopwatch)
    interventions: list[Intervention] = field(default_factory=list)
    predictions: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recorder = Recorder(METHOD, self.arm.name, self.seed)


def open_session(
    base: Checkpoint,
    stream: Stream,
    config: LastLayerProbeConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> Session:
    """Return the session of one arm, its images drawn, nothing computed yet.

    Args:
        base: As in ``Session``.
        stream: Frozen data of all arms.
        config: Knobs.
        arm: Name of an arm that is switched on.
        seed: Seed of the pair.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to work; None is the plain CPU.

    Raises:
        ParameterError: The arm is not switched on, or needs a base net that was never trained.
        DataError: The images do not suffice.
    """
    found = arm_named(config, arm)
    require_trained(base, found)
    return Session(
        base=base,
        stream=stream,
        config=config,
        arm=found,
        seed=seed,
        samples=draw_samples(stream, config, seed=seed, condition=found.condition),
        device=device or open_device("cpu", "fp32"),
        log=log,
        resume=resume,
    )


def require_trained(base: Checkpoint, arm: Arm) -> None:
    """Refuse to call a net pretrained that nobody has trained.

    Args:
        base: The base net.
        arm: That may need its weights.

    Raises:
        ParameterError: It does, and they are as they were drawn.
    """
    if arm.kind not in ("frozen", "unfrozen", "fine_tuned"):
        return
    told = base.provenance
    if told.get("epochs") == 0 and told.get("weights", "none") == "none":
        raise ParameterError(
            f"last_layer_probe.arms.{arm.kind}: the base net was never trained "
            "(pretrain.train.epochs: 0); train it, take weights from elsewhere "
            "(pretrain.model.weights), or switch the arm off: random bodies are arms of their own"
        )
