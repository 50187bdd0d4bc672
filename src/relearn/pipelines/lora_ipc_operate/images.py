"""Images of a further task: read from a folder, and those that test kept beside the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import written_atomically
from relearn.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from relearn.data.config import DataConfig
    from relearn.data.images import LabelledImages, Split
    from relearn.models.checkpoint import Architecture

TESTS = "tests.safetensors"


def read_images(architecture: Architecture, path: str, data: DataConfig) -> LabelledImages:
    """Return the images of new classes in the shape of the net; one class is enough.

    Args:
        architecture: Size and channels of its images.
        path: Folder or archive with one folder for each class.
        data: How images become square, and what is refused.

    Raises:
        DataError: The folder cannot be used.
    """
    from relearn.data.archive import ReadLimits
    from relearn.data.decode import ImageShape
    from relearn.data.image_folder import read_image_folder

    channels: Any = architecture.in_channels
    shape = ImageShape(size=architecture.image_size, channels=channels, fit=data.image.fit)
    limits = ReadLimits(**data.limits.model_dump())
    place = Path(path).expanduser()
    try:
        images, _ = read_image_folder(place, shape=shape, limits=limits, least_classes=1)
    except DataError as error:
        # the reader names the parameter by which it is usually told where to read
        line = str(error).replace("data.source_path", "lora_ipc_operate.source_path")
        raise DataError(line) from error
    return images


def keep_tests(folder: Path, tests: Sequence[Split | None]) -> None:
    """Write the test images of every task beside a model, so that it can be judged without data.

    Args:
        folder: Of the model.
        tests: For each task its images; None has none.

    Raises:
        OSError: The folder cannot be written.
    """
    from safetensors.torch import save_file

    there = {number: split for number, split in enumerate(tests) if split is not None}
    tensors = {f"{n}.images": split.images.contiguous() for n, split in there.items()}
    tensors |= {f"{n}.labels": split.labels.contiguous() for n, split in there.items()}
    with written_atomically(folder / TESTS) as temporary:
        save_file(tensors, temporary)


def kept_tests(folder: Path) -> dict[int, Split]:
    """Return the number of each task to the test images beside a model; empty without such a file.

    Args:
        folder: Of the model.

    Raises:
        CheckpointError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from relearn.data.images import Split

    if not (folder / TESTS).is_file():
        return {}
    try:
        tensors = load_file(folder / TESTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / TESTS}: cannot be read; restore it") from error
    numbers = sorted({int(name.partition(".")[0]) for name in tensors})
    return {n: Split(tensors[f"{n}.images"], tensors[f"{n}.labels"]) for n in numbers}
