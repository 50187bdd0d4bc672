"""Modules to and from the files of huggingface PEFT: adapter_config.json and a safetensors file.

A snapshot becomes one adapter. PEFT knows no learnt weights between modules and gives a fused qkv
one A and one B; so omega and s are folded into B, all modules stand below each other as one of
higher rank, and q, k, v stand in B as diagonal blocks. PEFT then adds the very products that
``AdaptedLinear`` composes.

An adapter that PEFT has trained becomes a finished task with one module a matrix.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from relearn.atomic import write_text, written_atomically
from relearn.errors import CheckpointError, ParameterError
from relearn.methods.lora_ipc.modules import Snapshot
from relearn.methods.lora_ipc.state import backbone_digest
from relearn.methods.lora_ipc.task_rules import check_planned, check_snapshot, refuse_open

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.lora_ipc.adapters import Adapters
    from relearn.methods.lora_ipc.lora import AdaptedLinear
    from relearn.methods.lora_ipc.modules import AdaptedMatrix

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The two files of an adapter."""

_PREFIX = "base_model.model."
_PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "fan_in_fan_out": False,
    "lora_bias": False,
}


def export_peft(adapters: Adapters, folder: Path, task: int | None = None) -> None:
    """Write the model after a task as one PEFT adapter with the last layer beside it.

    Args:
        adapters: Between tasks.
        folder: Gets the two files.
        task: Number of a finished task; None is the last.

    Raises:
        TrainingError: A task has begun and not ended.
        ParameterError: The task has not been learnt, or no task has.
        OSError: The folder cannot be written.
    """
    refuse_open(adapters.open_classes is not None)
    chosen = adapters.tasks - 1 if task is None else task
    check_snapshot([chosen], adapters.tasks)
    if chosen < 0:
        raise ParameterError("lora_ipc.task: the backbone alone has no modules; export a task")
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for layer in adapters.layers:
        name = layer.parts[0].place.layer
        a, b = _packed(layer, Snapshot(chosen))
        if len(a):
            ranks[name] = len(a)
            tensors |= {f"{_PREFIX}{name}.lora_A.weight": a, f"{_PREFIX}{name}.lora_B.weight": b}
    for name, tensor in adapters.heads[chosen].items():
        tensors[f"{_PREFIX}{adapters.head_name}.{name}"] = tensor
    told = {"format": "pt", "backbone": backbone_digest(adapters.model, adapters.head_name)}
    kept = {k: t.detach().to("cpu", copy=True).contiguous() for k, t in tensors.items()}
    with written_atomically(folder / WEIGHTS) as temporary:
        save_file(kept, temporary, metadata=told)
    write_text(folder / CONFIG, json.dumps(_config(ranks, adapters.head_name), indent=2) + "\n")


def import_peft(adapters: Adapters, folder: Path, classes: Sequence[int], *, seed: int) -> int:
    """Take a PEFT adapter in as a finished task and return the task's number.

    Args:
        adapters: Between tasks.
        folder: With the two files.
        classes: Classes of the task, as for ``Adapters.begin_task``.
        seed: As for ``Adapters.begin_task``; nothing that is drawn stays.

    Raises:
        CheckpointError: A file is missing or damaged, the adapter is no plain LoRA, or it was made
            for another backbone.
        ParameterError: It changes a frozen matrix or one that has no modules here, its rank does
            not fit beside the other modules, or the classes are refused.
        TrainingError: A task has begun and not ended.
    """
    refuse_open(adapters.open_classes is not None)
    check_planned(adapters.tasks, adapters.settings.planned_tasks)
    config, tensors = _read(adapters, folder)
    pairs = _pairs(config, tensors, folder)
    layers = {layer.parts[0].place.layer: layer for layer in adapters.layers}
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, pair in pairs.items():
        factors |= _unpacked(layers.get(name), name, pair, folder)
    for name, (a, _) in factors.items():
        _refuse_matrix(adapters, name, int(a.shape[1]))
    head = _head_of(adapters, tensors, folder)
    adapters.begin_task(classes, seed=seed)
    for name, matrix in adapters.matrices.items():
        matrix.discard()
        if name in factors:
            a, b = factors[name]
            matrix.open((a, b / matrix.scale), trains_omega=False)
    if head:
        adapters.set_head(head)
    return adapters.finish_task()


def _config(ranks: Mapping[str, int], head: str) -> dict[str, Any]:
    """Return PEFT's configuration, with alpha = rank everywhere, so that it scales nothing."""
    return {
        **{name: value for name, value in _PLAIN.items() if name != "lora_bias"},
        "r": max(ranks.values(), default=1),
        "lora_alpha": max(ranks.values(), default=1),
        "rank_pattern": dict(ranks),
        "alpha_pattern": dict(ranks),
        "target_modules": list(ranks),
        "modules_to_save": [head],
        "lora_dropout": 0.0,
        "inference_mode": True,
        "init_lora_weights": True,
        "task_type": None,
    }


