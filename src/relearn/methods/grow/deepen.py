"""Net2DeeperNet: put layers in that hand on what they get, so that the function is kept.

Net2Net, arXiv 1511.05641, section 3.2, puts identity layers after idempotent activations. Where we
differ: zero-gated residual blocks are the default, because they keep the function in training mode
and after any activation; batch norm of identity layers is calibrated on data.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from relearn.data.randomness import seed_of
from relearn.errors import near_miss
from relearn.methods.grow.faults import DeepenError, UnknownGroupError
from relearn.methods.grow.inserted import (
    activation_of,
    calibrate,
    identity_layer,
    norm_of,
    residual_block,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relearn.methods.grow.labels import Output
    from relearn.methods.grow.spec import DepthSpec, GrowthSpec

_LISTS = (nn.Sequential, nn.ModuleList)


def places_for(
    model: nn.Module, outputs: Mapping[str, Output], spec: GrowthSpec
) -> tuple[dict[str, Any], ...]:
    """Return where layers will be put in: one record for each place.

    Args:
        model: The teacher.
        outputs: What each of its modules handed out, as wide as the student.
        spec: What was asked for.

    Raises:
        UnknownGroupError: A path is no module.
        DeepenError: No layer at this place keeps the function.
    """
    found = []
    for wanted in spec.depth:
        for place, path in _paths(model, wanted):
            found.append(_entry(model, outputs, (wanted, place, path)))
    return tuple(found)


def _paths(model: nn.Module, wanted: DepthSpec) -> list[tuple[str, str]]:
    names = [name for name, _ in model.named_modules() if name]
    if wanted.place != "auto":
        if wanted.path not in names:
            raise UnknownGroupError(
                f"depth.path: no module is called {wanted.path!r},"
                f"{near_miss(wanted.path, names)} expected a module's name such as {names[0]!r}",
                group=wanted.path,
                operation="deepen",
            )
        return [(wanted.place, wanted.path)]
    stages = [name for name, module in model.named_modules() if _is_stage(module)]
    if not stages:
        raise DeepenError(
            "depth.place: auto found no stage (a list of equal blocks); name a module with "
            "depth.path",
            operation="deepen",
        )
    return [("append", name) for name in stages]


def _is_stage(module: nn.Module) -> bool:
    """Whether a module is a list of equal blocks, and no list of such lists."""
    children = list(module.children())
    same = len(children) > 1 and len({type(c) for c in children}) == 1
    blocks = same and next(children[0].children(), None) is not None
    return type(module) in _LISTS and blocks and not any(_is_stage(c) for c in children)


def _entry(
    model: nn.Module, outputs: Mapping[str, Output], task: tuple[DepthSpec, str, str]
) -> dict[str, Any]:
    """Return the record of one place.

    Raises:
        DeepenError: No layer at this place keeps the function.
    """
    wanted, place, path = task
    last = _last(model, outputs, (place, path))
    output = outputs.get(last)
    if output is None or len(output.shape) < 2:
        raise DeepenError(
            f"depth.path: {last} hands out no single activation in the forward pass, so no layer "
            "can follow it",
            group=path,
            operation="deepen",
        )
    if place == "after" and output.calls > 1:
        raise DeepenError(
            f"depth.path: {path} runs {output.calls} times in one forward pass, so a layer behind "
            "it would be shared; name a module that runs once",
            group=path,
            operation="deepen",
        )
    if wanted.kind == "identity" and activation_of(output.made_by) is None:
        name = output.made_by[0] if output.made_by else "something unknown"
        raise DeepenError(
            f"depth.path: {last} ends in {name}, which is not idempotent (f(f(x)) = f(x)): an "
            "identity layer behind it would change the function; use kind: residual",
            group=path,
            operation=name,
        )
    return {
        "place": place,
        "path": path,
        "kind": wanted.kind,
        "layers": wanted.layers,
        "kernel": wanted.kernel,
        "norm": wanted.norm,
        "channels": output.shape[output.axis],
        "ndim": len(output.shape),
        "axis": output.axis,
        "positions": _positions(output),
        "made_by": list(output.made_by) if output.made_by else None,
    }


def _last(model: nn.Module, outputs: Mapping[str, Output], where: tuple[str, str]) -> str:
    """Return the module whose output new layers take.

    Raises:
        DeepenError: What is to be appended to is no container of modules.
    """
    place, path = where
    if place == "after":
        return path
    module = model.get_submodule(path)
    if not isinstance(module, _LISTS) or len(module) == 0:
        raise DeepenError(
            f"depth.path: {path} is {type(module).__name__}, only a Sequential or ModuleList "
            "can be appended to; use place: after",
            group=path,
            operation="deepen",
        )
    return path if path in outputs else f"{path}.{list(module._modules)[-1]}"


def _positions(output: Output) -> int:
    """Return how many positions of one example each channel has."""
    rest = [n for d, n in enumerate(output.shape) if d not in {0, output.axis}]
    return int(torch.Size(rest).numel())


def added_cost(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Return parameters and floating-point operations for one example that an entry adds.

    Args:
        entry: From ``places_for``.
    """
    make = identity_layer if entry["kind"] == "identity" else residual_block
    with torch.device("meta"):
        layer = make(entry, torch.float32)
    parameters = sum(p.numel() for p in layer.parameters())
    matrices = sum(p.numel() for p in layer.parameters() if p.ndim > 1)
    return parameters * entry["layers"], 2 * matrices * entry["positions"] * entry["layers"]


