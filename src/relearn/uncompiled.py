"""Functions that torch keeps out of its compiler, called without the compiler being loaded.

Torch puts a wrapper around some of its methods that loads the compiler at the first call, only to
say that they are not compiled: seconds in every process. Nothing is compiled here, so that the
plain function does the same. See docs/decisions/0022.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

_ANSWER = "__dynamo_disable"


def is_compiler_loaded() -> bool:
    """Tell whether torch's compiler is there already, so that nothing is left to be spared."""
    return "torch._dynamo" in sys.modules


def spare_compiler(function: Callable[..., Any]) -> None:
    """Let a wrapped function of torch call the plain one; a loaded compiler is left as it is.

    Should torch rename its private mark, the wrapper comes back by itself: slower and right.

    Args:
        function: As torch hands it out, wrapped or not.
    """
    plain = inspect.unwrap(function)
    if not is_compiler_loaded() and not hasattr(plain, _ANSWER):
        setattr(plain, _ANSWER, plain)
