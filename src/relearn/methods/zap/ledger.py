"""Doing what an arm does to its weights, and proving it: one ledger row a tensor and event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of, seed_of
from relearn.evaluation.records import Intervention
from relearn.methods.zap.policy import choose_rows
from relearn.methods.zap.reset import clear_moments, verify_reset, zap
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from relearn.methods.zap.arms import Arm
    from relearn.methods.zap.config import ShamConfig
    from relearn.methods.zap.policy import Due
    from relearn.models.heads import Head


class Changer:
    """Changes the weights of one arm when its policy says so, and keeps the ledger.

    Args:
        arm: What is done.
        seed: Seed of the pair; every change draws from a door of its own.
        architecture: For the fresh net of shrink-and-perturb.
        sham: Factors of shrink-and-perturb.
    """

    def __init__(
        self, arm: Arm, *, seed: int, architecture: Architecture, sham: ShamConfig
    ) -> None:
        self.arm, self.seed, self.architecture, self.sham = arm, seed, architecture, sham
        self.interventions: list[Intervention] = []
        self.last_step = -1

    def change(
        self,
        model: nn.Module,
        head: Head,
        optimizer: Optimizer,
        *,
        due: Due,
        step: int,
        epoch: int,
        sampled: int | None = None,
    ) -> Tensor:
        """Do the arm's change now and return the rows of the last layer it touched.

        Args:
            model: The whole net.
            head: Its last layer.
            optimizer: The optimizer that trains it.
            due: Why, and the share of rows.
            step: Optimizer steps done.
            epoch: Epochs or episodes done.
            sampled: Class of the episode, for ``rows: sampled_class``.
        """
        draw_seed = seed_of(self.seed, f"zap.{step}.{epoch}")
        rows = self._rows(head.module.weight.shape[0], due.share, draw_seed, sampled)
        row = {
            "method": "zap",
            "arm": self.arm.name,
            "seed": self.seed,
            "step": step,
            "epoch": epoch,
            "trigger": due.trigger,
            "draw_seed": draw_seed,
        }
        if self.arm.change == "shrink_and_perturb":
            self.interventions.append(self._shrink(model, row))
        elif self.arm.change == "moments":
            self._clear(head, optimizer, rows, row)
        else:
            self._zap(head, optimizer, rows, row)
        self.last_step = step
        return rows

    def _rows(self, total: int, share: float, draw_seed: int, sampled: int | None) -> Tensor:
        if self.arm.policy.rows == "sampled_class" and sampled is not None:
            return torch.tensor([sampled])
        return choose_rows(total, share, generator_of(draw_seed, "rows"))

    def _zap(self, head: Head, optimizer: Optimizer, rows: Tensor, row: dict[str, Any]) -> None:
        reset = self.arm.reset
        entry = zap(
            head.module,
            rows=rows,
            initialisation=reset.initialisation,
            std=reset.std,
            reset_bias=reset.reset_bias,
            row=row | {"target": f"{head.name}.weight"},
        )
        self.interventions.append(entry)
        if reset.reset_moments:
            self._clear(head, optimizer, rows, row)

    def _clear(self, head: Head, optimizer: Optimizer, rows: Tensor, row: dict[str, Any]) -> None:
        weight = head.module.weight
        before = _moments(optimizer, weight, rows)
        for parameter in head.module.parameters():
            clear_moments(optimizer, parameter, rows)
        after = _moments(optimizer, weight, rows)
        self.interventions.append(
            Intervention(
                kind="clear_moments",
                target=f"{head.name}.weight",
                rows=len(rows),
                before_digest=digest_tensors({"moments": before}),
                after_digest=digest_tensors({"moments": after}),
                before_norm=float(before.norm()),
                after_norm=float(after.norm()),
                details={"shape": list(after.shape)},
                **row,
            )
        )

    @torch.no_grad()
    def _shrink(self, model: nn.Module, row: dict[str, Any]) -> Intervention:
        fresh = build_fresh(self.architecture, seed=row["draw_seed"])
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        pairs = zip(model.parameters(), fresh.parameters(), strict=True)
        for parameter, new in pairs:
            parameter.mul_(self.sham.shrink).add_(new.to(parameter), alpha=self.sham.perturb)
        return Intervention(
            kind="shrink_and_perturb",
            target="*",
            rows=len(before),
            before_digest=digest_tensors(before),
            after_digest=digest_tensors({n: p.detach() for n, p in fresh.named_parameters()}),
            before_norm=_norm(before),
            after_norm=_norm(dict(model.named_parameters())),
            details={"shrink": self.sham.shrink, "perturb": self.sham.perturb},
            **row,
        )


def verify(entry: Intervention, architecture: Architecture) -> bool:
    """Return whether a ledger row can be made again from what it says.

    ``reset_last_layer``: the values drawn again from its seed have the recorded digest.
    ``clear_moments``: zeros of the recorded shape have it. ``shrink_and_perturb``: the fresh net
    drawn again from its seed has it (the row records the digest of what was mixed in).

    Args:
        entry: A row of the ledger.
        architecture: Architecture of the arm's checkpoint.
    """
    if entry.kind == "reset_last_layer":
        return verify_reset(entry)
    if entry.kind == "clear_moments":
        zeros = torch.zeros(entry.details["shape"])
        return digest_tensors({"moments": zeros}) == entry.after_digest
    if entry.kind == "shrink_and_perturb":
        fresh = build_fresh(architecture, seed=entry.draw_seed)
        found = digest_tensors({n: p.detach() for n, p in fresh.named_parameters()})
        return found == entry.after_digest
    return False


def _moments(optimizer: Optimizer, parameter: nn.Parameter, rows: Tensor) -> Tensor:
    """Return the moments of the given rows, float32, shape (moments, rows, features)."""
    state = optimizer.state.get(parameter, {})
    found = [
        value[rows.to(value.device)].float().cpu()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape
    ]
    return torch.stack(found) if found else torch.zeros(0, len(rows), parameter.shape[1])


def _norm(tensors: dict[str, Any]) -> float:
    return float(torch.nn.utils.get_total_norm(list(tensors.values())))