def put_in(
    student: nn.Module, entries: tuple[Mapping[str, Any], ...], *, seed: int
) -> tuple[dict[str, Any], ...]:
    """Put layers into a network, in place; batch norm of identity layers as its entry tells.

    Args:
        student: The widened copy of the teacher.
        entries: From ``places_for``, or from ``calibrate_layers``: where they hold no calibration
            it is still to be done.
        seed: Of the new layers' weights.

    Returns:
        The entries with ``renamed`` (module's name before to its name now) and ``added``.
    """
    kind = next((p.dtype for p in student.parameters()), torch.float32)
    done: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        path = entry["path"]
        for earlier in done:
            path = _renamed(path, earlier["renamed"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, f"grow.depth.{number}"))
            make = identity_layer if entry["kind"] == "identity" else residual_block
            new = [make(entry, kind) for _ in range(entry["layers"])]
        for layer, told in zip(new, entry.get("calibrated", ()), strict=False):
            settle(norm_of(layer), told)
        module = student.get_submodule(path)
        for layer in new:
            layer.train(module.training)
        renamed: dict[str, str] = {}
        if entry["place"] == "append":
            added = [f"{path}.{name}" for name in _appended(module, new)]
        else:
            _replace(student, path, nn.Sequential(module, *new).train(module.training))
            renamed = {path: f"{path}.0"}
            added = [f"{path}.{1 + i}" for i in range(len(new))]
        done.append({**entry, "renamed": renamed, "added": added})
    return tuple(done)


def _appended(module: nn.Module, layers: Sequence[nn.Module]) -> list[str]:
    """Put layers behind a container's own, in place, and return their names in it."""
    free = (str(n) for n in count(len(module._modules)) if str(n) not in module._modules)
    names = [next(free) for _ in layers]
    for name, layer in zip(names, layers, strict=True):
        module.register_module(name, layer)
    return names


def _renamed(path: str, renamed: Mapping[str, str]) -> str:
    for before, after in renamed.items():
        if path == before or path.startswith(f"{before}."):
            return after + path[len(before) :]
    return path


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent).register_module(name, module)


def calibrate_layers(
    student: nn.Module, entries: tuple[Mapping[str, Any], ...], calibration: Tensor | None
) -> tuple[dict[str, Any], ...]:
    """Set the batch norm of identity layers to the identity, in place, first layers first.

    Args:
        student: The network with its layers put in.
        entries: From ``put_in``.
        calibration: Inputs as the network takes them.

    Returns:
        The entries with ``calibrated``: one record for each batch norm, from which ``put_in`` makes
        it again.

    Raises:
        DeepenError: There are such layers and no inputs.
    """
    wanted = [
        name
        for entry in entries
        if entry["kind"] == "identity" and entry["norm"]
        for name in entry["added"]
    ]
    if wanted and calibration is None:
        raise DeepenError(
            f"{wanted[0]}: an identity layer with batch norm needs calibration inputs; hand some "
            "over, or use norm: false or kind: residual",
            group=wanted[0],
            operation="deepen",
        )
    modes = {module: module.training for module in student.modules()}
    student.eval()
    told: dict[str, dict[str, Any]] = {}
    for name in wanted:

        def settled(norm: nn.Module, given: Any, name: str = name) -> None:
            told[name] = calibrate(norm, given[0])

        hook = norm_of(student.get_submodule(name)).register_forward_pre_hook(settled)
        with torch.no_grad():
            student(calibration)
        hook.remove()
    for module, mode in modes.items():
        module.training = mode
    return tuple(
        {**entry, "calibrated": [told[n] for n in entry["added"] if n in told]} for entry in entries
    )
