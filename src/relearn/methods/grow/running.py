"""A network's forward on labels: the network itself is neither changed nor computed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from relearn.methods.grow.execution import Execution, first_line, line_of_error, tensors
from relearn.methods.grow.faults import GrowthError, SpecError, UntraceableError
from relearn.methods.grow.labels import Label, constant
from relearn.methods.grow.recorder import Recorder
from relearn.methods.grow.resting import awake_copy
from relearn.methods.grow.tape import Misfit, Site, Tape

if TYPE_CHECKING:
    from relearn.methods.grow.replayer import Replayer

_FAULT = "the forward cannot be followed"


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter and buffer by name."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tuple(tensor.shape) for name, tensor in named}


def describe_inputs(example: Any) -> dict[str, Any]:
    """Return shapes and types of an example, for JSON.

    Args:
        example: A tensor, a tuple of tensors for several arguments, or a dictionary of tensors for
            arguments by name. Only shapes and types count.

    Raises:
        SpecError: It is none of these.
    """
    if isinstance(example, Tensor):
        return {"args": [_described(example)], "kwargs": {}}
    if isinstance(example, (tuple, list)) and all(isinstance(t, Tensor) for t in example):
        return {"args": [_described(t) for t in example], "kwargs": {}}
    if isinstance(example, Mapping) and all(isinstance(t, Tensor) for t in example.values()):
        return {"args": [], "kwargs": {str(k): _described(t) for k, t in example.items()}}
    raise SpecError(
        f"example_input: got {type(example).__name__}, expected a tensor, a tuple of tensors or a "
        "dictionary of tensors"
    )


def _described(tensor: Tensor) -> list[Any]:
    shape = list(tensor.shape)
    return [shape, str(tensor.dtype).removeprefix("torch.")]


def stand_in(described: Mapping[str, Any]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return zeros of the described shapes, at most two examples of them."""
    size = _batch(described)

    def zeros(entry: list[Any]) -> Tensor:
        shape, kind = entry
        shape = [min(2, size), *shape[1:]] if shape and shape[0] == size else shape
        return torch.zeros(shape, dtype=getattr(torch, kind))

    kwargs = {k: zeros(v) for k, v in described["kwargs"].items()}
    return [zeros(entry) for entry in described["args"]], kwargs


def _batch(described: Mapping[str, Any]) -> int:
    entries = [*described["args"], *described["kwargs"].values()]
    return next((int(shape[0]) for shape, _ in entries if shape), 1)


def examples_in(described: Mapping[str, Any]) -> int:
    """Return how many examples a stand-in holds."""
    return min(2, _batch(described))


def skeleton_of(model: nn.Module, shapes: Mapping[str, tuple[int, ...]] | None = None) -> nn.Module:
    """Return a copy of the modules in evaluation mode that shares all parameters and buffers.

    Args:
        model: The network.
        shapes: New shapes of parameters, which take no memory; others are shared.
    """
    shared: dict[int, Any] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        shape = (shapes or {}).get(name, tuple(tensor.shape))
        if shape == tuple(tensor.shape):
            shared[id(tensor)] = tensor if tensor.device.type == "cpu" else _near(tensor)
        else:
            light = torch.zeros((), dtype=tensor.dtype).expand(shape)
            kept = isinstance(tensor, nn.Parameter)
            shared[id(tensor)] = nn.Parameter(light, requires_grad=False) if kept else light
    return copy.deepcopy(model, shared).eval()


def _near(tensor: Tensor) -> Tensor:
    """Return a tensor of another device on the CPU, where labels run."""
    kept = isinstance(tensor, nn.Parameter)
    return nn.Parameter(tensor.detach().cpu(), requires_grad=False) if kept else tensor.cpu()


def record(model: nn.Module, described: Mapping[str, Any]) -> tuple[Tape, Recorder]:
    """Return what the labels found in one forward of a network.

    Where parameters rest in evaluation mode, as those of auxiliary heads do, a second forward
    follows in training mode, so that they grow with what they read.

    Args:
        model: The network; it is not changed, and its mode is kept.
        described: From ``describe_inputs``.

    Raises:
        UntraceableError: The forward fails or cannot be followed; the message names the line.
        DataDependentError: The network decides by the values of activations.
    """
    _check(model)
    journal = Recorder(shapes_of(model))
    run = _followed(_skeleton(model), (journal, described), _FAULT)
    at_rest = [name for name, _ in model.named_parameters() if name not in run.met]
    if at_rest:
        journal, run = _woken(model, (journal, run), (described, at_rest))
    for name, (site, reason) in run.spoilt.items():
        owned = [ids for (known, _), ids in journal.tape.written.items() if known == name]
        owned += [journal.tape.elements[name]] if name in journal.tape.elements else []
        if not owned:
            journal.tape.unruled[name] = (site, reason)
        for ids in owned:
            journal.tape.freeze(ids, site, f"{name}: {reason}")
    return journal.tape, journal


