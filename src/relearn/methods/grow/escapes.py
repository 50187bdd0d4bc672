"""Numbers that get away: operations that no rule sees because they run below Python.

A compiled function, or one mapped over examples, computes without a call that can be followed. What
such an operation is given is caught one floor lower, where every operation of torch passes, and is
treated like any unknown operation: it stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from relearn.methods.grow.execution import Execution


class Watch(TorchDispatchMode):
    """Sees the operations that an execution has not seen, and hands them to it.

    Args:
        run: The run of the labels.
    """

    def __init__(self, run: Execution) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = run

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation; what it was given is frozen where channels are among it."""
        with torch._C.DisableTorchFunction():
            result = func(*args, **(kwargs or {}))
            self.run.escaped(str(func), (args, kwargs or {}), result)
        return result


def without(watch: Watch | None, run: Callable[[], Any]) -> Any:
    """Return what a function returns while nobody watches.

    Args:
        watch: The innermost mode, or None where nobody watches.
        run: What to run.
    """
    if watch is None:
        return run()
    watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
    try:
        return run()
    finally:
        watch.__enter__()  # type: ignore[no-untyped-call]
