"""The gate: does the student compute the teacher's function, before anything is trained?

Both run in float64 on the same inputs; an exact student differs by the order of summation only. In
the teacher's own precision the student may be off by a few times the teacher's own rounding error.
A padded stream has gains that no float32 number is; there the same growth is done in float64, and
the student must be its rounding. Neither network is changed: copies are run.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.data.randomness import generator_of
from relearn.methods.grow.execution import first_line, line_of_error, tensors
from relearn.methods.grow.faults import FunctionChangedError, UntraceableError
from relearn.methods.grow.locate import first_bad_layer
from relearn.methods.grow.report import LIMIT_FLOAT64, LIMIT_ROUNDING, VerifyReport
from relearn.methods.grow.resting import resting_copy, without_chance
from relearn.methods.grow.widen import in_float64

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.grow.record import GrowthRecord

_LIMIT_SHARES = 1e-12
_FLOOR = 1e-7
"""Part of the largest output that float32 may always be off."""
_DRIFT = 4
"""Examples that are run in training mode."""


def verify(
    teacher: nn.Module,
    student: nn.Module,
    inputs: Any,
    *,
    record: GrowthRecord | None = None,
    limit: float = LIMIT_FLOAT64,
    strict: bool = True,
    train_mode: bool = True,
) -> VerifyReport:
    """Return how far the student is from the teacher's function; neither is changed.

    Args:
        teacher: The network before growing, in any mode.
        student: The grown network, in any mode.
        inputs: What both take, such as images (batch, channels, height, width); a tuple or a
            dictionary of tensors for several arguments. Noise, zeros and ten times the inputs are
            run as well where the inputs are numbers.
        record: Of the growth; adds the proof about shares and helps to name the first bad layer.
        limit: Largest relative float64 difference; a larger one than 1e-12 is a budget for a growth
            that is not exact, and then rounding is told but not judged.
        strict: Whether to refuse a student that is not the same function.
        train_mode: Whether to measure the difference in training mode too, dropout off, on the
            first four examples.

    Raises:
        FunctionChangedError: The student is another function (``strict``), or cannot be run.
        UntraceableError: The teacher itself cannot be run in float64.
    """
    begin = time.perf_counter()
    shown = _as_call(inputs)
    wise = resting_copy(teacher, torch.float64)
    exact = _exact_outputs(wise, _cast(shown, torch.float64))
    grown = in_float64(wise, student, record)
    worst = {"given": _difference(wise, grown, _cast(shown, torch.float64), known=exact)}
    worst |= _differences(wise, grown, _further(shown))
    relative = max(worst.values(), key=lambda v: math.inf if math.isnan(v) else v)
    ratio, single, agreement = _rounding(teacher, student, (shown, exact))
    shares = None if record is None else _share_error(record)
    fits = relative <= limit and (shares is None or shares <= _LIMIT_SHARES)
    passed = fits and (limit > LIMIT_FLOAT64 or ratio <= LIMIT_ROUNDING)
    place = "" if passed else first_bad_layer((wise, grown), _cast(shown, torch.float64), record)
    report = VerifyReport(
        passed=bool(passed),
        relative_float64=relative,
        rounding_ratio=ratio,
        relative_float32=single,
        train_drift=_train_drift(wise, grown, _cast(shown, torch.float64)) if train_mode else None,
        worst_share_error=shares,
        first_bad_layer=place,
        agreement=agreement,
        inputs=_size(shown),
        worst_by_input=worst,
        seconds=time.perf_counter() - begin,
        limit_float64=limit,
    )
    if strict and not passed:
        raise FunctionChangedError(_message(report), report=report, group=place)
    return report


def _message(report: VerifyReport) -> str:
    place = f"; the first layer that is off is {report.first_bad_layer}"
    return (
        f"the student is not the teacher's function: float64 difference "
        f"{report.relative_float64:.1e} of the largest output (at most "
        f"{report.limit_float64:.0e}), float32 {report.rounding_ratio:.1f} times the teacher's own "
        f"rounding (at most {report.limit_rounding:g}){place if report.first_bad_layer else ''}; "
        "nothing was changed"
    )


Call = tuple[tuple[Tensor, ...], dict[str, Tensor]]


def _as_call(inputs: Any) -> Call:
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, dict):
        return (), dict(inputs)
    return tuple(inputs), {}


def _cast(call: Call, kind: torch.dtype) -> Call:
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(kind) if tensor.is_floating_point() else tensor

    return tuple(cast(t) for t in call[0]), {k: cast(v) for k, v in call[1].items()}


def _size(call: Call) -> int:
    first = next(tensors(call[0], call[1]), None)
    return 0 if first is None or first.ndim == 0 else len(first)


def _further(call: Call) -> dict[str, Call]:
    """Return two examples each of noise, zeros and ten times the inputs; none for whole numbers."""
    every = list(tensors(call[0], call[1]))
    if not every or any(not t.is_floating_point() or t.ndim == 0 for t in every):
        return {}
    noise = generator_of(0, "grow.verify")

    def made(change: Any) -> Call:
        return tuple(change(t[:2]) for t in call[0]), {k: change(v[:2]) for k, v in call[1].items()}

    return {
        "noise": made(lambda t: torch.randn(t.shape, generator=noise).to(t)),
        "zeros": made(torch.zeros_like),
        "ten times": made(lambda t: 10 * t),
    }


def _outputs(net: nn.Module, call: Call) -> list[Tensor]:
    with torch.no_grad():
        result = net(*call[0], **call[1])
    plain = result if isinstance(result, (Tensor, tuple, list, dict)) else vars(result)
    return [t for t in tensors((plain,), {}) if t.is_floating_point()]


def _exact_outputs(wise: nn.Module, call: Call) -> list[Tensor]:
    """Return the teacher's outputs in float64.

    Raises:
        UntraceableError: It does not: it makes float32 numbers of its own, or takes other inputs.
    """
    try:
        return _outputs(wise, call)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        line = line_of_error(error)
        raise UntraceableError(
            f"{line}: the teacher cannot be run in float64, in which it is compared "
            f"({first_line(error)}); make tensors with the type of what they meet, as in "
            "x.new_ones",
            operation="verify",
        ) from error


def _difference(
    wise: nn.Module, grown: nn.Module, call: Call, *, known: list[Tensor] | None = None
) -> float:
    """Return max|student - teacher| / max|teacher| over all outputs; infinite where shapes differ.

    Args:
        wise: The teacher.
        grown: The student.
        call: What both take.
        known: The teacher's outputs, where they are at hand.

    Raises:
        FunctionChangedError: The student's forward fails.
    """
    one = _outputs(wise, call) if known is None else known
    return relative(one, _student_outputs(grown, call))


def _student_outputs(grown: nn.Module, call: Call) -> list[Tensor]:
    try:
        return _outputs(grown, call)
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise FunctionChangedError(
            f"the student's forward fails: {type(error).__name__}: {error}; nothing was changed"
        ) from error


def _differences(wise: nn.Module, grown: nn.Module, calls: dict[str, Call]) -> dict[str, float]:
    """Return the difference for each kind of input, found in one batch where both nets allow it.

    A pass over a large net costs as much for its weights as for a few examples. Outputs that do not
    hold one entry per example (a mean over the batch, whole numbers) are made kind by kind.

    Args:
        wise: The teacher, in float64.
        grown: The student, in float64.
        calls: Two examples or fewer of each kind.
    """
    if not calls:
        return {}
    exact = [_cast(call, torch.float64) for call in calls.values()]
    sizes = {len(t) for call in exact for t in tensors(call[0], call[1])}
    together = None if len(sizes) > 1 else _in_one_batch(wise, grown, exact)
    if together is not None:
        return dict(zip(calls, together, strict=True))
    pairs = zip(calls, exact, strict=True)
    return {kind: _difference(wise, grown, call) for kind, call in pairs}


def _in_one_batch(wise: nn.Module, grown: nn.Module, calls: list[Call]) -> list[float] | None:
    """Return the differences call by call; None where a net does not take them as one batch."""
    count = len(next(tensors(*calls[0])))
    args = tuple(torch.cat(parts) for parts in zip(*(c[0] for c in calls), strict=True))
    batch = args, {k: torch.cat([c[1][k] for c in calls]) for k in calls[0][1]}
    try:
        one, other = _outputs(wise, batch), _outputs(grown, batch)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError):
        return None  # a net with a fixed size of batch: its calls are made one by one
    if any(t.ndim == 0 or len(t) != count * len(calls) for t in (*one, *other)):
        return None
    places = [slice(count * k, count * (k + 1)) for k in range(len(calls))]
    return [relative([t[p] for t in one], [t[p] for t in other]) for p in places]


def relative(one: list[Tensor], other: list[Tensor]) -> float:
    """Return the largest difference of outputs, as a part of the teacher's largest number.

    Args:
        one: The teacher's outputs.
        other: The student's, in the same order.
    """
    if [t.shape for t in one] != [t.shape for t in other]:
        return math.inf
    found = [0.0]
    for left, right in zip(one, other, strict=True):
        scale = float(left.abs().max()) if left.numel() else 0.0
        off = float((left - right).abs().max()) if left.numel() else 0.0
        found.append(off / scale if scale else off)
    return math.nan if any(math.isnan(v) for v in found) else max(found)


def _rounding(
    teacher: nn.Module, student: nn.Module, task: tuple[Call, list[Tensor]]
) -> tuple[float, float, float]:
    """Return the student's error over the teacher's own, the plain difference, and agreement."""
    call, exact = task
    single = _cast(call, torch.float32)
    one = _outputs(resting_copy(teacher, torch.float32), single)
    other = _outputs(resting_copy(student, torch.float32), single)
    worst = 0.0
    for true, left, right in zip(exact, one, other, strict=True):
        if not true.numel() or true.shape != right.shape:
            continue
        scale = float(true.abs().max())
        own = float((left.double() - true).abs().max()) + _FLOOR * scale / LIMIT_ROUNDING
        off = float((right.double() - true).abs().max())
        # negated, so that a NaN counts as too far
        worst = worst if own and off / own <= worst else (off / own if own else 0.0)
    same = 1.0
    if one and one[0].ndim == 2 and one[0].shape == other[0].shape:
        same = float((one[0].argmax(1) == other[0].argmax(1)).double().mean())
    return worst, relative(one, other), same


def _share_error(record: GrowthRecord) -> float:
    """Return the largest distance from 1 of a sum of shares, worked out again from the maps."""
    sums = [abs(math.fsum(shares) - 1) for entry in record.maps for shares in entry.shares]
    return max([float(record.certificate.get("worst_share_error", 0.0)), *sums])


def _train_drift(wise: nn.Module, grown: nn.Module, call: Call) -> float | None:
    """Return the difference in training mode with dropout off; None where it cannot be run.

    A few examples tell it, and it is not judged; statistics over fewer than four would be extreme.
    """
    sizes = {len(t) if t.ndim else 0 for t in tensors(call[0], call[1])}
    if len(sizes) == 1 and 0 not in sizes:  # else not all of them hold examples
        few = tuple(t[:_DRIFT] for t in call[0]), {k: v[:_DRIFT] for k, v in call[1].items()}
    else:
        few = call
    try:
        return _difference(without_chance(wise).train(), without_chance(grown).train(), few)
    except (RuntimeError, ValueError, FunctionChangedError):
        return None
