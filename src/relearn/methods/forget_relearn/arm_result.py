"""One arm: a delivered model of a finished training, judged and written down."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.evaluation.efficiency import forward_flops, parameter_count, peak_memory_bytes
from relearn.evaluation.records import ArmResult, Intervention, Log, Record, Recorder, no_log
from relearn.methods.forget_relearn.arms import training_of, trainings_of
from relearn.methods.forget_relearn.measure import Judge
from relearn.methods.forget_relearn.samples import Samples, draw_samples
from relearn.methods.forget_relearn.trained import KIND_OF, Trained
from relearn.models.architectures import build_fresh
from relearn.models.checkpoint import capture
from relearn.models.normalised import NormalisedNet
from relearn.provenance import digest
from relearn.training.device import Device, open_device

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig

_METHOD = "forget_relearn"


def judge(
    trained: Trained,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    arm: str,
    log: Log = no_log,
    device: Device | None = None,
    surrogate: Trained | None = None,
) -> ArmResult:
    """Measure one delivered model on the test images and return it with all its books.

    Args:
        trained: A finished training that delivers the arm.
        stream: Frozen data of all arms.
        config: Knobs; ``roll_back.to_cycle`` chooses an earlier state.
        arm: Name of the arm.
        log: Live curves; the headline figures are put there.
        device: Where to judge; None is the plain CPU.
        surrogate: Plain adversarial training of the same seed, whose last model's attacked images
            are tried on this one; None measures no transfer.

    Raises:
        ParameterError: The training does not deliver the arm, or the cycle was not kept.
    """
    begun = time.perf_counter()
    place = device or open_device("cpu", "fp32")
    training = training_of(config, arm)
    if training.name != trained.name:
        raise ParameterError(
            f"forget_relearn.trainings: arm {arm!r} is delivered by {training.name}, got the "
            f"finished training {trained.name}; give that of {training.name}"
        )
    delivery = training.deliveries[arm]
    cycle = config.roll_back.to_cycle if training.treated else 0
    name, weights = trained.model(delivery, cycle=cycle)
    model = _built(trained, weights, place)
    recorder = Recorder(_METHOD, arm, trained.seed)
    _write_books(trained, recorder, kind=KIND_OF[delivery])
    samples = draw_samples(stream, config.samples, seed=trained.seed)
    epoch = trained.epochs[name]
    judged = Judge(_pixels(trained, model), samples, config, trained.seed, recorder, epoch)
    other = None
    if surrogate is not None:
        other = _pixels(trained, _built(trained, surrogate.models["last"], place))
    predictions = judged.everything(other)
    finals = {r.metric: r.value for r in recorder.records if r.task == "test"}
    log(epoch, {f"test_{metric}": value for metric, value in finals.items()})
    told = _provenance(trained, config, samples, arm=arm, model=name)
    return ArmResult(
        checkpoint=capture(model, trained.architecture, told),
        records=recorder.records,
        costs=_costs(trained, model, arm, seconds=time.perf_counter() - begun, device=place),
        interventions=[replace(one, arm=arm) for one in trained.interventions],
        predictions=predictions,
        order_digest=trained.order_digest,
        tensors=trained.pictures,
    )


def validation_scores(
    trained: Trained,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    device: Device | None = None,
) -> dict[str, float]:
    """Return the robust accuracy on validation images of every model that is an arm.

    Args:
        trained: A finished training.
        stream: Frozen data of all arms.
        config: Knobs.
        device: Where to judge; None is the plain CPU.
    """
    place = device or open_device("cpu", "fp32")
    samples = draw_samples(stream, config.samples, seed=trained.seed)
    scores = {}
    for name in dict.fromkeys(trainings_of(config)[trained.name].deliveries.values()):
        net = _pixels(trained, _built(trained, trained.models[name], place))
        recorder = Recorder(_METHOD, name, trained.seed)
        judged = Judge(net, samples, config, trained.seed, recorder, trained.epochs[name])
        scores[name] = judged.validation()
    return scores


def _built(trained: Trained, weights: Mapping[str, Tensor], device: Device) -> nn.Module:
    model = build_fresh(trained.architecture, seed=0)
    model.load_state_dict(dict(weights))
    # in the device's layout but in fp32, whatever the precision of training
    return device.place(model).eval()


def _pixels(trained: Trained, model: nn.Module) -> NormalisedNet:
    return NormalisedNet(model, trained.architecture.mean, trained.architecture.std)


def _write_books(trained: Trained, recorder: Recorder, *, kind: str) -> None:
    """Write the curves of the kind of model, those of the training, recoveries and alarms."""
    for source in ("common", kind):
        for epoch, row in trained.curves.get(source, []):
            recorder.add("curve", int(epoch), row)
    for number, row in enumerate(trained.recoveries, start=1):
        recorder.add("recovery", number, row)
    recorder.add("alarm", 0, trained.notes)


def _provenance(
    trained: Trained,
    config: ForgetRelearnConfig,
    samples: Samples,
    *,
    arm: str,
    model: str,
) -> dict[str, Any]:
    return {
        "method": _METHOD,
        "arm": arm,
        "training": trained.name,
        "model": model,
        "seed": trained.seed,
        "config": digest(config),
        "stream": trained.stream,
        "epochs": trained.epochs[model],
        "steps": trained.steps,
        "steps_since_intervention": trained.steps_since_change,
        "interventions": len(trained.interventions),
        "norm": config.attack.norm,
        "epsilon": config.attack.epsilon,
        "class_names": list(samples.class_names),
        "class_numbers": [int(n) for n in samples.class_numbers],
        "order_digest": trained.order_digest,
    }


def _costs(
    trained: Trained, model: nn.Module, arm: str, *, seconds: float, device: Device
) -> list[Record]:
    shape = trained.architecture
    image = (shape.in_channels, shape.image_size, shape.image_size)
    recorder = Recorder(_METHOD, arm, trained.seed)
    recorder.add(
        "cost",
        0,
        {
            **trained.costs,
            "judge_seconds": seconds,
            "parameters": float(parameter_count(model)),
            "forward_flops": float(forward_flops(model, image)),
            "peak_memory_bytes": float(peak_memory_bytes(device.name)),
        },
    )
    return recorder.records


__all__ = ["Intervention", "judge", "validation_scores"]
