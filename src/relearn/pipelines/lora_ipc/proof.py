"""The proof of the ledger: every frozen matrix kept every bit, and all arms saw one order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.models.checkpoint import Checkpoint


_OF_THEIR_OWN = ("joint", "rehearsal")
"""Arms that see all classes at once, or stored images too: their order cannot be that of others."""


def verify_units(base: Checkpoint, units: Sequence[tuple[str, int, Path]]) -> dict[str, Any]:
    """Verify every row of the ledgers on the modules themselves, and the order of each seed.

    Args:
        base: The backbone.
        units: Arm, seed and folder of each arm; the training lies one folder above.

    Returns:
        As for ``reading.check_ledger``.
    """
    from relearn.arm_store import interventions_of, load_rows
    from relearn.methods.lora_ipc.freezing import verify
    from relearn.methods.lora_ipc.ledger import verify_frozen
    from relearn.methods.lora_ipc.operate import adapters_of
    from relearn.pipelines.lora_ipc.training_store import load_trained
    from relearn.provenance import digest

    none = digest([])  # of a training that takes no step
    failed: list[str] = []
    orders: dict[int, set[str]] = {}
    count = 0
    for arm, seed, folder in units:
        rows = load_rows(folder)
        if rows["order_digest"] != none and not any(word in arm for word in _OF_THEIR_OWN):
            orders.setdefault(seed, set()).add(rows["order_digest"])
        entries = interventions_of(rows)
        count += len(entries)
        if not entries:
            continue
        trained = load_trained(folder.parent)
        adapters = adapters_of(base, trained)
        failed += [
            f"{arm} seed {seed}: {entry.kind} of {entry.target}"
            for entry in entries
            if not (verify(entry, trained.shape) and verify_frozen(entry, adapters))
        ]
    return {
        "rows": count,
        "verified": count - len(failed),
        "failed": failed,
        "orders_equal": all(len(found) == 1 for found in orders.values()),
    }
