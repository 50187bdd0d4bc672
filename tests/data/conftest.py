"""Small class folders, made on the fly."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image


def png(level, size=(8, 8), mode="L"):
    """A picture no two levels of which are alike."""
    pixels = np.full((size[1], size[0]), 255, dtype=np.uint8)
    pixels[2 : 2 + 4, 2:6] = level
    pixels[0, 0] = (level * 7) % 256
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "PNG")
    return out.getvalue()


def class_files(classes=("a", "b", "c"), count=4, prefix=""):
    names = [f"{prefix}{name}/{i:02d}.png" for name in classes for i in range(count)]
    return {name: png(i % 256) for i, name in enumerate(names)}


def write_folder(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def folder(tmp_path):
    """Make a folder of images from ``{name: bytes}``."""
    return lambda files: write_folder(tmp_path / "images", files)


@pytest.fixture
def archive(tmp_path):
    """Make a zip of images from ``{name: bytes}``."""
    return lambda files: write_zip(tmp_path / "images.zip", files)


@pytest.fixture
def files():
    """``{name: bytes}`` of class folders: ``files(classes, count, prefix)``."""
    return class_files


@pytest.fixture
def one_png():
    """``one_png(level, size, mode)``: bytes of one picture."""
    return png
