"""What can go wrong when a network is grown: each error names the group and the operation."""

from __future__ import annotations

from relearn.errors import RelearnError


class GrowthError(RelearnError):
    """A network cannot be grown as asked; the network itself is as it was.

    Attributes:
        group: Name of the channel group or module, such as ``layer1.0.conv1``; ``the network``
            where no single one is concerned.
        operation: What was being done, such as ``plan``, ``widen`` or ``layer_norm at vit.py:12``.
    """

    def __init__(self, message: str, *, group: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.group = group or "the network"
        self.operation = operation or "plan"


class SpecError(GrowthError):
    """What was asked for has no meaning: a factor below 1, a misspelt name."""


class UnknownGroupError(GrowthError):
    """No channel group or module bears the name that was asked for."""


class FrozenGroupError(GrowthError):
    """The group that was asked for cannot be grown exactly; the message says why."""


class SharedParameterError(FrozenGroupError):
    """A parameter that is used in two ways stands in the way of what was asked for."""


class UntraceableError(GrowthError):
    """The network's forward cannot be followed; the message names the line."""


class DataDependentError(UntraceableError):
    """The network decides by the values of its activations; the message names the line."""


class DeepenError(GrowthError):
    """No layer that keeps the function can be put at this place."""


class ReplayError(GrowthError):
    """A record does not belong to the network it is replayed on."""


class FunctionChangedError(GrowthError):
    """The grown network does not compute the teacher's function.

    Attributes:
        report: The ``VerifyReport``, None when the check did not come to its end.
    """

    def __init__(self, message: str, *, report: object = None, group: str = "") -> None:
        super().__init__(message, group=group, operation="verify")
        self.report = report