def _skeleton(model: nn.Module) -> nn.Module:
    try:
        return skeleton_of(model)
    except Exception as error:
        raise UntraceableError(
            f"the network cannot be copied ({first_line(error)}), so it cannot be grown beside the "
            "teacher",
            operation="copy",
        ) from error


def _followed(
    skeleton: nn.Module, task: tuple[Recorder, Mapping[str, Any]], fault: str, remedy: str = ""
) -> Execution:
    """Return one forward on labels.

    Raises:
        UntraceableError: It fails; names the line, what is at fault, the module and the remedy.
    """
    run = Execution(task[0], skeleton)
    try:
        return _forward(run, skeleton, task[1])
    except GrowthError:
        raise
    except Exception as error:
        line = line_of_error(error)
        message = f"{line}: {fault}: {first_line(error)}{remedy}"
        raise UntraceableError(message, group=run.module, operation=line) from error


def _woken(
    model: nn.Module,
    first: tuple[Recorder, Execution],
    task: tuple[Mapping[str, Any], list[str]],
) -> tuple[Recorder, Execution]:
    """Return the same with a second forward, in training mode, if that runs what rests.

    Raises:
        UntraceableError: The forward in training mode fails; names what would not be followed.
    """
    (journal, run), (described, at_rest) = first, task
    journal.tape.trained_from = len(journal.tape.sites)
    part = at_rest[0].rpartition(".")[0] or at_rest[0]
    later = _followed(
        awake_copy(_skeleton(model)),
        (journal, described),
        f"{part} rests in evaluation mode, and the forward of training mode, which is to run it, "
        "cannot be followed",
        "; hand over an example that the network can be trained on, or take the part out",
    )
    run.spoilt = later.spoilt | run.spoilt
    if later.met.isdisjoint(at_rest):
        journal = Recorder(shapes_of(model))
        run = _followed(_skeleton(model), (journal, described), _FAULT)
    nowhere = Site(-1, "forward", "", "the network's forward")
    unmet = (name for name in at_rest if name not in later.met)
    journal.tape.unruled |= {n: (nowhere, "evaluation and training do not run it") for n in unmet}
    return journal, run


def execute(
    skeleton: nn.Module, journal: Recorder | Replayer, described: Mapping[str, Any]
) -> Execution:
    """Run a skeleton's forward on labels; what it hands out is frozen.

    Where the tape says so, a second forward follows, in training mode.

    Args:
        skeleton: From ``skeleton_of``; hooks are put on its modules.
        journal: Notes what the rules find, or replays it on more channels.
        described: From ``describe_inputs``.

    Returns:
        The run, with what each module handed out.
    """
    later = None if journal.tape.trained_from is None else awake_copy(skeleton)
    run = _forward(Execution(journal, skeleton), skeleton, described)
    if later is not None:
        second = _forward(Execution(journal, later), later, described)
        run.spoilt = second.spoilt | run.spoilt
    return run


def _forward(run: Execution, skeleton: nn.Module, described: Mapping[str, Any]) -> Execution:
    journal = run.journal
    for name, module in skeleton.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: run.modules.append(name))
        module.register_forward_hook(lambda _, __, result: run.leave(result))
    args, kwargs = stand_in(described)
    for tensor in tensors(args, kwargs):
        run.mark(tensor, constant(tuple(tensor.shape)))
    result = run.run_model(skeleton, args, kwargs)
    site = journal.begin("output", "", "the network's output")
    found = result if isinstance(result, (Tensor, list, tuple, dict)) else vars(result)
    for tensor in tensors((found,), {}):
        label = run.label(tensor)
        if isinstance(label, Label):
            journal.freeze(site, label.codes, "is handed out as the network's output")
    return run


def _check(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UntraceableError(
                f"{name or 'the network'}: is compiled by TorchScript, whose inside cannot be "
                "followed; build it in Python",
                group=name,
                operation="torch.jit.script",
            )
    for name, parameter in model.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            kind = str(parameter.dtype).removeprefix("torch.")
            raise GrowthError(
                f"{name}: is {kind}; shares of its numbers would round the function away, expected "
                "a float32 or float64 teacher: call .float() first and lower the precision after",
                group=name.rpartition(".")[0],
                operation="widen",
            )
        if parameter.is_meta:
            raise GrowthError(
                f"{name}: is on the meta device and holds no numbers, expected a net with weights",
                group=name.rpartition(".")[0],
                operation="widen",
            )
        if parameter.is_complex():
            raise GrowthError(f"{name}: is complex", group=name, operation="widen")


__all__ = ["Misfit", "describe_inputs", "examples_in", "execute", "record", "skeleton_of"]
