"""All finished tasks in one safetensors file, to which a task can be added months later.

The file holds the factors, the bank of omega, the last layer (after each task the rows that it has
changed) and a JSON header with the digest of the backbone; it holds no weight of the backbone and
nothing that can run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from relearn.atomic import written_atomically
from relearn.errors import CheckpointError
from relearn.methods.lora_ipc.adapters import Adapters
from relearn.methods.lora_ipc.attachment import Settings
from relearn.methods.lora_ipc.task_rules import refuse_open
from relearn.provenance import digest, digest_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from relearn.methods.lora_ipc.modules import AdaptedMatrix

FORMAT = "relearn-1/lora_ipc"
"""What the header says the file is."""


def backbone_digest(model: nn.Module, head_name: str) -> str:
    """Return the digest over all weights of a net but its last layer, with or without modules.

    Args:
        model: The net.
        head_name: Name of its last layer.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        own = _plain_name(name)
        if own and not own.startswith(f"{head_name}."):
            plain[own] = tensor
    return digest_tensors(plain)


def state_of(adapters: Adapters) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of all finished tasks, copies on the CPU.

    Args:
        adapters: Between tasks.

    Raises:
        TrainingError: A task has begun and not ended.
    """
    refuse_open(adapters.open_classes is not None)
    tensors: dict[str, Tensor] = {}
    matrices: dict[str, Any] = {}
    for name, matrix in adapters.matrices.items():
        tensors |= {f"{name}.a": matrix.history_a, f"{name}.b": matrix.history_b}
        tensors[f"{name}.omega"] = torch.cat(matrix.bank) if matrix.bank else torch.zeros(0)
        frozen = matrix.frozen_after
        matrices[name] = {"tasks": matrix.tasks, "ranks": matrix.ranks, "frozen_after": frozen}
    tensors |= _stored_heads(adapters)
    tensors = {k: t.detach().to("cpu", copy=True).contiguous() for k, t in tensors.items()}
    header = {
        "format": FORMAT,
        "settings": asdict(adapters.settings),
        "head": adapters.head_name,
        "classes": [list(classes) for classes in adapters.classes],
        "matrices": matrices,
        "backbone": backbone_digest(adapters.model, adapters.head_name),
    }
    plain: dict[str, Any] = json.loads(json.dumps(header))
    return tensors, plain


def state_digest(adapters: Adapters) -> str:
    """Return the digest over everything that has been learnt, and the backbone it belongs to.

    Args:
        adapters: Between tasks.

    Raises:
        TrainingError: A task has begun and not ended.
    """
    tensors, header = state_of(adapters)
    return _digest(tensors, header)


def save_state(adapters: Adapters, path: Path) -> None:
    """Write all finished tasks so that ``path`` is either whole or as it was.

    Args:
        adapters: Between tasks.
        path: A file, usually ``*.safetensors``; its folder is made.

    Raises:
        TrainingError: A task has begun and not ended.
        OSError: The folder cannot be written, or the disk is full.
    """
    tensors, header = state_of(adapters)
    text = json.dumps(header | {"digest": _digest(tensors, header)}, sort_keys=True)
    with written_atomically(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"head": text})
        except SafetensorError as error:  # this is how it reports a full disk
            raise OSError(f"{path}: could not be written ({error})") from error


def load_state(model: nn.Module, path: Path) -> Adapters:
    """Give a net the modules of a file; it answers as after the last task in it.

    Args:
        model: The backbone that they were made on, changed in place only if the file fits.
        path: A file that ``save_state`` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, not ours, or made on another backbone.
        ParameterError: The net lacks the matrices that the file has modules for.
    """
    tensors, header = _read(path)
    return restore_state(model, tensors, header, where=str(path))


def restore_state(
    model: nn.Module, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, where: str
) -> Adapters:
    """Give a net the modules that ``state_of`` returned; it answers as after the last task.

    Args:
        model: The backbone that they were made on, changed in place only if they fit.
        tensors: By name.
        header: What goes with them.
        where: File or other place that they come from, for error messages.

    Raises:
        CheckpointError: They were made on another backbone.
        ParameterError: The net lacks the matrices that there are modules for.
    """
    found = backbone_digest(model, header["head"])
    if found != header["backbone"]:
        raise CheckpointError(
            f"{where}: its modules were made on another backbone (digest "
            f"{header['backbone'][:12]}, this one has {found[:12]}); load the checkpoint that the "
            "stream began with"
        )
    kinds = tuple(header["settings"]["kinds"])
    adapters = Adapters(model, Settings(**{**header["settings"], "kinds": kinds}), header["head"])
    adapters.classes = [tuple(classes) for classes in header["classes"]]
    for name, matrix in adapters.matrices.items():
        _fill(matrix, header["matrices"][name], tensors, adapters.tasks)
    names = list(adapters.first_head)
    all_heads: list[dict[str, Tensor]] = []
    for number in range(adapters.tasks + 1):
        before = all_heads[-1] if all_heads else {}
        all_heads.append({name: _stored_head(tensors, before, number, name) for name in names})
    adapters.first_head, adapters.heads = all_heads[0], list(all_heads[1:])
    adapters.use(adapters.tasks - 1)
    return adapters


def stored_bytes(adapters: Adapters) -> dict[str, int]:
    """Return the bytes of all finished tasks: ``factors``, ``omegas`` and ``heads``.

    Args:
        adapters: Their modules.
    """
    matrices = adapters.matrices.values()
    first = sum(map(_bytes, adapters.first_head.values()))
    return {
        "factors": sum(_bytes(m.history_a) + _bytes(m.history_b) for m in matrices),
        "omegas": sum(_bytes(row) for m in matrices for row in m.bank),
        "heads": sum(map(_bytes, _stored_heads(adapters).values())) - first,
    }


def _stored_heads(adapters: Adapters) -> dict[str, Tensor]:
    """Return the last layers: the first one whole, of later ones the rows that have changed."""
    stored: dict[str, Tensor] = {}
    before: Mapping[str, Tensor] = {}
    for number, head in enumerate([adapters.first_head, *adapters.heads]):
        for name, tensor in head.items():
            stored |= _head_tensors(tensor, before.get(name), number=number, name=name)
        before = head
    return stored


def _head_tensors(
    tensor: Tensor, before: Tensor | None, *, number: int, name: str
) -> dict[str, Tensor]:
    """Return what is stored of one tensor of a last layer: the rows in which a bit has changed."""
    if before is None or before.shape != tensor.shape or before.dtype != tensor.dtype:
        return {f"head.{number}.{name}": tensor}
    rows = [each.detach().cpu().reshape(len(each), -1) for each in (before, tensor)]
    old, new = (each.contiguous().view(torch.uint8) for each in rows)  # bits: -0.0 is not 0.0
    changed = (old != new).any(1).nonzero().flatten()
    place = f"head_rows.{number}.{name}"
    return {
        f"{place}.rows": changed,
        f"{place}.values": rows[1][changed].reshape(-1, *tensor.shape[1:]),
    }


def _stored_head(
    tensors: Mapping[str, Tensor], before: Mapping[str, Tensor], number: int, name: str
) -> Tensor:
    """Return one tensor of a last layer: stored whole, or the one before with rows put in."""
    place = f"head_rows.{number}.{name}"
    if f"{place}.rows" not in tensors:
        return tensors[f"head.{number}.{name}"]
    whole = before[name].clone()
    whole[tensors[f"{place}.rows"]] = tensors[f"{place}.values"]
    return whole


def _fill(
    matrix: AdaptedMatrix, told: Mapping[str, Any], tensors: Mapping[str, Tensor], tasks: int
) -> None:
    name = matrix.place.name
    factors = tensors[f"{name}.a"], tensors[f"{name}.b"]
    matrix.history_a, matrix.history_b = (each.to(matrix.history_a) for each in factors)
    matrix.tasks, matrix.ranks = list(told["tasks"]), list(told["ranks"])
    lengths = [sum(own <= task for own in matrix.tasks) for task in range(tasks)]
    matrix.bank = [row.clone() for row in tensors[f"{name}.omega"].split(lengths)] if tasks else []
    matrix.frozen_after = told["frozen_after"]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of modules")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("head", "{}"))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        line = str(error).splitlines()[0][:120]
        raise CheckpointError(f"{path}: truncated or damaged ({line}); restore it") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: holds no modules of lora_ipc; for an adapter of another program use the PEFT "
            "import"
        )
    stored = header.pop("digest", "")
    if _digest(tensors, header) != stored:
        raise CheckpointError(f"{path}: damaged (its digest is not the one it says); restore it")
    return tensors, header


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    return digest({"header": dict(header), "tensors": digest_tensors(tensors)})


def _plain_name(name: str) -> str:
    """Return a tensor's name in the net without modules; empty for what the modules add."""
    path, _, last = name.rpartition(".")
    if ".matrices." in f".{path}.":
        return ""
    return f"{path}.weight" if last == "base_weight" else name


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
