import struct
import zipfile

import pytest

from relearn.data.archive import ReadLimits, open_files
from relearn.data.decode import ImageShape
from relearn.data.image_folder import read_image_folder
from relearn.errors import DataError


def names_of(path, **limits):
    with open_files(path, ReadLimits(**limits)) as found:
        return list(found.names)


@pytest.mark.parametrize(
    "name", ["/etc/a/1.png", "../1.png", "a/../../1.png", "C:/a/1.png", "..\\a\\1.png"]
)
def test_paths_that_lead_out_are_refused(archive, files, name, one_png):
    with pytest.raises(DataError, match=r"data\.source_path: .*leads out of the archive"):
        names_of(archive(files() | {name: one_png(1)}))


def test_names_with_two_dots_inside_are_harmless(archive, files, one_png):
    assert "a/1..2.png" in names_of(archive(files() | {"a/1..2.png": one_png(1)}))


def test_links_are_refused(tmp_path):
    path = tmp_path / "linked.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        link = zipfile.ZipInfo("a/1.png")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match=r"'a/1.png' is a link"):
        names_of(path)


def test_encrypted_entries_are_refused(archive, files):
    path = archive(files())
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1  # general purpose bit 0 of the first central entry
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        names_of(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, files):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files().items():
            zipped.writestr(name, data)
        zipped.writestr("a/bomb.bmp", b"\0" * 3_000_000)
    with pytest.raises(DataError, match=r"unpacks to \d+ times .*data\.limits\.max_ratio: 200"):
        names_of(path)
    with pytest.raises(DataError, match=r"data\.limits\.max_total_bytes: .*allowed are 1000000"):
        names_of(path, max_ratio=1e6, max_total_bytes=1_000_000)


def test_an_entry_that_unpacks_to_more_than_it_declares_is_refused(tmp_path, one_png):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            zipped.writestr(name, one_png(1) + b"\0" * 100_000)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 50)  # declared size of the first
    path.write_bytes(data)
    images, _ = read_image_folder(path, shape=ImageShape(), limits=ReadLimits(refused_share=0.5))
    assert [one.file for one in images.refused] == ["a/1.png"]
    assert "CRC" in images.refused[0].reason


def test_one_damaged_entry_is_listed_and_the_others_are_read(archive, files):
    some = files()
    path = archive(some)
    data = path.read_bytes()
    path.write_bytes(data.replace(some["a/00.png"][30:60], b"\1" * 30, 1))
    images, _ = read_image_folder(path, shape=ImageShape(), limits=ReadLimits(refused_share=0.1))
    assert [one.file for one in images.refused] == ["a/00.png"]
    assert len(images.labels) == 11


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(tmp_path, one_png):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for level in (1, 2):
            zipped.writestr("a/1.png", one_png(level))
    with pytest.raises(DataError, match=r"holds 'a/1.png' twice"):
        names_of(path)


def test_files_that_are_no_archive_are_refused(tmp_path, archive, files):
    text = tmp_path / "images.tar"
    text.write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"images\.tar is neither a folder nor a zip archive"):
        names_of(text)
    path = archive(files())
    path.write_bytes(path.read_bytes()[:200])  # a download that was cut short
    with pytest.raises(DataError, match="neither a folder nor a zip archive"):
        names_of(path)
    damaged = bytearray(archive(files()).read_bytes())
    damaged[damaged.index(b"PK\x01\x02") + 1] = 0
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="damaged zip archive"):
        names_of(path)


def test_windows_separators_are_folders(tmp_path, one_png):
    path = tmp_path / "windows.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name in ("a\\1.png", "b\\1.png"):
            zipped.writestr(name, one_png(1))
    assert names_of(path) == ["a/1.png", "b/1.png"]


def test_nothing_is_written_while_reading(archive, files, tmp_path):
    path = archive(files())
    read_image_folder(path, shape=ImageShape(), limits=ReadLimits())
    assert list(tmp_path.iterdir()) == [path]
