"""A progress bar that stays away from short runs and from logs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_SECONDS_BEFORE = 3.0
_SECONDS_BETWEEN = 1.0


def progress_bar(
    items: Iterable[Any] | None = None,
    description: str | None = None,
    *,
    total: int | None = None,
    initial: int = 0,
) -> Any:
    """Return tqdm's bar, shown on a terminal only, and only after a few seconds.

    Args:
        items: What is gone through; None for a bar that is moved by ``update``.
        description: Text before the bar; None or empty shows none at all.
        total: Number of items where ``items`` does not tell.
        initial: Items done before.
    """
    from tqdm import tqdm

    return tqdm(
        items,
        desc=description,
        total=total,
        initial=initial,
        delay=_SECONDS_BEFORE,
        mininterval=_SECONDS_BETWEEN,
        leave=False,
        dynamic_ncols=True,
        # None: no bar where standard error is not a terminal
        disable=None if description else True,
    )
