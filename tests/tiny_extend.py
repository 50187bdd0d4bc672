"""A trained net small enough for tests, and images of classes that it has never seen."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from tiny_zap import tiny_architecture, tiny_stream

from relearn.data.batches import to_float
from relearn.data.images import LabelledImages
from relearn.methods.zap.extend_config import AddClassesConfig
from relearn.models.checkpoint import Architecture, Checkpoint, build_fresh, capture

_BASE = Path(__file__).resolve().parents[1] / "conf/base/parameters_add_classes.yml"


def tiny_settings(**changes: Any) -> AddClassesConfig:
    """Return the parameters of base, with changes."""
    plain = yaml.safe_load(_BASE.read_text(encoding="utf-8"))["add_classes"]
    return AddClassesConfig.model_validate(plain | {"batch_size": 16} | changes)


def trained(architecture: Architecture, *, steps: int, size: int = 8) -> Checkpoint:
    """Return a net that has learnt the training classes of the tiny stream."""
    stream = tiny_stream(size)
    classes = stream.split("train").classes
    split = stream.split("train").of_classes(classes)
    model = build_fresh(architecture, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = to_float(split.images, architecture.mean, architecture.std)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), split.labels).backward()
        optimizer.step()
    told = {
        "method": "zap",
        "arm": "iid_zap",
        "seed": 3,
        "steps": steps,
        "interventions": 2,
        "class_names": [stream.class_names[int(c)] for c in classes],
        "class_numbers": classes.tolist(),
        "stream": stream.digest,
    }
    return capture(model, architecture, told)


@cache
def tiny_start() -> Checkpoint:
    """Return a perceptron that knows six classes well."""
    return trained(tiny_architecture(), steps=40)


@cache
def tiny_images(size: int = 8) -> LabelledImages:
    """Return eight images of each of the five transfer classes."""
    stream = tiny_stream(size)
    support, query = stream.split("transfer_support"), stream.split("transfer_query")
    classes = support.classes
    few, many = support.of_classes(classes), query.of_classes(classes)
    return LabelledImages(
        images=torch.cat([few.images, many.images]),
        labels=torch.cat([few.labels, many.labels]),
        class_names=tuple(f"new {i}" for i in range(len(classes))),
        part=torch.zeros(len(few) + len(many), dtype=torch.int64),
    )
