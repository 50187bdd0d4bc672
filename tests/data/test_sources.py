import gzip
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from relearn.data.archive import ReadLimits
from relearn.data.decode import ImageShape
from relearn.data.manifest import LICENCES
from relearn.data.raw import RawImages
from relearn.data.sources import GlyphSet, from_raw, read_images
from relearn.errors import DataError, ParameterError


def read(source, cache, path=None, size=0, channels=0, download=False):
    return read_images(
        source,
        path=path,
        download=download,
        cache=cache,
        shape=ImageShape(size, channels),
        limits=ReadLimits(),
        glyphs=GlyphSet(6, 4, 0),
    )


def test_an_unknown_source_names_the_near_miss(tmp_path):
    with pytest.raises(ParameterError, match=r"data\.source: 'omniglott'.*did you mean omniglot"):
        read("omniglott", tmp_path)


def test_glyphs_have_sorted_names_and_the_wanted_shape(tmp_path):
    images, manifest = read("glyphs", tmp_path, size=16, channels=3)
    assert images.images.shape == (24, 3, 16, 16)
    assert list(images.class_names) == sorted(images.class_names)
    assert (manifest.source, manifest.licence) == ("glyphs", LICENCES["glyphs"])
    assert read("glyphs", tmp_path)[0].images.shape == (24, 1, 28, 28)


def test_digits_are_real_handwriting_over_the_whole_range(tmp_path):
    images, manifest = read("digits", tmp_path)
    assert images.images.shape == (1797, 1, 8, 8)
    assert (int(images.images.min()), int(images.images.max())) == (0, 255)
    assert images.class_names == tuple("0123456789")
    assert torch.bincount(images.labels).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]  # counts of the UCI test set, in its documentation
    assert manifest.files == 1797
    assert read("digits", tmp_path, size=12, channels=3)[0].images.shape == (1797, 3, 12, 12)


def test_class_numbers_are_those_of_sorted_names(tmp_path):
    pictures = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((4, 4), dtype=np.uint8)
    raw = RawImages(pictures, np.array([0, 1, 2]), ("zoo", "bar", "Foo"), np.zeros(3, np.int64))
    images, _ = from_raw(raw, ImageShape(), "here")
    assert images.class_names == ("Foo", "bar", "zoo")
    assert [images.class_names[label] for label in images.labels] == ["zoo", "bar", "Foo"]


def idx(array):
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes()


def write_idx(folder, zipped=False):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 20)):
        pictures = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            data = gzip.compress(idx(array)) if zipped else idx(array)
            file = folder / f"{prefix}-{name}-ubyte{'.gz' if zipped else ''}"
            file.write_bytes(data)


@pytest.mark.parametrize("below", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read_from_idx_files(tmp_path, below, zipped):
    write_idx(tmp_path / "root" / below, zipped)
    images, _ = read("mnist", tmp_path, path=tmp_path / "root")
    assert images.images.shape == (50, 1, 28, 28)
    assert images.part_names == ("train", "test")
    assert torch.bincount(images.part).tolist() == [30, 20]
    assert images.labels.tolist() == [*(i % 10 for i in range(30)), *(i % 10 for i in range(20))]


def test_fashion_mnist_is_never_read_from_the_files_of_mnist(tmp_path):
    write_idx(tmp_path / "root/MNIST/raw")
    with pytest.raises(DataError, match="holds no image"):
        read("fashion_mnist", tmp_path, path=tmp_path / "root")


def test_fashion_classes_are_renumbered_by_name(tmp_path):
    write_idx(tmp_path / "root/FashionMNIST/raw")
    images, _ = read("fashion_mnist", tmp_path, path=tmp_path / "root")
    assert images.class_names[:2] == ("Ankle boot", "Bag")
    assert images.labels[:2].tolist() == [8, 9]  # T-shirt/top and Trouser come late


def test_damaged_idx_files_are_refused(tmp_path):
    write_idx(tmp_path / "raw", zipped=True)
    labels = tmp_path / "raw/train-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()
    for damaged in (whole[:20], gzip.compress(gzip.decompress(whole)[:-3]), gzip.compress(b"x")):
        labels.write_bytes(damaged)
        with pytest.raises(DataError, match=r"data\.source_path: .*train-labels.*get it again"):
            read("mnist", tmp_path, path=tmp_path)
    labels.write_bytes(gzip.compress(idx(np.zeros(7, dtype=np.uint8))))
    with pytest.raises(DataError, match="do not belong together"):
        read("mnist", tmp_path, path=tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match=r"has no train-labels-idx1-ubyte.*data\.download=true"):
        read("mnist", tmp_path, path=tmp_path)


def test_a_named_set_is_read_from_own_class_folders(folder, files, tmp_path):
    some = files(["L.c1", "M.c2"], 3, "background/") | files(["N.c3"], 3, "evaluation/")
    images, manifest = read("omniglot", tmp_path, path=folder(some))
    assert images.part_names == ("background", "evaluation")
    assert (manifest.source, manifest.licence) == ("omniglot", LICENCES["omniglot"])


@pytest.mark.parametrize("source", ["omniglot", "mnist", "cifar10", "cifar100", "svhn"])
def test_a_set_that_is_not_here_says_what_to_do(source, tmp_path):
    with pytest.raises(DataError, match=rf"{source} is not.*data\.download=true.*source_path"):
        read(source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_own_images_need_a_path(tmp_path):
    with pytest.raises(DataError, match=r"data\.source_path: is empty.*--params data\.source_path"):
        read("image_folder", tmp_path)


class FakeCifar:
    """Stands where torchvision's class does: refuses until it was asked to download."""

    here = False
    classes = ("frog", "ant")

    def __init__(self, root, *, train, download):
        if download:
            FakeCifar.here = True
        if not FakeCifar.here:
            raise RuntimeError("Dataset not found or corrupted")
        count = 6 if train else 4
        self.data = np.full((count, 32, 32, 3), 200 if train else 100, dtype=np.uint8)
        self.targets = [i % 2 for i in range(count)]


@pytest.fixture
def fake_torchvision(monkeypatch):
    FakeCifar.here = False
    datasets = types.SimpleNamespace(CIFAR10=FakeCifar)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=datasets))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    return datasets


