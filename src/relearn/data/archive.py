"""The image files of a folder or zip archive: listed, checked, and read without unpacking.

An archive is only ever read entry by entry into memory, so nothing it names can land elsewhere; one
that tries (absolute or ``..`` paths, links), is encrypted or unpacks to too much is refused whole.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relearn.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_BOMB_FROM_BYTES = 1_000_000  # below this a blank bitmap may well pack 1000 to 1


@dataclass(frozen=True)
class ReadLimits:
    """What is refused while reading; fields as in ``data.limits``.

    Attributes:
        refused_share: Share of unreadable images up to which they are skipped.
        decode_workers: Decoding threads; 0 = one for each core.
        max_pixels: Pixels of one image above which it is a bomb.
        max_total_bytes: Bytes of all entries unpacked, or all images decoded.
        max_ratio: Unpacked over packed size of one entry above which it is a bomb.
    """

    refused_share: float = 0.0
    decode_workers: int = 0
    max_pixels: int = 50_000_000
    max_total_bytes: int = 8_000_000_000
    max_ratio: float = 200.0


@dataclass(frozen=True)
class ImageFiles:
    """The image files of one folder or archive.

    Attributes:
        origin: The folder or archive as the user gave it.
        names: Sorted names with ``/`` between folders.
        read: Gives the bytes of a name; may be called from several threads.
        ignored: Why (hidden, not_an_image) to how many files were passed over.
    """

    origin: str
    names: Sequence[str]
    read: Callable[[str], bytes]
    ignored: Mapping[str, int]


@contextmanager
def open_files(path: Path, limits: ReadLimits) -> Iterator[ImageFiles]:
    """Give the image files of a folder or zip archive while the block runs.

    Args:
        path: Folder or archive.
        limits: What an archive may hold.

    Raises:
        DataError: Nothing is there, it is neither, holds no image, or is not safe to read.
    """
    if not path.exists():
        raise DataError(f"data.source_path: {path} does not exist; give a folder or zip of images")
    if path.is_dir():
        yield _checked(_folder_files(path))
        return
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"data.source_path: {path} is neither a folder nor a zip archive; "
            "unpack it, or pack the folder as .zip"
        )
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as fault:
        raise DataError(
            f"data.source_path: {path} is a damaged zip archive ({fault}); get it again"
        ) from fault
    with archive:
        yield _checked(_archive_files(path, archive, limits))


def _checked(files: ImageFiles) -> ImageFiles:
    if not files.names:
        seen = sum(files.ignored.values())
        raise DataError(
            f"data.source_path: {files.origin} holds no image among {seen} files "
            f"(known are {', '.join(IMAGE_SUFFIXES)}); expected <class>/<image> or "
            "<split>/<class>/<image>"
        )
    return files


def _why_ignored(name: str) -> str:
    """Return why a file is passed over, or an empty string for an image."""
    parts = name.split("/")
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return "hidden"
    return "" if name.lower().endswith(IMAGE_SUFFIXES) else "not_an_image"


def _sift(names: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    reasons = [_why_ignored(name) for name in names]
    kept = sorted(name for name, why in zip(names, reasons, strict=True) if not why)
    return kept, dict(sorted(Counter(why for why in reasons if why).items()))


def _folder_files(folder: Path) -> ImageFiles:
    """Walk a folder, following links (it is the user's own) but never twice into one folder."""
    names: list[str] = []
    entered: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()  # so that of two links to one folder always the same one is entered
        names += [(Path(here) / file).relative_to(folder).as_posix() for file in files]
    kept, ignored = _sift(names)
    return ImageFiles(str(folder), kept, lambda name: (folder / name).read_bytes(), ignored)


def _archive_files(path: Path, archive: zipfile.ZipFile, limits: ReadLimits) -> ImageFiles:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    named: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        _require_safe(path, entry, name, limits)
        if name in named:
            raise DataError(f"data.source_path: {path} holds {name!r} twice; pack it again")
        named[name] = entry
    _require_fits(path, sum(entry.file_size for entry in entries), limits)
    kept, ignored = _sift(list(named))
    # a bounded read: an entry that unpacks to more than it declares ends in a checksum error
    return ImageFiles(str(path), kept, lambda name: archive.read(named[name]), ignored)


def _require_safe(path: Path, entry: zipfile.ZipInfo, name: str, limits: ReadLimits) -> None:
    parts = name.split("/")
    ratio = entry.file_size / max(1, entry.compress_size)
    reasons = {
        "leads out of the archive": name.startswith("/") or ".." in parts or ":" in parts[0],
        "is a link": stat.S_ISLNK(entry.external_attr >> 16),
        "is encrypted": bool(entry.flag_bits & 0x1),
        f"unpacks to {ratio:.0f} times its size (data.limits.max_ratio: {limits.max_ratio:g})": (
            ratio > limits.max_ratio and entry.file_size > _BOMB_FROM_BYTES
        ),
    }
    for reason, found in reasons.items():
        if found:
            raise DataError(
                f"data.source_path: {path} is refused, its entry {entry.filename!r} {reason}; "
                "unpack it where it is safe and give the folder"
            )


def _require_fits(path: Path, total: int, limits: ReadLimits) -> None:
    if total > limits.max_total_bytes:
        raise DataError(
            f"data.limits.max_total_bytes: {path} unpacks to {total} bytes, "
            f"allowed are {limits.max_total_bytes}; raise it if you trust the archive"
        )
