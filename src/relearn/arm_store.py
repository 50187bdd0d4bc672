"""The files of one (arm, seed) unit, and the tables that all units of a method add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import write_text, written_atomically
from relearn.errors import CheckpointError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.evaluation.records import ArmResult, Intervention

CHECKPOINT = "checkpoint.safetensors"
_ROWS = "rows.json"
_TENSORS = "tensors.safetensors"


def save_arm(result: ArmResult, folder: Path) -> Path:
    """Write what an arm gave back and return the path of its checkpoint.

    Args:
        result: Checkpoint, records, costs, ledger, predictions and tensors.
        folder: The unit's own folder; it exists.
    """
    from safetensors.torch import save_file

    from relearn.models.checkpoint import save_checkpoint

    save_checkpoint(result.checkpoint, folder / CHECKPOINT)
    tensors = {f"predictions.{name}": column for name, column in result.predictions.items()}
    tensors |= {f"tensors.{name}": value for name, value in result.tensors.items()}
    with written_atomically(folder / _TENSORS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    rows = {
        "records": [r.as_row() for r in result.records],
        "costs": [r.as_row() for r in result.costs],
        "interventions": [i.as_row() for i in result.interventions],
        "order_digest": result.order_digest,
    }
    write_text(folder / _ROWS, json.dumps(rows))
    return folder / CHECKPOINT


def load_rows(folder: Path) -> dict[str, Any]:
    """Return records, costs, interventions (lists of rows) and the order digest of a unit.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        rows: dict[str, Any] = json.loads((folder / _ROWS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / _ROWS}: cannot be read ({type(error).__name__}); delete the folder "
            "and run the method's pipeline again"
        ) from error
    return rows


def load_tensors(folder: Path) -> dict[str, Any]:
    """Return predictions and other tensors of a unit by name."""
    from safetensors.torch import load_file

    return load_file(folder / _TENSORS)


def interventions_of(rows: Mapping[str, Any]) -> list[Intervention]:
    """Return the ledger of a unit as typed rows.

    Args:
        rows: As from ``load_rows``.
    """
    from relearn.evaluation.records import Intervention

    return [Intervention(**row) for row in rows["interventions"]]


def tables_of(folders: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Return the tables records, costs, interventions and predictions over all units.

    Args:
        folders: One a unit, in the order of the rows.
    """
    import pandas as pd

    read = [load_rows(folder) for folder in folders]
    tables = {
        name: pd.DataFrame([row for rows in read for row in rows[name]])
        for name in ("records", "costs", "interventions")
    }
    ledger = tables["interventions"]
    if len(ledger):
        tables["interventions"] = ledger.assign(details=ledger["details"].map(json.dumps))
    tables["predictions"] = pd.concat(
        [_predictions(folder, rows) for folder, rows in zip(folders, read, strict=True)],
        ignore_index=True,
    )
    return tables


def _predictions(folder: Path, rows: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    columns = {
        name.removeprefix("predictions."): tensor.numpy()
        for name, tensor in load_tensors(folder).items()
        if name.startswith("predictions.")
    }
    first = rows["records"][0]
    frame = pd.DataFrame(columns)
    frame.insert(0, "arm", first["arm"])
    frame.insert(1, "seed", first["seed"])
    return frame.reset_index(names="index")
