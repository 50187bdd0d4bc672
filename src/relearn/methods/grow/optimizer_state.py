"""The optimizer's memory goes along: moments of copies are what they would have become.

With shares a, the gradients of student and teacher are tied: dL/dU1[j] = a_j dL/dW1[g(j)] for what
writes a copied unit (weights, biases, batch norm), and dL/dU2[:, j] = dL/dW2[:, g(j)] for what
reads it. So momentum and Adam's first moment carry a_j over to rows, second moments a_j^2, and
columns are gathered. Exact where copies have shares and nothing else (``uneven``, ``none``,
``fresh``) and no layer norm mixes their gradients; else this is the nearest such state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from relearn.methods.grow.faults import GrowthError
from relearn.methods.grow.labels import copies_of, ids_of
from relearn.methods.grow.widen import prepared

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from relearn.methods.grow.record import GrowthRecord
    from relearn.methods.grow.student import Shares
    from relearn.methods.grow.widened import Widened

POWERS = {
    "momentum_buffer": 1,
    "exp_avg": 1,
    "exp_avg_sq": 2,
    "max_exp_avg_sq": 2,
    "square_avg": 2,
    "grad_avg": 1,
    "sum": 2,
}
"""How a state of torch's optimizers follows the gradient: 1 as it, 2 as its square."""


def transfer_optimizer(
    optimizer: Optimizer, student: nn.Module, record: GrowthRecord, *, teacher: nn.Module
) -> Optimizer:
    """Return an optimizer of the same kind and settings for the student, its state carried over.

    Args:
        optimizer: The teacher's, such as SGD with momentum, Adam, AdamW or RMSprop; it is only
            read. Parameters it does not train are not trained in the student either.
        student: The grown network, on its device.
        record: Of the growth.
        teacher: The network that ``optimizer`` trains; parameters are found by identity.

    Returns:
        Layers that were put in begin without a state, in the first group of parameters.

    Raises:
        GrowthError: A parameter is not the teacher's, or a state follows the gradient in a way
            that is not known.
    """
    widened, shares = prepared(teacher, record)
    names = {id(p): n for n, p in teacher.named_parameters()}
    ours = dict(student.named_parameters())
    groups: list[dict[str, Any]] = []
    states: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        found = []
        for parameter in group["params"]:
            name = names.get(id(parameter))
            if name is None:
                raise GrowthError(
                    "the optimizer trains a parameter that is not the teacher's: hand over the "
                    "teacher it trains",
                    operation="transfer_optimizer",
                )
            states[record.new_name(name)] = {
                key: _carried(name, (key, value), parameter, (widened, shares))
                for key, value in optimizer.state.get(parameter, {}).items()
            }
            found.append(record.new_name(name))
        rest = {k: v for k, v in group.items() if k != "params"}
        groups.append({**rest, "params": found})
    known = {record.new_name(n) for n in names.values()}
    groups[0]["params"] += [n for n in ours if n not in known]
    return _made(optimizer, groups, ours, states)


def _made(
    optimizer: Optimizer,
    groups: list[dict[str, Any]],
    ours: dict[str, nn.Parameter],
    states: dict[str, dict[str, Any]],
) -> Optimizer:
    ready = [{**group, "params": [ours[n] for n in group["params"]]} for group in groups]
    settings = {k: v for k, v in optimizer.defaults.items() if k in _settings(optimizer)}
    result = type(optimizer)(ready, **settings)
    for name, state in states.items():
        if state:
            result.state[ours[name]] = {
                key: value.to(ours[name].device) if _sized(value) else value
                for key, value in state.items()
            }
    return result


def _settings(optimizer: Optimizer) -> set[str]:
    code = type(optimizer).__init__.__code__
    return set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def _sized(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _carried(
    name: str, entry: tuple[str, Any], parameter: Tensor, growth: tuple[Widened, Shares]
) -> Any:
    """Return one state of a parameter, widened as its gradient is."""
    key, value = entry
    if not _sized(value) or value.shape != parameter.shape:
        return value.clone() if isinstance(value, Tensor) else value
    if key not in POWERS:
        raise GrowthError(
            f"{name}: how the optimizer's state {key} follows the gradient is not known; known are "
            f"{', '.join(sorted(POWERS))}",
            group=name.rpartition(".")[0],
            operation="transfer_optimizer",
        )
    widened, shares = growth
    result = value.detach().cpu().double()
    unit = widened.analysis.roots["unit"]
    for axis, rows in widened.rows(name, tuple(value.shape)).items():
        real = rows.index >= 0
        codes = rows.codes.masked_fill(~real, 0)
        factor = shares.of(unit[ids_of(codes)], copies_of(codes)) ** POWERS[key] * real
        result = _times(result.index_select(axis, rows.index.clamp(min=0)), axis, factor)
    for (known, axis), columns in widened.columns.items():
        if known == name:
            known_columns = columns.index >= 0
            if shares.symmetry == "fresh":
                known_columns = known_columns & (columns.copies == 0)
            result = result.index_select(axis, columns.index.clamp(min=0))
            result = _times(result, axis, known_columns.double())
    return result.to(value.dtype).to(value.device)


def _times(values: Tensor, axis: int, factor: Tensor) -> Tensor:
    return values * factor.reshape([-1 if d == axis else 1 for d in range(values.ndim)])


__all__ = ["POWERS", "transfer_optimizer"]
