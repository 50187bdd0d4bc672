"""Our low-rank modules at work: training steps after some finished tasks, and mixed batches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional

from relearn.data.randomness import generator_of
from relearn.methods.lora_ipc.adapters import Adapters
from relearn.methods.lora_ipc.attachment import Settings
from relearn.methods.lora_ipc.importance import ImportanceWatch
from relearn.methods.lora_ipc.matrices import KINDS
from relearn.methods.lora_ipc.orthogonality import SoftOrthogonality
from relearn.methods.lora_ipc.state import save_state, stored_bytes
from relearn.methods.lora_ipc.task_inference import (
    ClassShape,
    features_after_first_task,
    only_classes,
    predict,
)
from relearn.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from side_by_side import Repetition
    from torch import Tensor, nn

CLASSES, EACH = 210, 10
CENTROIDS = 4


def net(*, dim: int, depth: int, image: int, patch: int) -> nn.Module:
    """Return a vision transformer of timm with heads of 64 features, drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # by its class, because the official code takes timm's names for nets of its own
        made: nn.Module = VisionTransformer(
            embed_dim=dim,
            depth=depth,
            num_heads=max(1, dim // 64),
            img_size=image,
            patch_size=patch,
            num_classes=CLASSES,
        )
    return made


def batch(size: int, image: int) -> Tensor:
    """Return noise, shape (size, 3, image, image)."""
    return torch.randn(size, 3, image, image, generator=generator_of(0, "bench.images"))


def learnt(model: nn.Module, *, tasks: int, rank: int, freeze: float, omega: bool) -> Adapters:
    """Return modules of finished tasks with drawn factors; a share of matrices frozen a task."""
    settings = Settings(KINDS, rank, planned_tasks=tasks + 1, omega=omega)
    adapters = Adapters(model, settings)
    draw = generator_of(0, "bench.factors")
    for task in range(tasks):
        adapters.begin_task(_classes(task), seed=0)
        with torch.no_grad():
            for matrix in adapters.matrices.values():
                if matrix.b is not None:
                    matrix.b.copy_(torch.randn(matrix.b.shape, generator=draw) * 1e-3)
        names = [name for name in adapters.matrices if name not in adapters.frozen]
        wanted = round(freeze * (task + 1) * len(adapters.matrices)) - len(adapters.frozen)
        # spread over kinds and blocks alike
        adapters.finish_task(names[:: max(1, len(names) // max(1, wanted))][:wanted])
    return adapters


def step(  # noqa: PLR0913
    *,
    dim: int,
    depth: int,
    image: int,
    patch: int,
    batch_size: int,
    rank: int,
    tasks: int,
    freeze: float = 0.0,
    omega: bool = True,
    watched: bool = False,
    penalty: bool = True,
) -> Repetition:
    """Prepare one training step of the task after some finished ones."""
    keep_freed_memory()
    model = net(dim=dim, depth=depth, image=image, patch=patch)
    adapters = learnt(model, tasks=tasks, rank=rank, freeze=freeze, omega=omega)
    classes = _classes(tasks)
    adapters.begin_task(classes, seed=0)
    trained = [*adapters.factors(), *adapters.omegas(), *adapters.head.parameters()]
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    soft = SoftOrthogonality(adapters.matrices.values() if penalty else ())
    if watched:
        ImportanceWatch(adapters.matrices.values(), "sensitivity_uncertainty").turn_on()
    x = batch(batch_size, image)
    labels = torch.tensor(classes).repeat(batch_size)[:batch_size]
    model.train()

    def repetition() -> float:
        loss = functional.cross_entropy(only_classes(model(x), classes), labels) + soft.penalty()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return float(batch_size)

    return repetition


def inference(
    *, dim: int, depth: int, image: int, patch: int, batch_size: int, rank: int, tasks: int
) -> Repetition:
    """Prepare the answers for a batch that mixes all tasks."""
    keep_freed_memory()
    model = net(dim=dim, depth=depth, image=image, patch=patch).eval()
    adapters = learnt(model, tasks=tasks, rank=rank, freeze=0.0, omega=True)
    x = batch(batch_size, image)
    features = features_after_first_task(adapters, x)
    shapes = {
        label: ClassShape(means, torch.eye(dim).repeat(CENTROIDS, 1, 1))
        for label, means in class_means(features, tasks).items()
    }

    def repetition() -> float:
        found = predict(adapters, x, shapes)
        if not torch.equal(found.tasks, expected_tasks(batch_size, tasks)):
            raise RuntimeError("the inferred tasks are not those of the centroids")
        return float(batch_size)

    return repetition


def class_means(features: Tensor, tasks: int) -> dict[int, Tensor]:
    """Return centroids of every class, so placed that image n belongs to task n modulo tasks."""
    draw = generator_of(0, "bench.centroids")
    found = {}
    for label in range(tasks * EACH):
        means = functional.normalize(torch.randn(CENTROIDS, features.shape[1], generator=draw))
        if label % EACH == 0:
            own = features[label // EACH :: tasks]
            means[: min(CENTROIDS, len(own))] = own[:CENTROIDS]
        found[label] = means
    return found


def expected_tasks(batch_size: int, tasks: int) -> Tensor:
    """Return the task that each image of the batch was given."""
    return torch.arange(batch_size) % tasks


def stored(*, dim: int, depth: int, image: int, patch: int, rank: int) -> Repetition:
    """Prepare the bytes of the file over those of its factors, after a stream of all classes.

    As alignment does, each task changes the rows of the last layer of all classes so far.
    """
    model = net(dim=dim, depth=depth, image=image, patch=patch)

    def repetition() -> float:
        adapters = learnt(model, tasks=CLASSES // EACH, rank=rank, freeze=0.0, omega=True)
        head = adapters.first_head
        for task in range(CLASSES // EACH):
            head = {name: tensor.clone() for name, tensor in head.items()}
            for tensor in head.values():
                tensor[: (task + 1) * EACH] += 1.0
            adapters.heads[task] = head
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.safetensors"
            save_state(adapters, path)
            return path.stat().st_size / stored_bytes(adapters)["factors"]

    return repetition


def _classes(task: int) -> list[int]:
    return list(range(task * EACH, (task + 1) * EACH))
