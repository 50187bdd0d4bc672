"""What is trained from task to task: a module each task, one module for all, or the whole net.

All three are asked the same: begin a task, say what is trained, end the task, give the state to
keep. What differs is left to them, so that the stream is told once (``run.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from relearn.methods.lora_ipc.adapters import Adapters
from relearn.methods.lora_ipc.matrices import find_matrices
from relearn.methods.lora_ipc.state import restore_state, state_of

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.attachment import Settings


class Body(Protocol):
    """What the stream asks of anything that learns.

    Attributes:
        net: Gives a logit for each output.
        head_name: Name of its last layer.
    """

    net: nn.Module
    head_name: str

    def begin(self, classes: Sequence[int], *, seed: int) -> None:
        """Begin a task."""
        ...

    def trained(self) -> list[nn.Parameter]:
        """Return what is trained at the full rate, last layer included."""
        ...

    def omegas(self) -> list[nn.Parameter]:
        """Return what is trained at a rate of its own."""
        ...

    def end(self, freeze: Collection[str] = ()) -> None:
        """End the task."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the effective weights of all matrices."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that has been learnt."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned."""
        ...


class TaskwiseBody:
    """A module each task, composed with those of earlier tasks.

    Args:
        net: The backbone with the last layer of the stream, changed in place.
        settings: Of the modules.
    """

    def __init__(self, net: nn.Module, settings: Settings) -> None:
        self.adapters = Adapters(net, settings)
        self.net, self.head_name = net, self.adapters.head_name

    def begin(self, classes: Sequence[int], *, seed: int) -> None:
        """Give every matrix that is not frozen a fresh module.

        Args:
            classes: Labels of the task.
            seed: Seed of the pair.
        """
        self.adapters.begin_task(classes, seed=seed)

    def trained(self) -> list[nn.Parameter]:
        """Return the factors of the present task and the last layer."""
        return [*self.adapters.factors(), *self.adapters.head.parameters()]

    def omegas(self) -> list[nn.Parameter]:
        """Return the weights of earlier modules."""
        return self.adapters.omegas()

    def end(self, freeze: Collection[str] = ()) -> None:
        """Put the task's modules to the earlier ones.

        Args:
            freeze: Names of matrices that keep every bit from now on.
        """
        self.adapters.finish_task(freeze)

    def weights(self) -> dict[str, Tensor]:
        """Return the composed weights."""
        return _composed(self.adapters)

    def state(self) -> dict[str, Any]:
        """Return factors, omega, last layers and what is frozen."""
        tensors, header = state_of(self.adapters)
        return {"tensors": tensors, "header": header}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: Of the same backbone.

        Raises:
            CheckpointError: It is of another backbone.
        """
        from relearn.methods.lora_ipc.merging import detach

        net = detach(self.adapters)
        told = dict(state["header"])
        # room is a matter of the present parameters, which more tasks may have been planned in
        planned = max(self.adapters.settings.planned_tasks, len(told["classes"]))
        told["settings"] = {**told["settings"], "planned_tasks": planned}
        self.adapters = restore_state(net, state["tensors"], told, where="lora_ipc resume point")
        self.net = net


class SharedBody:
    """One module that every task trains on.

    Args:
        net: The backbone with the last layer of the stream, changed in place.
        settings: Of the module; one task is planned.
        outputs: All labels of the stream.
        seed: Seed of the pair.
    """

    def __init__(
        self, net: nn.Module, settings: Settings, *, outputs: Sequence[int], seed: int
    ) -> None:
        self.adapters = Adapters(net, settings)
        self.net, self.head_name = net, self.adapters.head_name
        self.adapters.begin_task(outputs, seed=seed)

    def begin(self, classes: Sequence[int], *, seed: int) -> None:
        """Go on with the module there is.

        Args:
            classes: Labels of the task.
            seed: Seed of the pair.
        """

    def trained(self) -> list[nn.Parameter]:
        """Return the factors and the last layer."""
        return [*self.adapters.factors(), *self.adapters.head.parameters()]

    def omegas(self) -> list[nn.Parameter]:
        """Return nothing: there are no earlier modules."""
        return []

    def end(self, freeze: Collection[str] = ()) -> None:
        """Leave everything as it is.

        Args:
            freeze: Not used: nothing is frozen.
        """

    def weights(self) -> dict[str, Tensor]:
        """Return the weights as they are now."""
        return _composed(self.adapters)

    def state(self) -> dict[str, Any]:
        """Return the factors and the last layer."""
        trained = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        return {name: p.detach().to("cpu", copy=True) for name, p in trained.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: By name of the parameter.
        """
        named = dict(self.net.named_parameters())
        for name, value in state.items():
            _take(named[name], value)


class FullBody:
    """The whole net.

    Args:
        net: The backbone with the last layer of the stream.
        head_name: Name of its last layer.
        kinds: Kinds of matrices whose drift is told.
    """

    def __init__(self, net: nn.Module, head_name: str, kinds: Sequence[str]) -> None:
        self.net, self.head_name = net.requires_grad_(True), head_name
        self._places = find_matrices(net, kinds)

    def begin(self, classes: Sequence[int], *, seed: int) -> None:
        """Go on with the net as it is.

        Args:
            classes: Labels of the task.
            seed: Seed of the pair.
        """

    def trained(self) -> list[nn.Parameter]:
        """Return all weights."""
        return list(self.net.parameters())

    def omegas(self) -> list[nn.Parameter]:
        """Return nothing."""
        return []

    def end(self, freeze: Collection[str] = ()) -> None:
        """Leave everything as it is.

        Args:
            freeze: Not used: nothing is frozen.
        """

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the weights of its matrices."""
        found = {}
        for place in self._places:
            first, last = place.rows
            weight = self.net.get_submodule(place.layer).get_parameter("weight")
            found[place.name] = weight.detach()[first:last].clone()
        return found

    def state(self) -> dict[str, Any]:
        """Return all weights."""
        return {k: t.detach().to("cpu", copy=True) for k, t in self.net.state_dict().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: All weights by name.
        """
        for name, tensor in self.net.state_dict().items():
            _take(tensor, state[name])


@torch.no_grad()
def _take(tensor: Tensor, stored: Tensor) -> None:
    """Write what was stored; rows of the last layer that have come since then stay fresh."""
    if stored.shape == tensor.shape:
        tensor.copy_(stored)
    else:
        tensor[: len(stored)].copy_(stored)


def _composed(adapters: Adapters) -> dict[str, Tensor]:
    found = {}
    for layer in adapters.layers:
        whole = layer.weight.detach()
        for matrix in layer.parts:
            first, last = matrix.place.rows
            found[matrix.place.name] = whole[first:last].clone()
    return found
