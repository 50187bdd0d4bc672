"""The results of all methods in one mapping, those of the present run before earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relearn.reports.config import METHODS


def gather(so_far: Mapping[str, Any] | None, present: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``<method>_<name>`` to table or document; methods never run have empty tables.

    Args:
        so_far: What any method left; None = nothing.
        present: What is an entry of its own; it stands in place of the same name in ``so_far``.
    """
    import pandas as pd

    never = {f"{m}_{name}": pd.DataFrame() for m in METHODS for name in ("records", "costs")}
    return {**never, **(so_far or {}), **present}
