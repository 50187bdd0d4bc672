"""One arm: a finished training read in one way, as records, costs, ledger and checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.evaluation.efficiency import forward_flops, peak_memory_bytes
from relearn.evaluation.records import ArmResult, Log, Record, Recorder, no_log
from relearn.methods.lora_ipc.arms import STILL, training_of
from relearn.methods.lora_ipc.measure import accuracy_matrix, figures
from relearn.models.checkpoint import Checkpoint, build, build_fresh, capture
from relearn.models.heads import find_head
from relearn.provenance import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.lora_ipc.arms import Reading, Training
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.methods.lora_ipc.trained import Trained
    from relearn.training.device import Device

METHOD = "lora_ipc"
LAST_NET, MODULES, FEATURES = "net", "modules", "random features"
"""What answers: the delivered net alone, the modules of all tasks, or a layer on random features;
only the first is a net that can be rolled out."""


def deliver(
    trained: Trained,
    config: LoraIpcConfig,
    *,
    arm: str,
    log: Log = no_log,
    device: Device | None = None,
) -> ArmResult:
    """Return one arm of a finished training with all its books; nothing is computed anew.

    Args:
        trained: A finished training that delivers the arm.
        config: Knobs.
        arm: Name of the arm.
        log: Live curves; the headline figures are put there.
        device: Whose peak memory is told; None is the plain CPU.

    Raises:
        ParameterError: The training does not deliver the arm.
    """
    training = training_of(config, arm)
    if training.name != trained.name:
        raise ParameterError(
            f"lora_ipc.trainings: arm {arm!r} is delivered by {training.name}, got the finished "
            f"training {trained.name}; give that of {training.name}"
        )
    reading = training.deliveries[arm]
    net = _net(trained, reading)
    recorder = Recorder(METHOD, arm, trained.seed)
    _write_figures(trained, recorder, arm)
    _write_tables(trained, recorder, arm)
    finals = {r.metric: r.value for r in recorder.records if r.task == "test"}
    log(trained.steps, {f"test_{metric}": value for metric, value in finals.items()})
    told = _provenance(trained, config, training, reading, arm=arm)
    return ArmResult(
        checkpoint=capture(net, trained.shape, told),
        records=recorder.records,
        costs=_costs(trained, net, training, arm, device=device.name if device else "cpu"),
        interventions=[replace(one, arm=arm) for one in trained.ledger],
        predictions={"protocol": _zeros(trained, arm), **trained.predictions[arm]},
        order_digest=digest(trained.orders),
    )


def _net(trained: Trained, reading: Reading) -> nn.Module:
    """Return the delivered net with the last layer of the reading."""
    layer = trained.heads["aligned" if reading.aligned else "plain"]
    head = find_head(build_fresh(trained.shape, seed=0))
    if layer["weight"].shape[1] != head.features:
        # a layer on random features belongs to no such net; the fresh one says nothing
        layer = {name: tensor.detach() for name, tensor in head.module.state_dict().items()}
    own = {f"{head.name}.{name}": tensor for name, tensor in layer.items()}
    return build(Checkpoint(trained.shape, {**trained.net, **own}))


def _write_figures(trained: Trained, recorder: Recorder, arm: str) -> None:
    rows, learnt = trained.accuracy[arm], trained.learnt
    last = learnt[-1]
    recorder.add("test", last, figures(rows, learnt) | _last_of(trained, arm))
    if arm in trained.validation:
        own = trained.validation[arm]
        recorder.add("validation", last, {"final_average_accuracy": sum(own) / len(own)})
    matrix = accuracy_matrix(rows)
    for number, tasks in enumerate(learnt):
        seen = matrix[number, :tasks]
        recorder.add("matrix", tasks, {_task(n): float(value) for n, value in enumerate(seen)})
        curve = {"seen_accuracy": float(seen.mean()), **trained.curves[number]}
        if arm in trained.task_accuracy:
            curve["task_id_accuracy"] = trained.task_accuracy[arm][number]
        recorder.add("curve", tasks, curve)


def _last_of(trained: Trained, arm: str) -> dict[str, float]:
    """Return what is told of the end besides accuracies."""
    found = {}
    if arm in trained.task_accuracy:
        found["task_id_accuracy"] = trained.task_accuracy[arm][-1]
    later = trained.curves[1:] or trained.curves
    if all("mean_drift" in row for row in later):
        # what the first task changes is no drift of anything that was learnt before
        found["mean_drift"] = sum(row["mean_drift"] for row in later) / len(later)
        found["frozen_matrices"] = trained.curves[-1]["frozen_matrices"]
    for name in ("overlap", "distance"):
        if trained.matrices.get(name):
            values = list(trained.matrices[name][-1].values())
            found[f"mean_{name}"] = sum(values) / len(values)
    return found


def _write_tables(trained: Trained, recorder: Recorder, arm: str) -> None:
    for kind, rows in trained.matrices.items():
        for tasks, row in zip(trained.learnt, rows, strict=True):
            recorder.add(kind, tasks, row)
    for number, one in enumerate(trained.similarity):
        recorder.add("similarity", number + 1, {_task(n): value for n, value in enumerate(one)})


def _provenance(
    trained: Trained, config: LoraIpcConfig, training: Training, reading: Reading, *, arm: str
) -> dict[str, Any]:
    answers = MODULES if reading.inferred else LAST_NET
    if training.name == "ranpac" and config.rivals.ridge_features:
        answers = FEATURES
    return {
        "method": METHOD,
        "arm": arm,
        "training": trained.name,
        "seed": trained.seed,
        "config": digest(config),
        "stream": trained.stream,
        "steps": trained.steps,
        "steps_since_intervention": trained.steps,
        "interventions": len(trained.interventions),
        "tasks": trained.tasks,
        "class_names": trained.class_names,
        "class_numbers": trained.class_numbers,
        "answers": answers,
        "leaks_task_boundary": reading.voted,
        "order_digest": digest(trained.orders),
    }


def _costs(
    trained: Trained, net: nn.Module, training: Training, arm: str, *, device: str
) -> list[Record]:
    shape, costs = trained.shape, trained.costs
    image = (shape.in_channels, shape.image_size, shape.image_size)
    train = costs["learn_seconds"] + costs.get("align_seconds", 0.0)
    train += costs.get("describe_seconds", 0.0)
    trained_numbers = [row.get("trained_parameters", 0.0) for row in trained.curves]
    found = {
        **costs,
        "train_seconds": train,
        "parameters": float(sum(p.numel() for p in net.parameters())),
        "trained_parameters": max(trained_numbers),
        "forward_flops": float(forward_flops(net, image)),
        "peak_memory_bytes": float(peak_memory_bytes(device)),
        "stored_bytes": float(_stored(trained, training)),
        "bytes_per_task": _stored(trained, training) / len(trained.tasks),
    }
    if trained.steps:
        found["seconds_per_step"] = costs["learn_seconds"] / trained.steps
    recorder = Recorder(METHOD, arm, trained.seed)
    recorder.add("cost", 0, found)
    return recorder.records


def _stored(trained: Trained, training: Training) -> int:
    """Return the bytes kept beside the backbone: modules, last layers, and what classes were."""
    kept: list[Tensor] = [t for own in trained.statistics.values() for t in own.values()]
    kept += [t for own in trained.shapes.values() for t in own.values()]
    kept += list(trained.memory.values())
    if training.body == STILL:
        kept += list(trained.heads["plain"].values())
    tensors = trained.body.get("tensors", trained.body)
    kept += list(tensors.values())
    return sum(t.numel() * t.element_size() for t in kept)


def _zeros(trained: Trained, arm: str) -> Tensor:
    import torch

    return torch.zeros_like(trained.predictions[arm]["label"])


def _task(number: int) -> str:
    return f"task_{number + 1:02d}"
