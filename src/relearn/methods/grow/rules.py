"""Which operation is followed by which rule. What is not listed here freezes what it touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relearn.methods.grow import (
    channel_rules,
    layer_rules,
    move_rules,
    operations,
    product_rules,
    value_rules,
)
from relearn.methods.grow.operations import DECISIONS, SILENT

Rule = Callable[[Any, Any, Any], Any]


RULES: dict[str, Rule] = {
    **dict.fromkeys(operations.ELEMENTWISE, value_rules.elementwise),
    **dict.fromkeys(operations.REDUCTIONS, channel_rules.reduction),
    **dict.fromkeys(operations.ALONG, channel_rules.along),
    **dict.fromkeys(operations.SPATIAL, channel_rules.spatial),
    **dict.fromkeys(operations.MOVES, move_rules.move),
    **dict.fromkeys(operations.KEEPS, move_rules.keep),
    **dict.fromkeys(operations.JOINS, move_rules.join),
    **layer_rules.RULES,
    **channel_rules.RULES,
    **product_rules.RULES,
}

_ARITHMETIC = {
    "truediv": "div",
    "floordiv": "floor_divide",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "invert": "bitwise_not",
    "mod": "remainder",
}
_MIRRORED = {"add", "sub", "mul", "truediv", "pow", "floordiv", "matmul", "and", "or", "xor", "mod"}
_KEPT = {"__getitem__", "__setitem__"}


def operation_name(func: Any) -> str:
    """Return the plain name of a torch function: ``add`` for ``Tensor.__iadd__`` and ``add_``."""
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        return f"get {func.__self__.__name__}"
    if name in SILENT or name in DECISIONS or name in _KEPT:
        return name
    if name.startswith("__") and name.endswith("__"):
        plain = name.strip("_")
        if plain[:1] in {"i", "r"} and plain[1:] in _MIRRORED:
            plain = plain[1:]
        return _ARITHMETIC.get(plain, plain)
    return name.strip("_") if name not in RULES else name