def test_a_set_is_fetched_only_when_that_is_allowed(fake_torchvision, tmp_path):
    with pytest.raises(DataError, match="cifar10 is not"):
        read("cifar10", tmp_path)
    images, _ = read("cifar10", tmp_path, download=True)
    assert images.class_names == ("ant", "frog")
    assert images.labels.tolist() == [1, 0] * 5  # the first label on file, 0, is the frog
    assert images.part.tolist() == [0] * 6 + [1] * 4
    assert images.images.shape == (10, 3, 32, 32)
    assert torch.equal(read("cifar10", tmp_path)[0].images, images.images)  # here from now on


def test_svhn_pictures_stand_upright(fake_torchvision, tmp_path):
    class FakeSvhn:
        def __init__(self, root, *, split, download):
            self.data = np.zeros((2, 3, 32, 32), dtype=np.uint8)
            self.data[:, 0, 5, 9] = 255  # red, row 5, column 9
            self.labels = np.array([3, 7])

    fake_torchvision.SVHN = FakeSvhn
    images, _ = read("svhn", tmp_path)
    assert images.images[0, :, 5, 9].tolist() == [255, 0, 0]
    assert images.labels.tolist() == [3, 7, 3, 7]


def test_a_failed_download_says_so(fake_torchvision, tmp_path):
    def broken(root, *, train, download):
        raise OSError("connection refused")

    fake_torchvision.CIFAR10 = broken
    with pytest.raises(DataError, match=r"cifar10 could not be fetched \(connection refused\)"):
        read("cifar10", tmp_path, download=True)


def test_omniglot_as_torchvision_unpacks_it(monkeypatch, tmp_path, one_png):
    root = tmp_path / "downloads/omniglot-py"
    for name in ("images_evaluation/Zulu/character01", "images_background/Latin/character02"):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(one_png(3))
    (root / "images_background.zip").write_bytes(b"")
    datasets = types.SimpleNamespace(Omniglot=lambda root, background, download: None)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=datasets))
    images, _ = read("omniglot", tmp_path)
    assert images.class_names == ("Latin.character02", "Zulu.character01")
    assert images.part_names == ("background", "evaluation")
    assert images.part.tolist() == [0, 1]


def test_one_resampling_everywhere(tmp_path, folder):
    """A digit read as an array and as a PNG is the same picture at any size."""
    digits, _ = read("digits", tmp_path)
    path = tmp_path / "images"
    for name in "ab":
        (path / name).mkdir(parents=True)
    Image.fromarray(digits.images[0, 0].numpy()).save(path / "a/0.png")
    Image.fromarray(digits.images[1, 0].numpy()).save(path / "b/0.png")
    as_files, _ = read("image_folder", tmp_path, path=path, size=20)
    as_arrays, _ = read("digits", tmp_path, size=20)
    assert torch.equal(as_files.images, as_arrays.images[:2])


def test_embedded_sources_need_no_torchvision():
    code = "import relearn.data.sources, sys; print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
