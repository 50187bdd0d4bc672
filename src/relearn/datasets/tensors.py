"""Images, streams and checkpoints in safetensors: tensors and JSON, nothing executable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.datasets.files import FileDataset
from relearn.errors import DataError
from relearn.provenance import Provenance

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import LabelledImages, Stream
    from relearn.models.checkpoint import Checkpoint

_FORMAT = "relearn-1"


def _read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the JSON head of ``path``, refusing a file of another kind."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        head = (file.metadata() or {}).get("head", "{}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parsed: dict[str, Any] = json.loads(head)
    if parsed.get("format") != f"{_FORMAT}/{kind}":
        raise DataError(f"{path}: holds {parsed.get('format', 'no header')!r}, expected {kind}")
    return tensors, parsed


def _write_tensors(path: Path, kind: str, tensors: dict[str, Tensor], head: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": f"{_FORMAT}/{kind}", **head}, sort_keys=True)
    save_file(whole, path, metadata={"head": text})


def _check_content(path: Path, stored: str, found: str) -> None:
    if stored != found:
        raise DataError(f"{path}: damaged (digest {found[:12]}, expected {stored[:12]})")


def _provenance_of(head: dict[str, Any]) -> Provenance | None:
    return Provenance(**head["provenance"]) if head.get("provenance") else None


def _plain(provenance: Provenance | None) -> dict[str, Any] | None:
    return json.loads(provenance.to_json()) if provenance else None


class ImagesDataset(FileDataset):
    """``LabelledImages`` as read from a source, with the digest checked on loading."""

    def _read(self, path: Path) -> LabelledImages:
        from relearn.data.images import LabelledImages, Refused

        tensors, head = _read_tensors(path, "images")
        images = LabelledImages(
            **tensors,
            class_names=tuple(head["class_names"]),
            part_names=tuple(head["part_names"]),
            refused=tuple(Refused(**row) for row in head["refused"]),
            provenance=_provenance_of(head),
        )
        _check_content(path, head["digest"], images.digest)
        return images

    def _write(self, data: LabelledImages, path: Path) -> None:
        tensors = {"images": data.images, "labels": data.labels, "part": data.part}
        head = {
            "class_names": list(data.class_names),
            "part_names": list(data.part_names),
            "refused": [{"file": r.file, "reason": r.reason} for r in data.refused],
            "provenance": _plain(data.provenance),
            "digest": data.digest,
        }
        _write_tensors(path, "images", tensors, head)


class StreamDataset(FileDataset):
    """The ``Stream`` that every arm reads, with the digest checked on loading."""

    def _read(self, path: Path) -> Stream:
        from relearn.data.images import Split, Stream

        tensors, head = _read_tensors(path, "stream")
        stream = Stream(
            splits={
                name: Split(tensors[f"{name}.images"], tensors[f"{name}.labels"])
                for name in head["splits"]
            },
            class_names=tuple(head["class_names"]),
            task_of_class=tensors["task_of_class"],
            provenance=_provenance_of(head),
        )
        _check_content(path, head["digest"], stream.digest)
        return stream

    def _write(self, data: Stream, path: Path) -> None:
        tensors = {"task_of_class": data.task_of_class}
        for name, split in data.splits.items():
            tensors[f"{name}.images"] = split.images
            tensors[f"{name}.labels"] = split.labels
        head = {
            "splits": list(data.splits),
            "class_names": list(data.class_names),
            "provenance": _plain(data.provenance),
            "digest": data.digest,
        }
        _write_tensors(path, "stream", tensors, head)


class CheckpointDataset(FileDataset):
    """A ``Checkpoint``: architecture, weights, provenance; the digest is checked on loading."""

    def _read(self, path: Path) -> Checkpoint:
        from relearn.models.checkpoint import load_checkpoint

        return load_checkpoint(path)

    def _write(self, data: Checkpoint, path: Path) -> None:
        from relearn.models.checkpoint import save_checkpoint

        save_checkpoint(data, path)
