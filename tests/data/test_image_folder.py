import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relearn.data.archive import ReadLimits
from relearn.data.decode import ImageShape
from relearn.data.image_folder import find_classes, read_image_folder
from relearn.errors import DataError


def read(path, size=0, channels=0, **limits):
    return read_image_folder(path, shape=ImageShape(size, channels), limits=ReadLimits(**limits))


def test_class_numbers_follow_sorted_names_and_images_sorted_files(folder, files):
    images, manifest = read(folder(files(["zebra", "ant", "Mole"], 3)))
    assert images.class_names == ("Mole", "ant", "zebra")
    assert images.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert images.images[:, 0, 3, 3].tolist() == [6, 7, 8, 3, 4, 5, 0, 1, 2]
    assert images.part_names == ("all",)
    assert (manifest.files, manifest.refused) == (9, 0)


def test_a_zip_and_its_folder_are_the_same_data(folder, archive, files):
    some = files(prefix="wrapped/train/") | files(["a", "d"], 2, "wrapped/val/")
    (one, first), (two, second) = read(folder(some)), read(archive(some))
    assert one.digest == two.digest
    assert one.class_names == two.class_names == ("a", "b", "c", "d")
    assert first.checksum == second.checksum


def test_the_checksum_changes_with_content_and_not_with_dates(folder, files, one_png):
    some = files()
    path = folder(some)
    before = read(path)[1].checksum
    os.utime(path / "a/00.png", (1, 1))
    assert read(path)[1].checksum == before
    (path / "a/00.png").write_bytes(one_png(99))
    assert read(path)[1].checksum != before


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/1.png", "b/1.png"], [("all", "a"), ("all", "b")]),
        (["top/a/1.png", "top/b/1.png"], [("all", "a"), ("all", "b")]),
        (["x/y/a/1.png", "x/y/b/1.png"], [("all", "a"), ("all", "b")]),
        (["Train/a/1.png", "test/a/1.png"], [("train", "a"), ("test", "a")]),
        (["t/val/a/1.png", "t/val/b/1.png"], [("val", "a"), ("val", "b")]),
        (
            ["o/images_background/L/c1/1.png", "o/images_evaluation/M/c1/1.png"],
            [("background", "L.c1"), ("evaluation", "M.c1")],
        ),
        (["test/1.png", "train/1.png"], [("all", "test"), ("all", "train")]),
        (["train/a/1.png", "other/a/1.png"], [("all", "train.a"), ("all", "other.a")]),
        (["train/a/1.png", "train/b/1.png", "test/9.png"], [("train", "a"), ("train", "b")]),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)
def test_splits_and_classes_are_found_by_folder(names, expected):
    places, homeless = find_classes(names)
    assert [(place.part, place.label) for place in places] == expected
    assert homeless == len(names) - len(expected)


@given(
    st.lists(st.sampled_from(["a", "b", "c/d", "c/e"]), min_size=1, max_size=6),
    st.sampled_from(["", "top/", "top/deeper/"]),
)
def test_wrapping_folders_change_nothing_unless_they_are_the_class(classes, wrap):
    plain = [f"{name}/{i}.png" for i, name in enumerate(["z", *classes])]
    bare, _ = find_classes(plain)
    wrapped, _ = find_classes([wrap + name for name in plain])
    assert [p.label for p in bare] == [p.label for p in wrapped]


def test_two_folders_with_one_class_name_are_refused():
    with pytest.raises(DataError, match=r"a/b and a\.b give one class name"):
        find_classes(["a/b/1.png", "a.b/1.png", "c/1.png"])


def test_grey_images_join_colour_ones(folder, one_png):
    images, _ = read(folder({"a/1.png": one_png(1), "b/1.png": one_png(2, mode="RGB")}))
    assert images.images.shape == (2, 3, 8, 8)
    grey, _ = read(folder({}), channels=1)
    assert torch.equal(grey.images[:, 0], images.images[:, 1])


def test_images_of_any_size_are_brought_to_one(folder, one_png):
    some = {"a/1.png": one_png(1, (8, 20)), "b/1.png": one_png(2, (31, 9))}
    assert read(folder(some), size=6)[0].images.shape == (2, 1, 6, 6)


def test_sizes_that_differ_need_a_size(folder, one_png):
    with pytest.raises(DataError, match=r"data\.image\.size: 0 keeps.*8x8, 9x9; set a size"):
        read(folder({"a/1.png": one_png(1), "b/1.png": one_png(2, (9, 9))}))
    with pytest.raises(DataError, match=r"data\.image\.size.*8x12"):
        read(folder({"a/1.png": one_png(1, (8, 12)), "b/1.png": one_png(2, (8, 12))}))


def test_other_files_are_ignored_and_counted(folder, files):
    noise = {
        "a/.hidden.png": b"",
        ".git/a.png": b"",
        "__MACOSX/a/._00.png": b"",
        "a/.DS_Store": b"",
        "classes.json": b"{}",
        "a/notes.txt": b"",
        "loose.png": b"",
    }
    images, manifest = read(folder(files() | noise))
    assert len(images.labels) == 12
    assert manifest.ignored == {"hidden": 4, "not_an_image": 2, "without_class_folder": 1}


def test_damaged_images_are_listed_and_skipped_up_to_the_share(folder, files):
    some = files(count=10)
    some["a/03.png"] = some["a/03.png"][:40]  # truncated
    some["b/00.png"] = b"not an image"
    some["c/09.png"] = b""
    images, manifest = read(folder(some), refused_share=0.1)
    assert [one.file for one in images.refused] == ["a/03.png", "b/00.png", "c/09.png"]
    assert all(one.reason for one in images.refused)
    assert (len(images.labels), manifest.refused, manifest.files) == (27, 3, 30)
    with pytest.raises(
        DataError, match=r"data\.limits\.refused_share: 3 of 30.*10\.0%, allowed are 9\.0%.*a/03"
    ):
        read(folder({}), refused_share=0.09)


def test_a_class_whose_images_are_all_refused_is_no_class(folder, one_png):
    some = {"a/1.png": one_png(1), "b/1.png": b"broken"}
    with pytest.raises(DataError, match=r"one class \(a\)"):
        read(folder(some), refused_share=0.5)


def test_linked_classes_are_read_and_loops_end(folder, files, tmp_path):
    path = folder(files(["a", "b"]))
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (path / "a/00.png").rename(outside / "00.png")
    (path / "linked").symlink_to(outside)
    (path / "b/back").symlink_to(path)
    images, _ = read(path)
    assert images.class_names == ("a", "b", "linked")
    assert len(images.labels) == 8


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ({"readme.txt": b""}, "holds no image among 1 files"),
        ({"1.png": b"x", "2.png": b"x"}, "has no class folder"),
        ({"a/1.png": b"x"}, r"has one class \(a\)"),
        ({"train/a/1.png": b"x"}, r"has one class \(a\)"),
    ],
)
def test_folders_without_two_classes_are_refused(folder, some, message):
    with pytest.raises(DataError, match=f"data.source_path: .*{message}"):
        read(folder(some))


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"data\.source_path: .*nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no image among 0 files"):
        read(tmp_path)
