"""Faults a user can mend: each prints as one line that names a parameter or file and the remedy.

Standard library only, so that every floor may import it. The hook turns any of these into a
one-line message without a traceback and a non-zero exit.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RelearnError(Exception):
    """A fault the user can mend; ``str(error)`` is the one line that is shown."""


class ParameterError(RelearnError):
    """A parameter has an unusable value; the message names it as it stands in YAML."""


class DataError(RelearnError):
    """Images, folders or archives cannot be used as they are."""


class CheckpointError(RelearnError):
    """A checkpoint file is damaged, of another architecture, or too young to be exported."""


class HeadNotFoundError(RelearnError):
    """No last layer was found by itself, or none bears the given name."""


class TrainingError(RelearnError):
    """Training cannot go on: NaN loss, or a device that is not there."""


class StaleInputError(RelearnError):
    """A stage file was made from other parameters than the present ones."""


class EvidenceError(RelearnError):
    """Records cannot be compared: seeds without a partner, missing arms, duplicates, NaN."""


class TrackingError(RelearnError):
    """The MLflow address cannot be reached or refuses."""


class LockedError(RelearnError):
    """Another living process holds the unit."""


def near_miss(word: str, options: Iterable[str]) -> str:
    """Return `` did you mean x?`` for the option closest to ``word``, or an empty string.

    Args:
        word: What the user wrote.
        options: What would have been accepted.
    """
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f" did you mean {close[0]}?" if close else ""


def one_of(parameter: str, got: str, options: Iterable[str]) -> ParameterError:
    """Return the error for a name that is not among the known ones.

    Args:
        parameter: The parameter as it stands in YAML, such as ``data.source``.
        got: The value it has.
        options: The values it may have.
    """
    known = sorted(options)
    return ParameterError(
        f"{parameter}: {got!r} is not known,{near_miss(got, known)} "
        f"expected one of {', '.join(known)}"
    )
