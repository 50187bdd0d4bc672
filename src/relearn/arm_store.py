"""The files of one (arm, seed) unit, and the tables that all units of a method add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import write_text, written_atomically
from relearn.errors import CheckpointError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.evaluation.records import ArmResult, Intervention

CHECKPOINT = "checkpoint.safetensors"
SCORE = "score.json"
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
        raise _unreadable(folder / _ROWS, error) from error
    return rows


def save_score(folder: Path, score: float, seconds: float | Mapping[str, float]) -> None:
    """Write what a candidate setting scored on validation images; its unit is then whole.

    Args:
        folder: The unit's own folder.
        score: Higher is better.
        seconds: What took how long, one number or several by name.
    """
    write_text(folder / SCORE, json.dumps({"score": score, "seconds": seconds}))


def load_score(folder: Path) -> tuple[float, Any]:
    """Return score and seconds as ``save_score`` wrote them.

    Args:
        folder: The unit's own folder.
    """
    told = json.loads((folder / SCORE).read_text(encoding="utf-8"))
    return float(told["score"]), told["seconds"]


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: cannot be read ({type(error).__name__}); delete the folder "
        "and run the method's pipeline again"
    )


def load_tensors(folder: Path) -> dict[str, Any]:
    """Return predictions and other tensors of a unit by name.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder / _TENSORS, error) from error


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

    from relearn.evaluation.records import Intervention, Record

    read = [load_rows(folder) for folder in folders]
    kinds = {"records": Record, "costs": Record, "interventions": Intervention}
    # an empty ledger keeps its columns: a table without any could not be read back
    tables = {
        name: pd.DataFrame(
            [row for rows in read for row in rows[name]], columns=[f.name for f in fields(kind)]
        )
        for name, kind in kinds.items()
    }
    ledger = tables["interventions"]
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
    return frame if "index" in frame else frame.reset_index(names="index")