def _packed(layer: AdaptedLinear, snapshot: Snapshot) -> tuple[Tensor, Tensor]:
    """Return A (columns, d_in) and B (out_features, columns) of a whole layer."""
    found = [matrix.factors(snapshot) for matrix in layer.parts]
    whole = torch.cat([a for a, _, _ in found], 1).T
    blocks = layer.base_weight.detach().new_zeros(layer.out_features, len(whole))
    start = 0
    for matrix, (_, b, weights) in zip(layer.parts, found, strict=True):
        first, last = matrix.place.rows
        blocks[first:last, start : start + len(b)] = (b * weights.unsqueeze(1)).T
        start += len(b)
    return whole, blocks


def _read(adapters: Adapters, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        line = str(error).splitlines()[0][:120]
        raise CheckpointError(
            f"{folder}: no adapter of PEFT ({line}); expected {CONFIG} and {WEIGHTS}"
        ) from error
    for name, plain in _PLAIN.items():
        if config.get(name, plain) not in (plain, None):
            raise CheckpointError(
                f"{folder}: {CONFIG} has {name}: {config[name]!r}, expected {plain!r}; only plain "
                "LoRA can be taken in"
            )
    stored = told.get("backbone")
    if stored and stored != backbone_digest(adapters.model, adapters.head_name):
        raise CheckpointError(
            f"{folder}: made for another backbone (digest {stored[:12]}); use the checkpoint that "
            "it was exported with"
        )
    return config, tensors


def _pairs(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return for each layer A (d_in, rank) and B (rank, out_features) with PEFT's scale in B."""
    found = {}
    for key, a in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        b = tensors.get(key.replace(".lora_A.", ".lora_B."))
        if b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise CheckpointError(f"{folder}: the factors of {name} do not fit each other")
        alpha = config.get("alpha_pattern", {}).get(name, config["lora_alpha"])
        rank = a.shape[0]
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        found[name] = (a.T, b.T * scale)
    if not found:
        raise CheckpointError(f"{folder}: {WEIGHTS} holds no factors lora_A and lora_B")
    return found


def _unpacked(
    layer: AdaptedLinear | None, name: str, pair: tuple[Tensor, Tensor], folder: Path
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the factors of each matrix of a layer, without the columns that do nothing to it."""
    a, b = pair
    if layer is None:
        raise CheckpointError(
            f"{folder}: has factors for {name}, which is no layer with modules here; the adapter "
            "is for another backbone, or lora_ipc.lora.kinds leaves this matrix out"
        )
    if (a.shape[0], b.shape[1]) != (layer.in_features, layer.out_features):
        raise CheckpointError(
            f"{folder}: {name} has ({b.shape[1]}, {a.shape[0]}), expected "
            f"({layer.out_features}, {layer.in_features}); the adapter is for another backbone"
        )
    found, rest = {}, b.clone()
    for matrix in layer.parts:
        first, last = matrix.place.rows
        rest[:, first:last] = 0
        used = b[:, first:last].abs().amax(1) > 0
        if bool(used.any()):
            found[matrix.place.name] = (a[:, used], b[used, first:last])
    if bool(rest.any()):
        raise ParameterError(
            f"lora_ipc.lora.kinds: the adapter changes a matrix of {name} without modules here; "
            "add its kind"
        )
    return found


def _refuse_matrix(adapters: Adapters, name: str, rank: int) -> None:
    matrix: AdaptedMatrix = adapters.matrices[name]
    if matrix.frozen_after is not None:
        raise ParameterError(
            f"lora_ipc.peft: the adapter changes {name}, which is frozen since task "
            f"{matrix.frozen_after + 1}; roll back before it, or take the adapter in elsewhere"
        )
    left = adapters.settings.planned_tasks - adapters.tasks - 1
    needed = sum(matrix.ranks) + rank + left * adapters.settings.rank
    if needed > matrix.place.in_features:
        raise ParameterError(
            f"lora_ipc.lora.rank: with the adapter's rank {rank}, {name} would need {needed} "
            f"orthogonal columns of d_in = {matrix.place.in_features}; plan fewer tasks"
        )


def _head_of(
    adapters: Adapters, tensors: Mapping[str, Tensor], folder: Path
) -> dict[str, Tensor] | None:
    """Return the last layer of the file; None where it has none."""
    own = adapters.head.state_dict()
    found = {k: tensors.get(f"{_PREFIX}{adapters.head_name}.{k}") for k in own}
    if all(tensor is None for tensor in found.values()):
        return None
    whole = {k: tensor for k, tensor in found.items() if tensor is not None}
    if {k: t.shape for k, t in whole.items()} != {k: t.shape for k, t in own.items()}:
        raise CheckpointError(
            f"{folder}: its last layer does not fit {adapters.head_name!r} with "
            f"{adapters.head.out_features} outputs; extend or cut the last layer first"
        )
    return whole
