"""A small classification problem that a small net can learn in a few steps."""

import pytest
import torch

from relearn.data.images import Split
from relearn.models.checkpoint import Architecture
from relearn.training.config import TrainConfig

TRAIN = {
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 0.003,
    "weight_decay": 0.0,
    "momentum": 0.9,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "shift_pixels": 1,
    "flip": False,
    "label_smoothing": 0.1,
    "max_gradient_norm": 0.0,
}


@pytest.fixture
def train_config():
    """Return a function that makes settings of training: the above, with changes."""
    return lambda **changes: TrainConfig.model_validate(TRAIN | changes)


@pytest.fixture
def architecture():
    return Architecture("convnet3", 1, 24, 4, {"width": 4}, (0.5,), (0.25,))


@pytest.fixture
def split():
    """Four classes, each a bright corner in noise; 41 images, so that the last batch is short."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (41, 1, 24, 24), generator=draw, dtype=torch.uint8)
    labels = torch.arange(41) % 4
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 12 * row : 12 * row + 12, 12 * column : 12 * column + 12] += 120
    return Split(images, labels)
