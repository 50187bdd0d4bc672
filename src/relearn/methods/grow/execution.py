"""Run a network's own forward on labels: every torch call is seen as it happens.

Nothing is traced beforehand: the forward of the network itself runs, on numbers that are all zero
and labels that travel beside them, and the layers that cost time are not computed. So every Python
construct works, and a decision taken by the value of an activation is caught where it is taken.
An operation without a rule freezes what it touches.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from relearn.methods.grow.escapes import Watch, without
from relearn.methods.grow.faults import DataDependentError
from relearn.methods.grow.labels import Label, Output, ParameterView, constant, ids_of, varying
from relearn.methods.grow.operations import CONSTANTS, DECISIONS, KEEPS, NUMBERS, SILENT
from relearn.methods.grow.rules import RULES, operation_name
from relearn.methods.grow.tape import Misfit, Site
from relearn.uncompiled import is_compiler_loaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from relearn.methods.grow.recorder import Recorder
    from relearn.methods.grow.replayer import Replayer

Value = TypeVar("Value")
_HERE = f"{Path(__file__).parent}/"
_TORCH = f"{Path(torch.__file__).parent}/"
_MARK = "_growth_label"
_MADE = "_growth_operation"


@dataclass(frozen=True)
class Call:
    """One call of a torch function.

    Attributes:
        func: The function.
        name: Its plain name, such as ``add`` for ``__iadd__``.
        args: What it got.
        kwargs: What it got by name.
    """

    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def value(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by position or name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def run(self) -> Any:
        """Return what the function itself returns."""
        return self.func(*self.args, **self.kwargs)


class Execution(TorchFunctionMode):
    """Sees each call, lets its rule work on the labels and notes them on the results.

    Args:
        journal: Records, or checks a widened run.
        model: The network that runs; its parameters and buffers are known by name.
    """

    def __init__(self, journal: Recorder | Replayer, model: nn.Module) -> None:
        super().__init__()
        self.journal = journal
        self.modules: list[str] = [""]
        named = [*model.named_parameters(), *model.named_buffers()]
        self.names = {id(t): n for n, t in named if t.is_floating_point()}
        self.spoilt: dict[str, tuple[Site, str]] = {}
        self.outputs: dict[str, Output] = {}
        self.met: set[str] = set()
        self.watch: Watch | None = None

    def run_model(self, model: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return what the network hands out while its labels are followed."""
        with _uncompiled(), torch.no_grad(), self, Watch(self) as self.watch:
            return model(*args, **kwargs)

    @property
    def module(self) -> str:
        """Name of the module whose forward runs."""
        return self.modules[-1]

    def leave(self, result: Any) -> None:
        """Note that the innermost module's forward has ended, and what it handed out."""
        name = self.modules.pop()
        label = self.label(result)
        if isinstance(label, Label):
            dims = varying(label.codes)
            axis = 1 if 1 in dims and len(dims) == 1 else label.codes.ndim - 1
            made_by = getattr(result, _MADE, None)
            calls = self.outputs[name].calls + 1 if name in self.outputs else 1
            self.outputs[name] = Output(tuple(label.codes.shape), axis, made_by, calls)

    def label(self, value: Any) -> Label | ParameterView | None:
        """Return what is known of a value: None for a plain constant."""
        if not isinstance(value, Tensor):
            return None
        known: Label | ParameterView | None = getattr(value, _MARK, None)
        if known is None and id(value) in self.names:
            self.met.add(self.names[id(value)])
            return ParameterView(self.names[id(value)])
        return known

    def input_label(self, value: Tensor) -> Label | ParameterView:
        """Return what is known of a layer's input; a plain constant has no channels."""
        return self.label(value) or constant(tuple(value.shape))

    def mark(self, result: Value, label: Label | ParameterView | None) -> Value:
        """Note a label on a result, which is returned."""
        if label is not None and isinstance(result, Tensor):
            setattr(result, _MARK, label)
        return result

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one torch function with its rule."""
        call = Call(func, operation_name(func), args, kwargs or {})
        if not any(self.label(t) for t in tensors(args, call.kwargs)):
            return call.run()
        watch, self.watch = self.watch, None
        try:
            return without(watch, lambda: self._followed(call))
        finally:
            self.watch = watch

    def _followed(self, call: Call) -> Any:
        """Run a call to which labels come, with its rule."""
        if call.name in SILENT or call.name in CONSTANTS:
            return call.run()
        if call.name in DECISIONS:
            return self._decide(call)
        rule = RULES.get(call.name)
        if rule is None and call.name.startswith("get "):
            told = call.run()
            if not isinstance(told, Tensor):
                return told
        site = self.journal.begin(call.name, self.module, line_of_caller())
        try:
            return self._ruled(site, call, rule)
        except Misfit:
            raise
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            if self.journal.replaying:
                raise Misfit(site, self.ids_in(call), f"fails on more channels: {error}") from error
            raise

    def _ruled(self, site: Site, call: Call, rule: Any) -> Any:
        if call.name in NUMBERS:
            self.journal.numbers(site, self._numbers(call), lambda: self.ids_in(call))
        target = call.args[0] if call.args and isinstance(call.args[0], Tensor) else None
        before = None if target is None else (target._version, self.label(target))
        result = self.unknown(site, call) if rule is None else rule(self, site, call)
        if before is not None and result is target and target._version > before[0]:
            self._changed(site, target, before[1])
        if isinstance(result, Tensor) and call.name not in KEEPS:
            bounds = (call.value(1, "min_val", -1.0), call.value(2, "max_val", 1.0))
            numbers = [float(b) if isinstance(b, (int, float)) else 0.0 for b in bounds]
            setattr(result, _MADE, (call.name, *numbers))
        return result

    def _decide(self, call: Call) -> Any:
        """Refuse to tell the value of an activation; parameters may be read."""
        if any(isinstance(self.label(t), Label) for t in tensors(call.args, call.kwargs)):
            line = line_of_caller()
            raise DataDependentError(
                f"{line}: the network decides by the value of an activation ({call.name}); what "
                "it does for other inputs cannot be followed, so it cannot be grown exactly",
                group=self.module,
                operation=f"{call.name} at {line}",
            )
        return call.run()

    def ids_in(self, call: Call) -> Tensor:
        """Return the codes of everything a call was given, flattened."""
        found = [self.label(t) for t in tensors(call.args, call.kwargs)]
        tape = self.journal.tape
        ids = [ids_of(torch.unique(k.codes)) for k in found if isinstance(k, Label)]
        for name in [k.name for k in found if isinstance(k, ParameterView)]:
            ids += [i for (known, _), i in tape.written.items() if known == name]
            ids += [tape.elements[name]] if name in tape.elements else []
        return torch.cat(ids) if ids else torch.zeros(0, dtype=torch.long)

    def unknown(self, site: Site, call: Call, reason: str = "") -> Any:
        """Run an operation that has no rule: everything it touches stays as it is."""
        reason = reason or f"{call.name} is not known to treat channels one by one"
        result = call.run()
        self._frozen(site, (call.args, call.kwargs), result, reason=reason)
        return result

    def escaped(self, name: str, given: tuple[Any, Any], result: Any) -> None:
        """Note an operation that no rule has seen, if channels are among what it was given.

        Args:
            name: Of the operation.
            given: Its arguments by place and by name.
            result: What it gave.
        """
        if any(self.label(t) for t in tensors(*given)):
            site = self.journal.begin(name, self.module, line_of_caller())
            self._frozen(site, given, result, reason="runs below what can be followed")

    def _frozen(self, site: Site, given: tuple[Any, Any], result: Any, *, reason: str) -> None:
        """Keep everything that an operation touches as it is."""
        for tensor in tensors(*given):
            known = self.label(tensor)
            if isinstance(known, Label):
                self.journal.freeze(site, known.codes, reason)
            elif isinstance(known, ParameterView):
                self.spoilt.setdefault(known.name, (site, reason))
        for tensor in tensors((result,), {}):
            self.mark(tensor, constant(tuple(tensor.shape)))

    def _numbers(self, call: Call) -> list[float]:
        """Return the numbers that a call computes with, which no channel carries."""
        given = [*call.args, *call.kwargs.values()]
        flat = [n for v in given for n in (v if isinstance(v, (list, tuple)) else [v])]
        plain = [n for n in flat if isinstance(n, (int, float))]
        single = [t for t in flat if isinstance(t, Tensor) and t.numel() == 1]
        return [float(n) for n in (*plain, *(t for t in single if self.label(t) is None))]

    def _changed(self, site: Site, target: Tensor, label: Label | ParameterView | None) -> None:
        """Note channels that are changed in place within a larger activation."""
        within = target._base is not None and target.numel() < target._base.numel()
        if within and isinstance(label, Label):
            self.journal.whole(site, label.codes)


def _uncompiled() -> Any:
    """Return a context in which compiled functions run as they were written."""
    if not is_compiler_loaded():  # loading it takes seconds; nothing is compiled without
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def tensors(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """Yield every tensor in arguments, in nested lists and dictionaries too.

    Args:
        args: Arguments by place.
        kwargs: Arguments by name.
    """
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value, {})
        elif isinstance(value, dict):
            yield from tensors((), value)


def line_of_caller() -> str:
    """Return file, line and function of the deepest frame that is neither torch's nor ours."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_HERE, _TORCH)):
            break
        frame = frame.f_back
    return f"{short(frame.f_code.co_filename)}:{frame.f_lineno} ({frame.f_code.co_name})"


def line_of_error(error: BaseException) -> str:
    """Return file, line and function of the deepest frame of an error outside torch and us."""
    found = [
        entry
        for entry in traceback.extract_tb(error.__traceback__)
        if not entry.filename.startswith((_HERE, _TORCH))
    ]
    if not found:
        return "the network's forward"
    return f"{short(found[-1].filename)}:{found[-1].lineno} ({found[-1].name})"


def first_line(error: Exception) -> str:
    """Return kind and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def short(path: str) -> str:
    """Return the last two parts of a path, which name a file without naming a machine."""
    return "/".join(Path(path).parts[-2:])
