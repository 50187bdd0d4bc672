"""Units of work over processes; joblib and Ray are imported nowhere else."""

from relearn.execution.candidates import chosen_row, scores_of
from relearn.execution.code_digest import code_digest
from relearn.execution.units import Outcome, Unit, address_of, map_units, require_all, run_all

__all__ = [
    "Outcome",
    "Unit",
    "address_of",
    "chosen_row",
    "code_digest",
    "map_units",
    "require_all",
    "run_all",
    "scores_of",
]
