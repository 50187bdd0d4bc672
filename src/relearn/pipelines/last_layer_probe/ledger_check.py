"""The ledger's proof over all units, and the equality of images within a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.models.checkpoint import Checkpoint


def verify_units(units: Sequence[tuple[str, int, Path]], base: Checkpoint) -> dict[str, Any]:
    """Verify every row of the ledgers, and that arms of a seed read the same images.

    Arms under a condition of a study read images of their own.

    Args:
        units: Arm, seed and folder of each unit.
        base: Net whose body some arms used.

    Returns:
        As for ``reading.check_ledger``.
    """
    from relearn.arm_store import CHECKPOINT, interventions_of, load_rows
    from relearn.methods.last_layer_probe.ledger import verify
    from relearn.models.checkpoint import load_checkpoint

    failed: list[str] = []
    orders: dict[tuple[int, str], set[str]] = {}
    count = 0
    for arm, seed, folder in units:
        rows = load_rows(folder)
        entries = interventions_of(rows)
        count += len(entries)
        orders.setdefault((seed, arm.partition(".")[2]), set()).add(rows["order_digest"])
        if not entries:
            continue
        architecture = load_checkpoint(folder / CHECKPOINT).architecture
        failed += [
            f"{arm} seed {seed}: {entry.kind} of {entry.target}"
            for entry in entries
            if not verify(entry, architecture, base=base)
        ]
    return {
        "rows": count,
        "verified": count - len(failed),
        "failed": failed,
        "orders_equal": all(len(found) == 1 for found in orders.values()),
    }
